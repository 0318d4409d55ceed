"""Curves of every score."""

from amae.commands import parameters as p
from amae.evaluation.tables import labelled_scores
from amae.figures.curves import plot_precision_recall, plot_roc


def plot_scores(
    *,
    scores_of_seeds: p.ScoresOfSeeds,
    roc: p.file("ROC curves to write (.png)"),
    precision_recall: p.file("precision-recall curves to write (.png)"),
) -> None:
    """Plot ROC and precision-recall curves of every score, all seeds."""
    scores = [labelled_scores(path) for path in scores_of_seeds]
    plot_roc(scores, roc)
    plot_precision_recall(scores, precision_recall)
