"""Figure 3a."""

from amae.commands import parameters as p
from amae.evaluation.rows import replicates_of_rows, scores_of_rows
from amae.figures import sweep
from amae.runtime.files import read_csv


def plot_sweep(
    *, published: p.Published, manifest: p.Manifest, index: p.Index, methods: p.Methods, kind: p.Kind, figure: p.Figure
) -> None:
    """Plot AUC against the anomaly ratio, with what was printed."""
    frame = replicates_of_rows(scores_of_rows(methods, manifest, index))
    printed = read_csv(published)
    chosen = (printed["dataset"] == kind) & (printed["metric"] == "auc")
    sweep.plot_sweep(frame, figure, printed[chosen & printed["method"].isin(frame["method"])])
