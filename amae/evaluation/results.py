"""Tables for a paper: methods with their spread over replicates, beside what was printed, and what they cost.

Numbers are in the printed unit: AUC and average precision in percent, chi-square distance as it is.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.evaluation.metrics import bootstrap_interval, chi_square_distance
from amae.evaluation.statistics import delong_test, mean_and_spread, stars, welch_test
from amae.evaluation.tables import RANKING, is_abnormal, score_columns, stack_scores
from amae.runtime.errors import InputError
from amae.runtime.files import atomic

METRICS = {"auc": ("AUC, %", 100), "ap": ("AP, %", 100), "chi2": ("χ²", 1)}  # heading, factor to the printed unit
METHOD = ["method", "protocol", "taxonomy"]  # protocol N: T_n only; Y: T_n and T_u
MAIN_SOURCE = "AMAE Table 2"
MINUS = "\N{MINUS SIGN}"

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"±": r"$\pm$", MINUS: "$-$", "χ²": r"$\chi^2$", "μ": r"$\mu$", "≤": r"$\leq$", "≥": r"$\geq$"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "²": r"$^2$", "[": "{[}", "]": "{]}"},
}


def replicates_of(
    tables: Sequence[pd.DataFrame], score: str, method: str, protocol: str, taxonomy: str, note: str = ""
) -> pd.DataFrame:
    """The rows of one method for `results_table`, from one table for each seed: image_id, label and `score`.

    Raises InputError where a table does not contain the score.
    """
    for table in tables:
        if score not in table:
            raise InputError(
                f"method {method!r}: no score {score!r} in its tables; they contain {', '.join(score_columns(table))}"
            )
    labels = is_abnormal(tables[0])
    values = stack_scores([table[["image_id", "label", score]] for table in tables])[score]
    rows = pd.DataFrame({"method": method, "protocol": protocol, "taxonomy": taxonomy, "seed": range(len(values))})
    for name, metric in RANKING.items():
        low, high = bootstrap_interval(labels, values, metric)
        each = [metric(labels, of_seed) for of_seed in values]
        rows = rows.assign(**{name: each, f"{name}_low": low, f"{name}_high": high})
    chi2 = [chi_square_distance(of_seed[labels == 0], of_seed[labels == 1]) for of_seed in values]
    return rows.assign(chi2=chi2, note=note)


def paired_tests(
    rows: Sequence[tuple[Mapping[str, Any], Sequence[pd.DataFrame]]], reference: str
) -> dict[tuple[str, str], float]:
    """p of the DeLong test of each method's AUC against the reference's on the same images, by method and protocol.

    Empty, with a line to stderr, where a class has fewer than two images.
    rows: as `evaluation.rows.scores_of_rows` gives them, all with the same images in one order. The AUC of a method is
    its mean over seeds. The reference is the row's own where it names one, that under the same protocol where it has
    two, and not tested itself.
    """
    normal, abnormal = np.bincount(is_abnormal(rows[0][1][0]), minlength=2)
    if min(normal, abnormal) < 2:
        needed = "the DeLong test needs at least two test images of each class"
        print(f"{needed}, found {normal} normal and {abnormal} abnormal: left out", file=sys.stderr)
        return {}
    found = {(about["method"], about["protocol"]): (about["score"], tables) for about, tables in rows}
    scores = {name: stack_scores(tables)[score] for name, (score, tables) in found.items()}
    labels, tests = is_abnormal(rows[0][1][0]), {}
    for about, _ in rows:
        method, protocol, against = about["method"], about["protocol"], about.get("reference", reference)
        protocols = [protocol for name, protocol in scores if name == against]
        beside = protocols[0] if len(protocols) == 1 else protocol
        if method != against and beside in protocols:
            tests[method, protocol] = delong_test(labels, scores[method, protocol], scores[against, beside])[1]
    return tests


def results_table(
    replicates: pd.DataFrame,
    published: pd.DataFrame,
    dataset: str,
    anomaly_ratio: float | None,
    reference: str | None = None,
    metrics: Sequence[str] = ("auc", "ap"),
    paired: Mapping[tuple[str, str], float] | None = None,
) -> pd.DataFrame:
    """One row per method, in the order of `replicates`, beside the figure that was printed for it.

    replicates: one row per method and seed: method, protocol, taxonomy, seed, for each metric its value (fraction), and
    for auc and ap _low and _high, the interval of the method's mean on each of its rows; optional: note, and
    reference, the method that this one is tested against where it is not "", instead of the argument's. published:
    source, method, protocol, taxonomy, dataset, metric, anomaly_ratio, value (percent, chi2 as it is); optional: note.
    Columns out: method, protocol, taxonomy, seeds; for each metric m: m (mean), m_spread (1.96 x sample standard
    deviation over seeds, empty for one), m_low and m_high (bootstrap interval of the mean over images), m_rank (1 =
    highest), m_printed, m_difference (ours minus printed) and, with a `reference` method of two or more seeds,
    m_welch_p and m_welch_stars (Welch test against it, under the same protocol where it has two), and with `paired`,
    the result of `paired_tests`, auc_delong_p and auc_delong_stars; reference (the method that this one was tested
    against, "" for that itself); notes.
    Raises InputError where a method appears twice with a protocol and seed, or the reference is missing.
    """
    replicates = _check(replicates, metrics, reference)
    rows = []
    for keys, part in replicates.groupby(METHOD, sort=False):
        row = dict(zip(METHOD, keys, strict=True)) | {"seeds": len(part)}
        notes = list(dict.fromkeys(part["note"])) if "note" in part else []
        against = _own_reference(part) or reference
        for metric in metrics:
            row |= _summary(part, metric)
            printed, printed_notes = printed_value(published, row, dataset, metric, anomaly_ratio)
            row |= {f"{metric}_printed": printed, f"{metric}_difference": row[metric] - printed}
            notes += printed_notes
            if against is not None:
                of_reference = replicates[replicates["method"] == against]
                row |= _against(part, _same_protocol(of_reference, row), metric)
            if metric == "auc" and paired is not None:
                p = paired.get((row["method"], row["protocol"]))
                row |= {"auc_delong_p": p, "auc_delong_stars": "" if p is None else stars(p)}
        if against is not None:
            row["reference"] = "" if row["method"] == against else against
        rows.append(row | {"notes": "; ".join(note for note in dict.fromkeys(notes) if note)})
    table = pd.DataFrame(rows)
    for metric in metrics:
        place = table.columns.get_loc(f"{metric}_printed")
        table.insert(place, f"{metric}_rank", table[metric].rank(ascending=False, method="min").astype("Int64"))
    return table.astype({"seeds": "Int64"})  # counts, which may be missing


def add_printed_only(
    table: pd.DataFrame, published: pd.DataFrame, dataset: str, anomaly_ratio: float | None
) -> pd.DataFrame:
    """`results_table`, and below it the methods that were printed for the data set and that it lacks, without measured
    values. Arguments as there."""
    measured = set(zip(table["method"], table["protocol"], strict=True))
    printed = published.loc[published["dataset"] == dataset, METHOD].drop_duplicates()
    rows = []
    for row in printed.to_dict("records"):
        found = {metric: printed_value(published, row, dataset, metric, anomaly_ratio) for metric in RANKING}
        if (row["method"], row["protocol"]) in measured or all(np.isnan(value) for value, _ in found.values()):
            continue
        notes = ["printed only, not measured here", *(note for _, of_metric in found.values() for note in of_metric)]
        row |= {f"{metric}_printed": value for metric, (value, _) in found.items()}
        rows.append(row | {"notes": "; ".join(note for note in dict.fromkeys(notes) if note)})
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if rows else table


def readable(table: pd.DataFrame, metrics: Sequence[str] = ("auc", "ap")) -> pd.DataFrame:
    """`results_table` as text, one cell per metric: 86.8 ± 0.4 [85.1, 88.3], then printed, difference, tests, rank.

    Without any printed value of a metric its two columns are left out. Where rows were tested against several methods,
    each names its own.
    """
    shown = {name.capitalize(): table[name] for name in METHOD} | {"Seeds": _counts(table["seeds"])}
    for metric in metrics:
        heading, factor = METRICS[metric]
        digits = 1 if factor == 100 else 2
        shown[heading] = [_cell(row, metric, digits) for row in table.to_dict("records")]
        has_printed = table[f"{metric}_printed"].notna().any()
        for end, sign in (("printed", ""), ("difference", "+")) if has_printed else ():
            name = f"{heading.partition(',')[0]} {end}"
            shown[name] = [_number(value, digits, sign) for value in table[f"{metric}_{end}"]]
        for test, column in {"Welch": f"{metric}_welch_stars", "DeLong": f"{metric}_delong_stars"}.items():
            if column in table and table[column].fillna("").any():
                shown[f"{heading.partition(',')[0]} {test}"] = table[column].fillna("")
        shown[f"{heading.partition(',')[0]} rank"] = _counts(table[f"{metric}_rank"])
    if len(references(table)) > 1 and any(name.endswith((" Welch", " DeLong")) for name in shown):
        shown["Tested against"] = table["reference"].fillna("")
    return pd.DataFrame(shown | {"Notes": table["notes"]})


def references(table: pd.DataFrame) -> list[str]:
    """The methods that rows of `results_table` were tested against."""
    return [name for name in table.get("reference", pd.Series(dtype=str)).fillna("").unique() if name]


def cost_table(records: Mapping[str, Sequence[Mapping[str, Any]]], sizes: Mapping[str, int]) -> pd.DataFrame:
    """Costs of each method by device: method, device, jobs, wall_hours, memory_gib, cuda_gib, gigabytes.

    records: method -> the records of its jobs, as `provenance.recording` writes them; sizes: method -> bytes of its
    files, given on its first row. Hours are summed, memory is the largest peak of a single job (GiB; of tensors for
    CUDA), gigabytes are 10^9 bytes. A record without a time counts as a job whose hours are unknown.
    """
    rows = []
    for method, of_method in records.items():
        devices: dict[str, list[Mapping[str, Any]]] = {}
        for record in of_method:
            devices.setdefault(_device(record), []).append(record)
        for place, (device, jobs) in enumerate(sorted(devices.items())):
            seconds = [job["wall_seconds"] for job in jobs if "wall_seconds" in job]
            row = {"method": method, "device": device, "jobs": len(jobs)}
            row["wall_hours"] = sum(seconds) / 3600 if len(seconds) == len(jobs) else None
            for name, key in (("memory_gib", "peak_memory_mib"), ("cuda_gib", "peak_cuda_mib")):
                row[name] = max((job[key] / 1024 for job in jobs if key in job), default=None)
            row["gigabytes"] = sizes.get(method, 0) / 1e9 if place == 0 else None
            rows.append(row)
    table = pd.DataFrame(rows, columns=["method", "device", "jobs", *_COSTS])
    return table.astype(dict.fromkeys(_COSTS, float))


_COSTS = {
    "wall_hours": ("Wall hours", 3),
    "memory_gib": ("Peak memory, GiB", 2),
    "cuda_gib": ("Peak CUDA memory, GiB", 2),
    "gigabytes": ("Files, GB", 3),
}


def readable_costs(table: pd.DataFrame) -> pd.DataFrame:
    """`cost_table` as text."""
    shown = {"Method": table["method"], "Device": table["device"], "Jobs": table["jobs"].astype(str)}
    shown |= {heading: [_number(v, digits) for v in table[name]] for name, (heading, digits) in _COSTS.items()}
    return pd.DataFrame(shown)


def write_markdown(table: pd.DataFrame, path: str | Path, caption: str) -> None:
    """Write a table of text as a Markdown table under its caption; what Markdown would read as a sign is escaped."""
    rule = ["---:" if _is_number(table[column]) else "---" for column in table]
    rows = [[_escape_markdown(cell) for cell in row] for row in (table.columns, *table.itertuples(index=False))]
    lines = [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
    lines = [_escape_markdown(caption), "", *lines]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_latex(table: pd.DataFrame, path: str | Path, caption: str, label: str) -> None:
    """Write a table of text as a LaTeX table with the rules of booktabs; a rule parts protocols where there are two."""
    columns = "".join("r" if _is_number(table[column]) else "l" for column in table)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(caption)}}}", rf"\label{{{label}}}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex(table.columns), r"\midrule"]
    protocols = table["Protocol"].tolist() if "Protocol" in table else [""] * len(table)
    for place, row in enumerate(table.itertuples(index=False)):
        if place and protocols[place] != protocols[place - 1]:
            lines.append(r"\midrule")
        lines.append(_latex(row))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    with atomic(path) as temporary:
        temporary.write_text("% needs \\usepackage{booktabs}\n" + "\n".join(lines) + "\n", encoding="utf-8")


def escape_latex(text: str) -> str:
    """Text with LaTeX's own characters, and those this package writes outside ASCII, as LaTeX prints them."""
    pattern = "|".join(re.escape(key) for key in sorted(LATEX, key=len, reverse=True))
    return re.sub(pattern, lambda found: LATEX[found[0]], str(text))


def _check(replicates: pd.DataFrame, metrics: Iterable[str], reference: str | None) -> pd.DataFrame:
    missing = [name for name in (*METHOD, "seed", *metrics) if name not in replicates]
    if missing:
        raise InputError(f"replicates: missing column {missing[0]} (found: {', '.join(replicates)})")
    for (method, protocol), part in replicates.groupby(METHOD[:2], sort=False):
        if part["taxonomy"].nunique() > 1 or part["seed"].duplicated().any():
            raise InputError(
                f"replicates: method {method!r} (protocol {protocol}) appears with two taxonomies, or twice with the "
                "same seed; give each variant a name of its own"
            )
    methods = replicates["method"].unique()
    for name in ({reference} - {None}) | set(replicates.get("reference", [])) - {""}:
        if name not in methods:
            raise InputError(f"reference {name!r} is not a method of the table; it has {', '.join(methods)}")
    return replicates


def _summary(part: pd.DataFrame, metric: str) -> dict[str, float | None]:
    """Mean and spread over seeds and, for auc and ap, the interval of the mean, in the printed unit."""
    factor = METRICS[metric][1]
    mean, spread = mean_and_spread(part[metric].astype(float))
    row = {metric: factor * mean, f"{metric}_spread": None if spread is None else factor * spread}
    if f"{metric}_low" in part:
        row |= {f"{metric}_{end}": factor * part[f"{metric}_{end}"].iloc[0] for end in ("low", "high")}
    return row


def printed_value(
    published: pd.DataFrame, row: Mapping[str, Any], dataset: str, metric: str, anomaly_ratio: float | None
) -> tuple[float, list[str]]:
    """The printed value (nan where there is none), and where it comes from if not from the paper's main table.

    Where the anomaly ratio is not known (None) nothing printed under protocol Y can be set beside it.
    """
    same = (published["dataset"] == dataset) & (published["metric"] == metric)
    for name in ("method", "protocol"):
        same &= published[name] == row[name]
    found = published[same]
    if row["protocol"] == "Y":
        ratio = np.nan if anomaly_ratio is None else anomaly_ratio
        found = found[np.isclose(pd.to_numeric(found["anomaly_ratio"]), ratio)]
    if found.empty:
        return float("nan"), []
    found = found.iloc[(found["source"] != MAIN_SOURCE).argsort(kind="stable")]  # the main table first
    source, value = found["source"].iloc[0], float(found["value"].iloc[0])
    heading = METRICS[metric][0].partition(",")[0]
    notes = [] if source == MAIN_SOURCE else [f"printed {heading}: {source}"]
    for other, also in zip(found["source"][1:], found["value"][1:], strict=True):
        if float(also) != value:
            notes.append(f"{heading} in {other}: {also}")
    return value, notes + (found["note"].head(1).tolist() if "note" in found else [])


def _same_protocol(reference: pd.DataFrame, row: Mapping[str, Any]) -> pd.DataFrame:
    """The reference's replicates under the row's protocol, or under the only one it has: two are never pooled."""
    return reference if reference["protocol"].nunique() == 1 else reference[reference["protocol"] == row["protocol"]]


def _own_reference(part: pd.DataFrame) -> str:
    """The method that a method names as its reference, "" for none."""
    return part["reference"].iloc[0] if "reference" in part else ""


def _against(part: pd.DataFrame, reference: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Welch test of a method against the reference; empty for the reference itself and for single replicates."""
    itself = (part[METHOD[:2]].iloc[0] == reference[METHOD[:2]].iloc[0]).all()
    if itself or min(len(part), len(reference)) < 2:
        return {f"{metric}_welch_p": None, f"{metric}_welch_stars": ""}
    p = welch_test(part[metric].astype(float), reference[metric].astype(float))[1]
    return {f"{metric}_welch_p": p, f"{metric}_welch_stars": stars(p)}


def _cell(row: Mapping[str, Any], metric: str, digits: int) -> str:
    text = _number(row[metric], digits)
    if pd.notna(row[f"{metric}_spread"]):
        text += f" ± {_number(row[f'{metric}_spread'], digits)}"
    if pd.notna(row.get(f"{metric}_low")):
        text += f" [{_number(row[f'{metric}_low'], digits)}, {_number(row[f'{metric}_high'], digits)}]"
    return text


def _number(value: float | None, digits: int, sign: str = "") -> str:
    """Rounded, with a true minus; empty where there is no value. A difference that rounds to zero has no sign."""
    if pd.isna(value):
        return ""
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-", MINUS)


def _counts(column: pd.Series) -> pd.Series:
    """Whole numbers as text, empty where there is none."""
    return column.astype("string").fillna("").astype(object)


def _device(record: Mapping[str, Any]) -> str:
    device = record.get("device", {})
    threads = device.get("threads")
    counted = f", {threads} thread{'s' if threads != 1 else ''}" if threads else ""
    return f"{device.get('name', 'unknown')}{counted}"


def _is_number(column: pd.Series) -> bool:
    """True if a column of text contains numbers, which stand to the right."""
    cells = column.astype(str).str.replace(MINUS, "-")
    return cells.str.fullmatch(r"[+-]?[\d.]*( ± [\d.]+)?( \[[-\d., ]+\])?").all() and (cells != "").any()


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", str(text).replace("\n", " "))


def _latex(cells: Iterable[str]) -> str:
    return " & ".join(escape_latex(cell) for cell in cells) + r" \\"
