"""Bad input: the whole corpus through the commands that people run; each file right, or refused with the reason."""

import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from corpus import ANY, AS_PYDICOM, REFUSED, SIZE, Variant, full
from PIL import Image
from project import ROOT, kill, start
from small import write_model
from variants import variants

GIB = 2**20  # in the kibibytes of getrusage
SECONDS = 300  # of a run, which takes 10 to 20 on a free core: what takes longer hangs


@dataclass(frozen=True)
class Run:
    """What a command made of the corpus: an image (rows, columns) or a reason for each variant, and what it took."""

    outcomes: dict[str, np.ndarray | str]
    peak: int
    printed: str


# The peak of a process counts what it was forked from, here all of pytest: so one in between starts it, and tells.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


def run(words: list[object], folder: Path) -> tuple[int, str]:
    """Peak memory in KiB and output of `amae`."""
    command = [sys.executable, "-c", MEASURE, "peak", sys.executable, "-W", "error", "-m", "amae.cli", *map(str, words)]
    process = start(command, folder, folder / "log", ROOT)
    try:
        status = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    printed = (folder / "log").read_text()
    assert status == 0, printed[-3000:]
    return int((folder / "peak").read_text()), printed


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, list[tuple[str, Variant]]]:
    """The corpus as files below one folder, with the path of each in it."""
    folder = tmp_path_factory.mktemp("corpus")
    made = [(variant.write(folder / variant.kind), variant) for variant in variants()]
    return folder, [(path.relative_to(folder).as_posix(), variant) for path, variant in made]


@pytest.fixture(scope="module")
def converted(corpus, tmp_path_factory) -> Run:
    """The corpus through `amae convert`, with the window; a table contains no name that is not UTF-8."""
    folder, files = corpus
    out = tmp_path_factory.mktemp("converted")
    names = [name for name, _ in files if name.isprintable() or "\udcff" not in name]
    frame = pd.DataFrame({"image_id": [f"i{number:03d}" for number in range(len(names))]})
    frame["path"], frame["split"] = [str(folder / name) for name in names], "train_normal"
    frame.assign(label="", patient_id="", view="").to_csv(out / "manifest.csv", index=False)
    outputs = {name: out / name for name in ("images.npy", "images.csv", "rejected.csv", "sheet.png")}
    words = ["convert", "--manifest", out / "manifest.csv", "--images", outputs["images.npy"]]
    words += [
        "--lung-images",
        out / "lung_images.npy",
        "--index",
        outputs["images.csv"],
        "--rejected",
        outputs["rejected.csv"],
        "--sheet",
        outputs["sheet.png"],
    ]
    words += ["--image-size", SIZE, "--conversion", "voi", "--square", "squash", "--allowed-failures", 999]
    peak, printed = run(words, out)
    by_id = dict(zip(frame["image_id"], names, strict=True))
    index, rejected = pd.read_csv(outputs["images.csv"]), pd.read_csv(outputs["rejected.csv"])
    images = np.load(outputs["images.npy"])
    outcomes = dict(zip(index["image_id"].map(by_id), images, strict=True))
    outcomes |= dict(zip(rejected["image_id"].map(by_id), rejected["reason"], strict=True))
    return Run(outcomes, peak, printed)


@pytest.fixture(scope="module")
def predicted(corpus, tmp_path_factory) -> Run:
    """The corpus through `amae predict`, without the window; overlays of maps that are 0 show the image as it is."""
    folder, files = corpus
    out = tmp_path_factory.mktemp("predicted")
    model = write_model(out / "model.safetensors", SIZE, "minmax")
    words = ["predict", folder, "--model", model, "--output", out / "scored", "--device", "cpu", "--workers", 2]
    peak, printed = run(words, out)
    table = pd.read_csv(out / "scored/predictions.csv", keep_default_na=False)
    names = {os.fsencode(name).decode("utf-8", "backslashreplace"): name for name, _ in files}
    outcomes = {}
    for name, reason, overlay in table[["file", "reason", "overlay"]].itertuples(index=False):
        outcomes[names.get(name, name)] = reason or np.asarray(Image.open(out / "scored" / overlay))[..., 0]
    return Run(outcomes, peak, printed)


def as_pydicom_reads(path: Path) -> np.ndarray | None:
    """Grey levels by the attributes that pydicom finds and the bytes themselves; None where they make no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = pydicom.dcmread(path)
            bits, signed = made.BitsStored, made.PixelRepresentation
            stored = np.frombuffer(made.PixelData, f"<u{made.BitsAllocated // 8}")[: made.Rows * made.Columns]
            stored = stored.reshape(made.Rows, made.Columns).astype(np.int64) & (2**bits - 1)
            stored = (stored ^ 2 ** (bits - 1)) - 2 ** (bits - 1) if signed else stored
            return full(stored, made.PhotometricInterpretation == "MONOCHROME1")
    except Exception:
        return None


def difference(outcome: np.ndarray | str, expected: np.ndarray | str, tolerance: int, path: Path) -> str:
    """What is wrong with an outcome; "" for nothing."""
    if expected in (ANY, AS_PYDICOM) if isinstance(expected, str) else False:
        if isinstance(outcome, str):
            return "" if re.search(REFUSED, outcome) else f"refused: {outcome}"
        expected = outcome if expected == ANY else as_pydicom_reads(path)
        if expected is None:
            return "an image, where pydicom finds none"
    if isinstance(expected, str):
        found = outcome if isinstance(outcome, str) else "an image"
        return "" if re.search(expected, found) else f"expected {expected!r}, found {found!r}"
    if isinstance(outcome, str):
        return f"expected an image, found {outcome!r}"
    off = np.abs(outcome - expected).max()
    return "" if off <= tolerance else f"up to {off} levels off"


KINDS = sorted({variant.kind for variant in variants()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["convert", "predict"])
def test_each_is_right_or_refused_with_its_reason(kind, command, corpus, request):
    if kind == "permission" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    folder, files = corpus
    outcomes = request.getfixturevalue({"convert": "converted", "predict": "predicted"}[command]).outcomes
    wrong = {}
    for name, variant in files:
        if variant.kind == kind and name in outcomes:
            expected = variant.voi if command == "convert" else variant.minmax
            wrong[name] = difference(outcomes[name], expected, variant.tolerance, folder / name)
    assert wrong
    assert not {name: what for name, what in wrong.items() if what}


def test_every_file_has_its_row(corpus, converted, predicted):
    names = {name for name, _ in corpus[1]}
    assert len(names) >= 200
    assert set(predicted.outcomes) - {"place/folder.dcm/target.dcm"} == names
    assert names - set(converted.outcomes) == {"name/invalid \udcff utf-8.dcm"}


def test_the_documentation_holds_these_numbers(corpus, converted, predicted):
    page = (ROOT / "docs/robustness.md").read_text(encoding="utf-8")
    lines = []
    for kind in KINDS:
        files = [(name, variant) for name, variant in corpus[1] if variant.kind == kind]
        cells = [kind, len(files)]
        for run in (converted, predicted):
            refused = [isinstance(run.outcomes[name], str) for name, _ in files if name in run.outcomes]
            cells += [len(refused) - sum(refused), sum(refused)]
        # which damage a decoder notices depends on its version, and who may read a file on the user
        if kind != "permission" and all(variant.minmax is not ANY for _, variant in files):
            lines.append(f"| {' | '.join(map(str, cells))} |")
        print(f"| {' | '.join(map(str, cells))} |")
    assert not [line for line in lines if line not in page]
    assert f"{len(corpus[1])} files" in page


def test_memory_stays_small_and_nothing_is_run_or_told(converted, predicted, corpus):
    assert converted.peak < GIB  # in one process, without torch
    for run in (converted, predicted):
        assert "Traceback" not in run.printed
        assert "Warning" not in run.printed
    assert not list(corpus[0].rglob("injected")) + list(Path.cwd().glob("injected"))
