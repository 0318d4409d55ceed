"""Columns of a person's table by their names, however these are spelt."""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.runtime.files import line_numbers

ALIASES = {"viewposition": "view", "patientsex": "sex", "patientage": "age"}  # DICOM's keywords
NEAR = 0.75  # similarity (difflib) from which a name may be meant for another


def find_columns(table: pd.DataFrame, known: Sequence[str], path: str | Path, report: bool = True) -> pd.DataFrame:
    """The table with `known` columns under their own names: case, spaces, hyphens and underscores make no difference,
    and DICOM's keywords stand for view, sex and age where no column has that name.

    With `report` one line each to stderr names a renamed column and one that resembles a missing one, and one line the
    others. Raises InputError for two columns of one name.
    """
    names = {_plain(name): name for name in known}
    plain = {column: _plain(_unnumbered(column, table)) for column in table}
    given = list(plain.values())
    names |= {k: name for k, name in ALIASES.items() if name in names and name not in given and given.count(k) == 1}
    found = {column: names.get(plain[column], column) for column in table}
    for name in known:
        same = [repr(_unnumbered(column, table)) for column in table if found[column] == name]
        if len(same) > 1:
            raise InputError(f"{path}: the columns {' and '.join(same)} are both {name}; expected one of that name")
    if report:
        _report(found, known, path)
        _report_line_breaks(table, path)
    return table.rename(columns=found)


def _report_line_breaks(table: pd.DataFrame, path: str | Path) -> None:
    """A line where cells contain line breaks: a stray quotation mark makes one cell of many rows."""
    rows = table.apply(lambda column: column.str.contains("\n")).any(axis=1)
    if len(table) and rows.any():
        first = line_numbers(path)[int(rows.to_numpy().argmax())]
        print(
            f"{path}: {int(rows.sum())} rows contain line breaks, the first begins in line {first}; where that is not "
            "meant, a quotation mark is missing, or there is one too many",
            file=sys.stderr,
        )


def _plain(column: str) -> str:
    return re.sub(r"[\s_\-\ufeff]", "", column).lower()


def _unnumbered(column: str, table: pd.DataFrame) -> str:
    """The name that stands in the file; pandas numbers the second of two that are the same."""
    name, _, number = column.rpartition(".")
    return name if number.isdigit() and name in table else column


def _report(found: dict[str, str], known: Sequence[str], path: str | Path) -> None:
    missing = {_plain(name): name for name in known if name not in found.values()}
    others = [column for column, name in found.items() if name not in known]
    lines = [f"column {column!r} is read as {name}" for column, name in found.items() if column != name]
    for column in others:
        for near in difflib.get_close_matches(_plain(column), missing, n=1, cutoff=NEAR):
            lines.append(f"column {column!r} is not read as {missing[near]}; rename it if that is meant")
    if others:
        lines.append(f"further columns, which no step needs: {', '.join(others)}")
    for line in lines:
        print(f"{path}: {line}", file=sys.stderr)
