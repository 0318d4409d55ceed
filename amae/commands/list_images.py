"""Every image of a data set, so that each is converted once."""

from pathlib import Path

from amae.commands import parameters as p
from amae.data.manifest import list_candidates
from amae.runtime.files import write_csv
from amae.settings import PublishedSet
from amae.sources.published import published_table


def list_images(
    *,
    image_table: p.ImageTable,
    candidates: p.Candidates,
    root: p.Root = None,
    splits: p.Splits = None,
    source: PublishedSet | None = None,
) -> None:
    """List every image that a data set uses at any anomaly ratio."""
    if source:
        images, _ = published_table(source, splits, every_ratio=True)
        write_csv(images, image_table)
        root = Path()  # its paths are whole
    list_candidates(image_table, root, candidates, splits)
