"""Figure 3c."""

from amae.commands import parameters as p
from amae.evaluation.results import paired_tests
from amae.evaluation.rows import replicates_of_rows, scores_of_rows
from amae.figures import sweep
from amae.runtime.errors import naming


def plot_comparison(
    *, manifest: p.Manifest, index: p.Index, methods: p.Methods, reference: p.Reference, figure: p.Figure
) -> None:
    """Plot AUC of methods with tests against one of them."""
    rows = scores_of_rows(methods, manifest, index)
    replicates, paired = replicates_of_rows(rows), paired_tests(rows, reference)
    with naming("--reference"):
        sweep.plot_comparison(replicates, figure, reference, {method: p for (method, _), p in paired.items()})
