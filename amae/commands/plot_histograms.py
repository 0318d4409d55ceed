"""Histograms of every score, and what they find at one specificity."""

from amae.commands import parameters as p
from amae.evaluation.tables import labelled_scores, tested_images
from amae.figures import distributions
from amae.predict.calibration import require_specificity
from amae.runtime.errors import naming


def plot_histograms(
    *,
    manifest: p.Manifest,
    index: p.Index,
    scores: p.Scores,
    figure: p.Figure,
    sensitivity: p.file("picture of the sensitivity by finding to write (.png)"),
    specificity: p.Specificity = 0.95,
) -> None:
    """Plot the scores of normal and abnormal test images, and the sensitivity of each by finding."""
    require_specificity(specificity)
    table = labelled_scores(scores)
    about = tested_images(manifest, index, "finding").drop(columns=["label", "view"])
    distributions.plot_histograms(table, figure, specificity)
    with naming(scores):
        distributions.plot_sensitivity(table.merge(about, on="image_id", how="left"), sensitivity, specificity)
