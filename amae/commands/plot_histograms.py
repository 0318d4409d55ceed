"""Histograms of every score."""

from amae.commands import parameters as p
from amae.evaluation.tables import labelled_scores
from amae.figures import distributions


def plot_histograms(*, scores: p.Scores, figure: p.Figure) -> None:
    """Plot the scores of normal and abnormal test images."""
    distributions.plot_histograms(labelled_scores(scores), figure)
