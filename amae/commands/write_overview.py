"""The first page of the report."""

from pathlib import Path
from typing import Annotated

from amae.commands import parameters as p
from amae.evaluation.rows import parse_json
from amae.figures.report import write_first_page
from amae.runtime.errors import InputError
from amae.runtime.files import read_csv, read_record
from amae.runtime.provenance import code_revision, versions
from amae.runtime.records import edited_files

COLUMNS = [f"{metric}_{part}" for metric in ("auc", "ap") for part in ("mean", "low", "high", "spread")]


def write_overview(
    *,
    summary: p.file("metrics over seeds (.csv)"),
    training_records: Annotated[list[Path], p.meaning("records of the trainings (.json)")],
    dataset: p.DatasetName,
    settings: Annotated[str, p.meaning("settings to name: a JSON object of texts")],
    page: p.Page,
) -> None:
    """Write the headline figures of a data set, and the code, versions and settings that they were made with."""
    table = read_csv(summary, ["score", "group", "normal", "abnormal", *COLUMNS])
    if table[table["group"] == "all"].empty:
        raise InputError(f"{summary}: found no row of group all, expected one for each score")
    made = [read_record(path) for path in training_records]
    commits = sorted({_commit(record.get("code")) for record in made})
    about = parse_json(settings, "--settings", dict) | {
        "trained by": "; ".join(commits),
        "first training": min(str(record.get("started", "not recorded")) for record in made),
        "page made by": _commit((code_revision() or {}) | edited_files()),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items() if version),
    }
    write_first_page(dataset, table, about, page)


def _commit(code: dict | None) -> str:
    """The commit, and the first files that differed from it."""
    if not code or "commit" not in code:
        return "code of no git commit"
    if not code["dirty"]:
        return f"commit {code['commit']}"
    names = code.get("edited", [])
    edited = f"{code['edited_count']} edited files: {', '.join(names[:3])}{' ...' * (len(names) > 3)}" if names else ""
    return f"commit {code['commit']}, with {edited or 'edits that are not committed'}"
