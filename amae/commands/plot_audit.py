"""The audit as a figure."""

from amae.commands import parameters as p
from amae.figures import dots
from amae.runtime.errors import naming
from amae.runtime.files import read_csv


def plot_audit(*, audit: p.file("table of an audit (.csv)"), figure: p.Figure) -> None:
    """Plot the AUC of every method with its interval, and the strongest shortcuts as lines."""
    table = read_csv(audit, ["score", "group", "auc", "auc_low", "auc_high"])
    with naming(audit):
        dots.plot_audit(table.replace("", float("nan")), figure)
