"""A table of results."""

from typing import Annotated

from amae.commands import parameters as p
from amae.evaluation import results
from amae.evaluation.rows import replicates_of_rows, scores_of_rows
from amae.runtime.errors import naming
from amae.runtime.files import read_csv, write_csv


def tabulate_results(
    *,
    published: p.Published,
    manifest: p.Manifest,
    index: p.Index,
    methods: p.Methods,
    dataset: p.DatasetName,
    kind: p.Kind,
    reference: p.Reference,
    table: p.Table,
    markdown: p.Markdown,
    latex: p.Latex,
    anomaly_ratio: p.AnomalyRatio = None,
    every_printed: Annotated[bool, p.meaning("also list methods that were only printed")] = False,
    caveats: p.Caveats = "",
) -> None:
    """Methods beside what the papers print, as CSV, Markdown and LaTeX."""
    rows, printed = scores_of_rows(methods, manifest, index), read_csv(published)
    replicates = replicates_of_rows(rows)
    with naming("--methods"):
        paired = results.paired_tests(rows, reference)
        found = results.results_table(replicates, printed, kind, anomaly_ratio, reference, paired=paired)
    if every_printed:
        found = results.add_printed_only(found, printed, kind, anomaly_ratio)
    write_csv(found, table)
    text = results.readable(found)
    caption = _caption(dataset, anomaly_ratio, results.references(found), set(text), caveats)
    results.write_markdown(text, markdown, caption)
    results.write_latex(text, latex, caption, f"tab:results-{dataset}")


def _caption(dataset: str, anomaly_ratio: float | None, references: list[str], columns: set[str], caveats: str) -> str:
    """Sentences above a table of results with these columns; `references`: what the tests are against."""
    ratio = "" if anomaly_ratio is None else f", anomaly ratio {anomaly_ratio}"
    has_printed = any(column.endswith(" printed") for column in columns)
    printed = ", the printed value and the difference to it" if has_printed else ""
    caption = (
        f"{dataset}: AUC and average precision in percent, mean ± 1.96 sd over seeds, [95 % bootstrap interval "
        f"of that mean over test images]{printed}. Protocol N: trained on normal images only; Y: normal and unlabeled "
        f"images{ratio}."
    )
    tests = {
        "AUC Welch": "Welch test over seeds",
        "AUC DeLong": "DeLong test of the AUC averaged over seeds, over the test images, which both methods share",
    }
    if shown := [test for column, test in tests.items() if column in columns]:
        against = references[0] if len(references) == 1 else "the method that each row names"
        caption += (
            f" Tests against {against}, two-sided: {'; '.join(shown)}. ns p > 0.05, ** p ≤ 0.05, *** p ≤ 0.01, "
            "smaller p as it is; p is not corrected for the number of tests."
        )
    return f"{caption} {caveats}".rstrip()
