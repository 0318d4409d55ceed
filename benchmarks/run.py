"""Measure, and keep the figures: `python -m benchmarks.run [NAME ...]`, from the repository's root.

Writes benchmarks/results.csv, and the table of docs/performance.md from it. Rows of benchmarks that were not asked for
stay as they are. Set OMP_NUM_THREADS=1 and pin the process to a core for figures that repeat.
"""

import argparse
import csv
import dataclasses
from pathlib import Path

from amae.device import keep_memory
from benchmarks import pipeline, training
from benchmarks.measure import circumstances

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks/results.csv"
PAGE = ROOT / "docs/performance.md"
MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")
BENCHMARKS = {
    "adaptation": training.adaptation,
    "adaptation_all_cores": training.adaptation_all_cores,
    "stage1": training.stage1,
    "anatpaste": training.pasting,
    "reconstruction": training.reconstruction,
    "conversion": pipeline.conversion,
    "conversion_cores": pipeline.conversion_cores,
    "conversion_memory": pipeline.conversion_memory,
    "start_up": pipeline.start_up,
}
COLUMNS = ["benchmark", "name", "what", "ours", "reference", "ratio", "unit", "target", "device", "versions", "date"]


def main() -> None:
    """Run the benchmarks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    keep_memory()  # as every job of the workflow does
    rows = read_results()
    for name in names:
        measured = []
        for result in BENCHMARKS[name]():
            row = {"benchmark": name, **dataclasses.asdict(result), **circumstances()}
            measured.append({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})
            print(f"{result.name}: {result.ours:.4g} against {result.reference:.4g} {result.unit}: {result.ratio:.3g}")
        rows = [row for row in rows if row["benchmark"] != name] + measured
    rows.sort(key=lambda row: list(BENCHMARKS).index(row["benchmark"]))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    PAGE.write_text(before + MARKS[0] + markdown(rows) + MARKS[1] + rest.partition(MARKS[1])[2], encoding="utf-8")


def read_results() -> list[dict[str, str]]:
    """The rows of the table as it stands."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(rows: list[dict[str, str]]) -> str:
    """The results as a table of a Markdown page, with the circumstances below it."""
    lines = ["| name | what | ours | reference | ratio | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        figures = [f"{row['ours']} {row['unit']}", f"{row['reference']} {row['unit']}", row["ratio"], row["target"]]
        lines.append("| " + " | ".join([f"`{row['name']}`", row["what"], *figures]) + " |")
    lines += ["", *(f"* {each}" for each in dict.fromkeys(_circumstances(row) for row in rows))]
    return "\n".join(lines) + "\n"


def _circumstances(row: dict[str, str]) -> str:
    return f"{row['date']}: {row['device']}; {row['versions']}"


if __name__ == "__main__":
    main()
