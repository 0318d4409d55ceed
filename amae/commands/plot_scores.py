"""Curves of every score."""

from amae.commands import parameters as p
from amae.evaluation.tables import labelled_scores
from amae.figures.curves import plot_precision_recall, plot_roc
from amae.runtime.errors import InputError


def plot_scores(
    *,
    scores_of_seeds: p.ScoresOfSeeds,
    seeds: p.Seeds,
    roc: p.file("ROC curves to write (.png)"),
    precision_recall: p.file("precision-recall curves to write (.png)"),
) -> None:
    """Plot ROC and precision-recall curves of every score, all seeds."""
    if len(set(seeds)) != len(scores_of_seeds):
        found, count = " ".join(map(str, seeds)), len(scores_of_seeds)
        raise InputError(f"--seeds: found {found}, expected a seed of its own for each of {count} tables")
    scores = {seed: labelled_scores(path) for seed, path in zip(seeds, scores_of_seeds, strict=True)}
    plot_roc(scores, roc)
    plot_precision_recall(scores, precision_recall)
