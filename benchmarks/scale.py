"""How time and memory grow with images, image size and replicates: `python -m benchmarks.scale`.

Every point is a process of its own: processor seconds of the work alone, without start-up and the making of its input,
and the peak memory of the process. Writes benchmarks/scale.csv and docs/scale.png, with the exponent b of
time ~ n^b fitted to each line.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from amae.data.lungs import segment_lungs
from amae.data.pack import convert
from amae.data.packed import MASK_SIZE, Geometry
from amae.data.stored import stored_images, stored_masks
from amae.figures.style import DASHES, LINES, PAGE, page
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.adaptation import train_autoencoder
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.stage1 import train_stage1
from amae.method.training import Resume
from amae.runtime.device import choose_device
from amae.settings import ModuleSettings, ReconstructionSettings, Stage1Settings
from benchmarks.data import write_manifest, write_png
from benchmarks.pipeline import repeated
from benchmarks.training import packed

ROOT = Path(__file__).resolve().parents[1]
TABLE, FIGURE = ROOT / "benchmarks/scale.csv", ROOT / "docs/scale.png"
COUNTS, SMALL = (1000, 10_000, 100_000), 64  # images of this many pixels
SIZES, FEW = (64, 128, 224, 448), 128  # pixels of so many images
SEEDS = (1, 2, 4)
NAMES = ("images.npy", "lung_images.npy", "images.csv", "rejected.csv")


def model(size: int) -> MAE:
    """A model of the demo preset's width for images of this size."""
    torch.manual_seed(0)
    return MAE(Architecture(size, 16, width=128, depth=4, heads=4, decoder_width=96, decoder_depth=2, decoder_heads=4))


def conversion(folder: Path, count: int, size: int) -> Callable[[], object]:
    """PNG files of 256 px to the packed arrays."""
    manifest = write_manifest(repeated(write_png(folder, 10, 256), count), folder / "manifest.csv")
    return lambda: convert(manifest, *(folder / name for name in NAMES), size, "minmax", "squash")


def pack(folder: Path, count: int, size: int) -> np.ndarray:
    """A packed array with its index, as a memory map."""
    few = packed(write_png(folder, 10, 256), size).numpy()
    images = np.lib.format.open_memmap(folder / NAMES[0], "w+", np.uint8, (count, size, size))
    for number in range(count):
        images[number] = few[number % len(few)]
    images.flush()
    as_is = Geometry(size, size, scale_x=1, scale_y=1, offset_x=0, offset_y=0)
    pd.DataFrame({"image_id": range(count), **as_is._asdict()}).to_csv(folder / NAMES[2], index=False)
    return np.load(folder / NAMES[0], mmap_mode="r")


def lungs(folder: Path, count: int, size: int) -> Callable[[], object]:
    """Packed images to lung masks, which are made at 256 px whatever the size."""
    pack(folder, count, MASK_SIZE)
    names = (NAMES[0], NAMES[2], "lungs.npy", "lungs.csv")
    return lambda: segment_lungs(*(folder / name for name in names))


def stage1(folder: Path, count: int, size: int) -> Callable[[], object]:
    """One epoch of the stage 1 head."""
    images, rows, device = pack(folder, count, size), np.arange(count), choose_device("cpu", 0)
    masks = np.lib.format.open_memmap(folder / "lungs.npy", "w+", np.uint8, (count, 256, 32))
    masks[:, 64:192, 8:24] = 255
    resume = Resume(folder / "state.pt", "")
    settings = Stage1Settings(epochs=1, warmup_epochs=0)

    def work() -> None:
        held = stored_masks(folder / "lungs.npy", rows, size, device)
        train_stage1(model(size), stored_images(images, rows, device), held, settings, 0, resume)

    return work


def module(folder: Path, count: int, size: int) -> Callable[[], object]:
    """One epoch of a module, L = 2."""
    images, device = pack(folder, count, size), choose_device("cpu", 0)
    settings, resume = ModuleSettings(epochs=1, warmup_epochs=0), Resume(folder / "state.pt", "")
    held = stored_images(images, np.arange(count), device)
    return lambda: train_autoencoder(model(size), held, settings, 1e-4, 0, resume, masks=2)


def reconstruction(folder: Path, count: int, size: int) -> Callable[[], object]:
    """Test images under four masks by one module, 512 at a time."""
    images, network, settings = pack(folder, count, size), model(size), ReconstructionSettings()
    choose_device("cpu", 0)

    def work() -> None:
        for start in range(0, count, 512):
            part = torch.from_numpy(images[start : start + 512].copy())
            ids = [str(number) for number in range(start, start + len(part))]
            reconstruct(network, part, draw_orders(ids, 0, network.architecture.patches, settings), settings)

    return work


STEPS = {"conversion": conversion, "lungs": lungs, "stage1": stage1, "module": module, "reconstruction": reconstruction}
WHAT = {
    "conversion": "conversion",
    "lungs": "lung masks",
    "stage1": "stage 1, an epoch",
    "module": "a module, an epoch",
    "reconstruction": "reconstruction, a module",
}


def measure(step: str, count: int, size: int) -> None:
    """Print seconds and peak MiB of one point; runs in its own process."""
    with tempfile.TemporaryDirectory() as name:
        work = STEPS[step](Path(name), count, size)
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(seconds, int(peak.split()[1]) / 1024)


def replicates(seeds: int) -> float:
    """Processor seconds of the whole workflow on the tiny configuration with so many seeds."""
    with tempfile.TemporaryDirectory() as name:
        settings = ["--configfile", "tests/tiny.yaml", "--config", f"results={name}", f"seeds={list(range(seeds))}"]
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "gpu=0", *settings]
        before = child_seconds()
        subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        return child_seconds() - before


def child_seconds() -> float:
    """Processor seconds of the children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Measure every point, write the table, draw the figure."""
    points = [(step, count, SMALL) for step in STEPS for count in COUNTS]
    points += [(step, FEW, size) for step in STEPS for size in SIZES]
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "images", "size", "seeds", "seconds", "peak_mib"])
        for step, count, size in points:
            command = [sys.executable, "-m", "benchmarks.scale", step, str(count), str(size)]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            seconds, peak = map(float, done.stdout.split()[-2:])
            writer.writerow([step, count, size, 1, f"{seconds:.4g}", f"{peak:.0f}"])
            file.flush()
        for seeds in SEEDS:
            writer.writerow(["workflow", "", "", seeds, f"{replicates(seeds):.4g}", ""])
    draw(pd.read_csv(TABLE))


def draw(table: pd.DataFrame) -> None:
    """Time and memory against images, time against size and replicates, on logarithmic axes."""
    by_count, by_size = table[table["size"] == SMALL], table[table["images"] == FEW]
    by_count = by_count[by_count["images"].isin(COUNTS)]
    with page(FIGURE, PAGE, 4.4) as figure:
        axes = figure.subplots(2, 2)
        lines(axes[0, 0], by_count, "images", "seconds", f"images of {SMALL} px", "processor time (s)")
        lines(axes[0, 1], by_count, "images", "peak_mib", f"images of {SMALL} px", "peak memory (MiB)")
        lines(axes[1, 0], by_size, "size", "seconds", f"image size (px), {FEW} images", "processor time (s)")
        workflow = table[table["step"] == "workflow"]
        lines(axes[1, 1], workflow, "seeds", "seconds", "replicates, the whole tiny workflow", "processor time (s)")


def lines(axes: Axes, table: pd.DataFrame, x: str, y: str, x_label: str, y_label: str) -> None:
    """A line for each step; those of time on logarithmic axes, with the exponent in the legend."""
    for (step, part), colour, dash in zip(table.groupby("step", sort=False), LINES, DASHES, strict=False):
        label = WHAT.get(step, step)
        if y == "seconds":
            label += f": exponent {np.polyfit(np.log(part[x]), np.log(part[y]), 1)[0]:.2f}"
        axes.plot(part[x], part[y], color=colour, linestyle=dash, marker="o", markersize=2.5, label=label)
    axes.set(xlabel=x_label, ylabel=y_label, xscale="log", yscale="log" if y == "seconds" else "linear")
    ticks = sorted(set(table[x]))
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.xaxis.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.8 if y == "seconds" else high)  # room for the legend
    axes.legend(loc="upper left")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("point", nargs="*", help="step, number of images and side of one measurement, for itself")
    if point := parser.parse_args().point:
        measure(point[0], *map(int, point[1:]))
    else:
        main()
