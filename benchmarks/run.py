"""Measure, and keep the figures: `python -m benchmarks.run [NAME ...]`, from the repository's root.

Writes benchmarks/results.csv, and the table of docs/performance.md from it. Rows of benchmarks that were not asked for
stay as they are. On the GPU where there is one (CUDA_VISIBLE_DEVICES= hides it), else on the CPU: set OMP_NUM_THREADS=1
there and pin the process to a core for figures that repeat.
"""

import argparse
import csv
import dataclasses
from functools import partial
from pathlib import Path

from amae.runtime.device import choose_device
from benchmarks import pipeline, training
from benchmarks.measure import circumstances

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks/results.csv"
PAGE = ROOT / "docs/performance.md"
MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")
ON_DEVICE = {  # the GPU if there is one
    "adaptation": training.adaptation,
    "stage1": training.stage1,
    "anatpaste": training.pasting,
    "reconstruction": training.reconstruction,
}
ON_CPU = {
    "adaptation_all_cores": training.adaptation_all_cores,
    "conversion": pipeline.conversion,
    "conversion_cores": pipeline.conversion_cores,
    "conversion_memory": pipeline.conversion_memory,
    "start_up": pipeline.start_up,
}
ON_GPU = {"adaptation_large": training.adaptation_large}
COLUMNS = ["benchmark", "name", "what", "ours", "reference", "ratio", "unit", "target", "device", "versions", "date"]


def main() -> None:
    """Run the benchmarks named, or all."""
    device = choose_device("auto", gpus=1)
    benchmarks = {name: partial(function, device) for name, function in ON_DEVICE.items()}
    benchmarks |= ON_CPU if device.type == "cpu" else {name: partial(each, device) for name, each in ON_GPU.items()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(benchmarks)} (default: all)")
    names = parser.parse_args().names or list(benchmarks)
    if unknown := set(names) - set(benchmarks):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(benchmarks)}")
    mark = "" if device.type == "cpu" else f"_{device.type}"
    rows = read_results()
    for name in names:
        measured = []
        for result in benchmarks[name]():
            row = {"benchmark": name + mark, **dataclasses.asdict(result), **circumstances(device)}
            row["name"] += mark
            measured.append({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})
            print(f"{row['name']}: {result.ours:.4g} against {result.reference:.4g} {result.unit}: {result.ratio:.3g}")
        rows = [row for row in rows if row["benchmark"] != name + mark] + measured
    order = [*ON_DEVICE, *ON_CPU, *ON_GPU]
    rows.sort(key=lambda row: (row["benchmark"].endswith("_cuda"), order.index(row["benchmark"].removesuffix("_cuda"))))
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
