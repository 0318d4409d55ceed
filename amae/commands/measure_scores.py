"""Metrics of several methods."""

from amae.commands import parameters as p
from amae.evaluation import tables
from amae.runtime.errors import naming
from amae.runtime.files import write_csv


def measure_scores(
    *, manifest: p.Manifest, index: p.Index, score_tables: p.ScoreTables, metrics: p.Metrics, seed: p.Seed = 0
) -> None:
    """Compute the metrics of several tables of scores; a score is named by its table's folder: ddad_Y/ddad_inter."""
    images = tables.tested_images(manifest, index)
    scores = tables.join_scores(images[images["label"] != ""], score_tables)
    with naming(manifest):
        measured = tables.metrics_of_scores(scores, seed)
    write_csv(measured, metrics)
