"""Models on the test images of other data sets."""

from typing import Annotated, Any

import pandas as pd

from amae.commands import parameters as p
from amae.evaluation.results import write_markdown
from amae.evaluation.rows import parse_json, paths_of
from amae.evaluation.tables import labelled_scores, summarise
from amae.runtime.errors import InputError
from amae.runtime.files import write_csv

CAPTION = (
    "AUC in percent, mean over seeds [95 % bootstrap interval of that mean over test images]: models trained on the "
    "data set of a row, on the test images of the data set of a column, read as the model reads images. Images that "
    "two data sets share are not looked for."
)
KEYS = {"trained", "tested", "scores"}


def tabulate_transfer(
    *,
    evaluations: Annotated[str, p.meaning("scores by amae evaluate, as a JSON list: trained, tested, scores (files)")],
    table: p.Table,
    markdown: p.Markdown,
) -> None:
    """Models trained on one data set and tested on another, as CSV and as a matrix in Markdown."""
    pairs = parse_json(evaluations, "--evaluations", list)
    if not pairs:
        raise InputError("--evaluations: no pair of data sets given")
    found = pd.concat([_measured(pair) for pair in pairs], ignore_index=True)
    write_csv(found, table)
    write_markdown(_matrix(found[found["group"] == "all"]), markdown, CAPTION)


def _measured(about: Any) -> pd.DataFrame:
    """The rows of `summarise` for one pair of data sets."""
    if not isinstance(about, dict) or set(about) != KEYS:
        raise InputError(f"--evaluations: {about}; expected the keys trained, tested and scores (a list of files)")
    tables = [labelled_scores(path) for path in paths_of(about["scores"], "--evaluations")]
    measured = summarise(tables)
    measured.insert(0, "trained", about["trained"])
    measured.insert(1, "tested", about["tested"])
    return measured


def _matrix(found: pd.DataFrame) -> pd.DataFrame:
    """AUC as text: a row for each score and data set of training, a column for each data set of test."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    order = list(found["score"].unique())
    for each in sorted(found.to_dict("records"), key=lambda each: order.index(each["score"])):
        mean, low, high = (100 * each[f"auc_{name}"] for name in ("mean", "low", "high"))
        row = rows.setdefault((each["score"], each["trained"]), {"Score": each["score"], "Trained on": each["trained"]})
        row[f"tested on {each['tested']}"] = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    return pd.DataFrame(rows.values()).fillna("")
