"""Metrics over seeds."""

from amae.commands import parameters as p
from amae.evaluation import tables
from amae.runtime.files import write_csv


def summarise_metrics(*, scores_of_seeds: p.ScoresOfSeeds, table: p.Table) -> None:
    """Mean, spread over seeds and interval over images of every score."""
    write_csv(tables.summarise([tables.labelled_scores(path) for path in scores_of_seeds]), table)
