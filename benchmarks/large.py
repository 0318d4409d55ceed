"""Each command that sees every file, on more and more of them: `python -m benchmarks.large [LARGEST]`.

Every point is the command itself in a process of its own, on generated PNG files: its processor time (user and system)
and peak memory. Writes benchmarks/large.csv, and prints the table of docs/performance.md: exponents b of time ~ n^b,
memory for each further file, and what both come to at 100,000 and a million files.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.run import ROOT
from tests.small import write_model

TABLE = ROOT / "benchmarks/large.csv"
LARGEST, STEPS_DOWN = 20_000, 3  # files; each step halves them
SIZE = 64  # pixels of a packed image
ASKED = (100_000, 1_000_000)


def write_pictures(folder: Path, count: int) -> None:
    """So many PNG files of 64 to 256 pixels, of ten kinds: blurred noise with two dark lungs."""
    rng, kinds = np.random.default_rng(0), []
    for number in range(10):
        side = 64 + number * 192 // 9
        y, x = np.mgrid[:side, :side] / side
        lungs = sum(np.exp(-(((x - at) / 0.12) ** 2 + ((y - 0.5) / 0.28) ** 2)) for at in (0.3, 0.7))
        grey = 190 - 130 * lungs + rng.normal(0, 6, (side, side))
        path = folder / f"kind{number}"
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(path, format="PNG")
        kinds.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        (folder / f"{number:07d}.png").write_bytes(kinds[number % 10])


def commands(folder: Path, count: int) -> Iterator[tuple[str, list[str]]]:
    """Name and words of each command, in an order in which each has its input."""
    names = [f"{number:07d}.png" for number in range(count)]
    label = ["abnormal" if number % 4 == 0 else "normal" for number in range(count)]
    split = ["test" if number % 4 < 2 else "train_normal" for number in range(count)]
    pd.DataFrame({"path": names, "label": label, "split": split}).to_csv(folder / "table.csv", index=False)
    made = {name: f"{folder}/{name}" for name in ("table.csv", "manifest.csv", "lung_images.npy", "images.csv")}
    index = ["--image-table", made["table.csv"], "--root", f"{folder}/in", "--manifest", made["manifest.csv"]]
    yield "index", ["index", *index, "--hidden-labels", f"{folder}/hidden.csv"]
    convert = ["--manifest", made["manifest.csv"], "--images", f"{folder}/images.npy", "--index", made["images.csv"]]
    convert += ["--lung-images", made["lung_images.npy"], "--rejected", f"{folder}/rejected.csv"]
    yield "convert", ["convert", *convert, "--sheet", f"{folder}/sheet.png", "--image-size", str(SIZE)]
    lungs = ["--lung-images", made["lung_images.npy"], "--index", made["images.csv"], "--lungs", f"{folder}/lungs.npy"]
    lungs += ["--lungs-table", f"{folder}/lungs.csv", "--sheet", f"{folder}/lungs.png"]
    yield "segment-lungs", ["segment-lungs", *lungs]
    model = write_model(folder / "model.safetensors", SIZE, "minmax")
    yield "predict", ["predict", f"{folder}/in", "--model", str(model), "--output", f"{folder}/out", "--device", "cpu"]


def cost(words: list[str]) -> tuple[float, float]:
    """Processor seconds, user and system, of an `amae` command, and its peak memory in MiB."""
    command = ["/usr/bin/time", "-f", "%U %S %M", sys.executable, "-m", "amae", *words]
    log = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
    user, system, peak = map(float, log.splitlines()[-1].split())
    return user + system, peak / 1024


def main() -> None:
    """Measure every point, write the table, print the page's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("largest", type=int, nargs="?", default=LARGEST)
    largest = parser.parse_args().largest
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["command", "files", "seconds", "peak_mib"])
        for name in ("index", "convert", "segment-lungs", "predict"):
            for step in range(STEPS_DOWN, -1, -1):
                count = largest >> step
                writer.writerow([name, count, *(f"{value:.5g}" for value in measure(name, count))])
                file.flush()
    print(markdown(pd.read_csv(TABLE)))


def measure(wanted: str, count: int) -> tuple[float, float]:
    """Cost of one command on so many files, after those that it needs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        write_pictures(folder / "in", count)
        for command, words in commands(folder, count):
            if command == wanted:
                return cost(words)
            if wanted != "predict":  # which needs none of the others
                cost(words)
    raise ValueError(wanted)


def markdown(table: pd.DataFrame) -> str:
    """The table of docs/performance.md."""
    lines = [
        "| command | files | processor time, s | peak memory, MiB | exponent of time | time a file, ms | memory a "
        "file, KiB | 100,000 files | a million files |",
        "|---|---|---|---|---:|---:|---:|---|---|",
    ]
    for name, rows in table.groupby("command", sort=False):
        files, seconds, peak = (rows[column].to_numpy(float) for column in ("files", "seconds", "peak_mib"))
        (each, start), (more, base) = np.polyfit(files, seconds, 1), np.polyfit(files, peak, 1)
        exponent = np.polyfit(np.log(files), np.log(np.maximum(seconds - start, 1e-3)), 1)[0]  # without the start
        asked = [
            f"{(start + each * count) / 60:.3g} min, {(base + max(more, 0) * count) / 1024:.2g} GiB" for count in ASKED
        ]
        cells = [
            f"`{name}`",
            ", ".join(f"{count:,.0f}" for count in files),
            ", ".join(f"{value:.3g}" for value in seconds),
            ", ".join(f"{value:.0f}" for value in peak),
            f"{exponent:.2f}",
            f"{1000 * each:.2g}",
            f"{1024 * more:.2g}",
            *asked,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
