"""Lung masks."""

from amae.commands import parameters as p
from amae.data import lungs as masks
from amae.figures.lung_outlines import draw_outlines


def segment_lungs(
    *,
    lung_images: p.LungImages,
    index: p.Index,
    lungs: p.Lungs,
    lungs_table: p.LungsTable,
    sheet: p.Sheet,
    workers: p.Workers = 1,
    shard: p.Shard = None,
) -> None:
    """Find the lungs of every image."""
    masks.segment_lungs(lung_images, index, lungs, lungs_table, workers, shard)
    if not shard:
        draw_outlines(lung_images, index, lungs, lungs_table, sheet)
