"""Pages of the report: a table to read, and the first page. Parts of HTML, which load nothing."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from amae.figures.style import score_name
from amae.runtime.files import atomic

HEADLINE = {"auc": "AUC", "ap": "average precision"}
NUMBER = '<td class="number">'
STYLE = """
.amae {font: 13px/1.4 sans-serif; color: #222; overflow-x: auto}
.amae table {border-collapse: collapse; margin: .5em 0}
.amae th, .amae td {padding: .2em .6em; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top}
.amae thead th {position: sticky; top: 0; background: #f3f3f3}
.amae td.number {text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap}
"""


def write_table_page(table: pd.DataFrame, name: str, path: str | Path) -> None:
    """Write a table (every cell as text) as a page; numbers with four digits, all digits in the file to download."""
    data = base64.b64encode(table.to_csv(index=False).encode()).decode()
    link = f'<p><a download="{escape(name)}" href="data:text/csv;base64,{data}">{escape(name)}</a>, with all digits</p>'
    _write(f"{_table(table.map(_rounded))}{link}", path)


def write_first_page(dataset: str, summary: pd.DataFrame, about: Mapping[str, str], path: str | Path) -> None:
    """Write the headline figures of a data set and what they were made with.

    summary: as `summarise-metrics` makes it, every cell as text. about: lines of the second table, by heading.
    """
    whole = summary[summary["group"] == "all"]
    shown = pd.DataFrame({"score": whole["score"].map(score_name)})
    for metric, name in HEADLINE.items():
        cells = whole[[f"{metric}_mean", f"{metric}_low", f"{metric}_high", f"{metric}_spread"]].itertuples(index=False)
        shown[name] = [_with_interval(*row) for row in cells]
    counts = whole[["normal", "abnormal"]].iloc[0]
    text = (
        f"Test images: {counts['normal']} normal, {counts['abnormal']} abnormal. In brackets: 95 % bootstrap interval "
        "over images; ±: 1.96 sd over seeds."
    )
    made = pd.DataFrame(about.items(), columns=["made with", ""])
    _write(f"<h2>{escape(dataset)}</h2>{_table(shown)}<p>{text}</p>{_table(made, '<td>')}", path)


def _with_interval(mean: str, low: str, high: str, spread: str) -> str:
    between = f"{float(mean):.3f} ({float(low):.3f} to {float(high):.3f})"
    return f"{between} ± {float(spread):.3f}" if spread else between


def _table(table: pd.DataFrame, number: str = NUMBER) -> str:
    """A table in HTML; `number` begins a cell that contains one."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in table)
    rows = "".join(f"<tr>{''.join(_cell(each, number) for each in row)}</tr>" for row in table.itertuples(index=False))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: str, number: str) -> str:
    return f"{number if _is_number(value) else '<td>'}{escape(value)}</td>"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _rounded(value: str) -> str:
    if "." not in value or not _is_number(value):
        return value
    return f"{float(value):.0f}" if 9999.5 <= abs(float(value)) < 1e15 else f"{float(value):.4g}"


def _write(body: str, path: str | Path) -> None:
    with atomic(path) as temporary:
        text = f'<meta charset="utf-8"><style>{STYLE}</style><div class="amae">{body}</div>\n'
        temporary.write_text(text, encoding="utf-8")
