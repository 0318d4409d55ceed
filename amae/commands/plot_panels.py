"""Figure 3b."""

from amae.commands import parameters as p
from amae.evaluation.results import printed_value
from amae.evaluation.rows import scores_of_rows
from amae.figures import sweep
from amae.runtime.files import read_csv


def plot_panels(
    *,
    published: p.Published,
    manifest: p.Manifest,
    index: p.Index,
    methods: p.Methods,
    kind: p.Kind,
    figure: p.Figure,
    anomaly_ratio: p.AnomalyRatio = None,
) -> None:
    """Plot histograms of a score of several methods, all seeds, with the chi-square distance that was printed."""
    values, panels, printed = read_csv(published), {}, {}
    for about, tables in scores_of_rows(methods, manifest, index):
        title, column = about["method"], about["score"].rpartition("/")[2]
        panels[title] = [table.rename(columns={about["score"]: column}) for table in tables]
        printed[title] = printed_value(values, about, kind, "chi2", anomaly_ratio)[0]
    sweep.plot_histogram_panels(panels, column, figure, printed)
