"""Tables and maps in, PNG files out: the same input gives the same bytes."""

from amae.figures.curves import plot_precision_recall, plot_roc, plot_training
from amae.figures.distributions import plot_histograms, plot_pseudo_labels
from amae.figures.gallery import choose_examples, plot_gallery, title_rows

__all__ = [
    "choose_examples",
    "plot_gallery",
    "plot_histograms",
    "plot_precision_recall",
    "plot_pseudo_labels",
    "plot_roc",
    "plot_training",
    "title_rows",
]
