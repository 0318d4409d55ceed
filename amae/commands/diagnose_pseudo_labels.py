"""Pseudo-labels held against the hidden labels, after the fact."""

from amae.commands import parameters as p
from amae.evaluation import tables
from amae.figures.distributions import plot_pseudo_labels
from amae.runtime.errors import naming
from amae.runtime.files import read_csv, write_csv

COLUMNS = ["image_id", "p_normal", "p_abnormal", "predicted", "threshold", "kept", "pseudo_label"]


def diagnose_pseudo_labels(
    *, labels: p.Labels, hidden_labels: p.HiddenLabels, table: p.Table, figure: p.Figure
) -> None:
    """Purity and counts of the pseudo-labels, by the hidden labels."""
    pseudo = read_csv(labels, COLUMNS)
    hidden = read_csv(hidden_labels, ["image_id", "label"])
    with naming(hidden_labels):
        diagnosis = tables.diagnose_pseudo_labels(pseudo, hidden)
    write_csv(diagnosis, table)
    plot_pseudo_labels(pseudo, hidden, figure)
