"""Benchmarks of conversion and start-up."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pandas as pd
from PIL import Image, ImageFile, PngImagePlugin

from amae.data import decode
from amae.data.pack import convert
from benchmarks.data import write_jpeg2000_dicom, write_jpeg_dicom, write_manifest, write_png
from benchmarks.measure import Result, interleaved

CODECS = [
    (decode, "pixel_array"),
    (ImageFile.ImageFile, "load"),
    (Image.Image, "resize"),
    (PngImagePlugin.PngImageFile, "verify"),
]
KINDS = {
    "png": ("PNG of 1024 px, 8 bits (NIH)", write_png, 200),
    "jpeg": ("DICOM of 1024 px, baseline JPEG (RSNA)", write_jpeg_dicom, 200),
    "jpeg2000": ("DICOM of 2048 px, 12 bits, lossless JPEG 2000 (VinDr)", write_jpeg2000_dicom, 20),
}


@contextmanager
def timed(targets: list[tuple[object, str]]) -> Iterator[list[float]]:
    """Record the processor seconds of every outermost call of these functions."""
    seconds: list[float] = []
    depth = 0

    def wrap(function: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            nonlocal depth
            depth += 1
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                depth -= 1
                if not depth:
                    seconds.append(time.process_time() - start)

        return call

    with ExitStack() as stack:
        for owner, name in targets:
            stack.enter_context(patch.object(owner, name, wrap(getattr(owner, name))))
        yield seconds


def repeated(paths: list[Path], count: int) -> list[Path]:
    """So many files of which each is a link to one of these: a manifest holds no path twice."""
    links = [paths[0].with_name(f"link{number}{paths[0].suffix}") for number in range(count)]
    for number, link in enumerate(links):
        link.symlink_to(paths[number % len(paths)])
    return links


def convert_to(folder: Path, manifest: Path, workers: int = 1) -> None:
    """Convert a manifest as `amae convert` does, afresh."""
    outputs = [folder / name for name in ("images.npy", "lung_images.npy", "images.csv", "rejected.csv")]
    convert(manifest, *outputs, 224, "minmax", "squash", workers)


def conversion() -> Iterator[Result]:
    """Share of the conversion that is spent in decoding and resampling."""
    for kind, (what, write, count) in KINDS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            manifest = write_manifest(repeated(write(folder, count // 10), count), folder / "manifest.csv")
            convert_to(folder, manifest)
            shares = []
            for _ in range(3):
                with timed(CODECS) as inside:
                    start = time.process_time()
                    convert_to(folder, manifest)
                    whole = time.process_time() - start
                shares.append((sum(inside) / count, whole / count))
        inside, whole = sorted(shares, key=lambda pair: pair[0] / pair[1])[1]
        what = f"conversion of {what} to 224 and 256 px: codec and resampling against all of it, an image"
        yield Result.share(f"conversion_{kind}", what, inside * 1e3, whole * 1e3, "ms", ">= 0.9")


def conversion_cores() -> Iterator[Result]:
    """Speed-up of the conversion by a process for each core."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(repeated(write_jpeg2000_dicom(folder, 4), 80), folder / "manifest.csv")
        sides = {
            "ours": lambda: convert_to(folder, manifest, workers=cores),
            "one": lambda: convert_to(folder, manifest),
        }
        took = interleaved(sides, 1, time.perf_counter)
    what = f"conversion of 80 files with {cores} workers against one (wall time, start of the processes included)"
    yield Result.faster("conversion_cores", what, took["ours"], took["one"], "s", f"{cores} at best")


MEMORY = """
import sys
from pathlib import Path
from amae.data.pack import convert
folder = Path(sys.argv[1])
names = ("images.npy", "lung_images.npy", "images.csv", "rejected.csv")
convert(folder / "manifest.csv", *(folder / name for name in names), 224, "minmax", "squash")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def peak_of_conversion(count: int) -> float:
    """Peak memory, in MiB, of a process that converts so many PNG files of 256 px (Linux)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(repeated(write_png(folder, 1, 256), count), folder / "manifest.csv")
        done = subprocess.run([sys.executable, "-c", MEMORY, name], stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout) / 1024


def conversion_memory() -> Iterator[Result]:
    """Peak memory against the number of images."""
    few, many = peak_of_conversion(1000), peak_of_conversion(10_000)
    what = "peak memory of the conversion: 10,000 images against 1,000"
    yield Result.share("conversion_memory", what, many, few, "MiB", "1")


def start_up() -> Iterator[Result]:
    """Time until a command that computes nothing heavy is done, against its limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "scores.csv"
        row = {"image_id": range(200), "split": "train_unlabeled", "p_abnormal": [n / 200 for n in range(200)]}
        pd.DataFrame(row).assign(p_normal=lambda t: 1 - t["p_abnormal"]).to_csv(table, index=False)
        export = ["export-pseudo-labels", "--unlabeled-scores", str(table), "--pseudo-labels", str(folder / "out.csv")]
        dry_run = ["--dry-run", "--quiet", "rules", "--cores", "1", "--config", "preset=paper"]
        commands = {
            "help": ("amae --help", 0.3, [sys.executable, "-m", "amae", "--help"]),
            "command": ("amae export-pseudo-labels", 1.0, [sys.executable, "-m", "amae", *export]),
            "dry_run": ("dry run of paper", 10.0, [sys.executable, "-m", "snakemake", "paper", *dry_run]),
        }
        for kind, (what, limit, command) in commands.items():
            seconds = processor_seconds(command, Path(name) / "bytecode")
            what = f"{what}: processor time from start to end, against the limit"
            yield Result.share(f"start_{kind}", what, seconds, limit, "s", "<= 1")


def processor_seconds(command: list[str], bytecode: Path, rounds: int = 3) -> float:
    """Median processor time of a command and what it starts, after a first call that compiles the modules."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    taken = []
    for _ in range(rounds + 1):
        before = os.times()
        subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return sorted(taken[1:])[rounds // 2]
