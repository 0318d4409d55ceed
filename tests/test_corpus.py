"""Bad input: the whole corpus through the commands that people run; each file right, or refused with the reason."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from corpus import ANY, REFUSED, SIZE, Variant, variants
from PIL import Image
from project import ROOT, run
from small import write_model

GIB = 2**20  # in KiB
CONVERSIONS = {"converted": "voi", "predicted": "minmax"}


# VmHWM is the peak of the process itself; getrusage would count what it was forked from, here all of pytest.
MEASURED = """
import pathlib, re, sys
from amae.cli import main
status = main(sys.argv[1:])
print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""


def measured(*words: object) -> str:
    """Output of `amae`, with its peak memory in KiB."""
    status, printed = run([sys.executable, "-W", "error", "-c", MEASURED, *map(str, words)], ROOT)
    assert status == 0, printed[-3000:]
    return printed


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, dict[str, Variant]]:
    """The corpus as files below one folder, by the path of each in it."""
    folder = tmp_path_factory.mktemp("corpus")
    made = [(variant.write(folder / variant.kind), variant) for variant in variants()]
    return folder, {path.relative_to(folder).as_posix(): variant for path, variant in made}


@pytest.fixture(scope="module")
def converted(corpus, tmp_path_factory) -> tuple[dict[str, np.ndarray | str], str]:
    """Outcomes, an image or a reason, and output of `amae convert` with the window; tables contain UTF-8 alone."""
    folder, files = corpus
    out = tmp_path_factory.mktemp("converted")
    names = [name for name in files if "\udcff" not in name]
    frame = pd.DataFrame({"image_id": [f"i{number:03d}" for number in range(len(names))], "split": "train_normal"})
    frame = frame.assign(path=[str(folder / name) for name in names], label="", patient_id="", view="")
    frame.to_csv(out / "manifest.csv", index=False)
    files = {"images": "images.npy", "lung-images": "lungs.npy", "index": "images.csv", "rejected": "rejected.csv"}
    words = [word for name, file in files.items() for word in (f"--{name}", out / file)]
    words += ["--sheet", out / "sheet.png", "--image-size", SIZE, "--conversion", "voi", "--square", "squash"]
    printed = measured("convert", "--manifest", out / "manifest.csv", *words, "--allowed-failures", 999)
    by_id = dict(zip(frame["image_id"], names, strict=True))
    index, rejected = pd.read_csv(out / "images.csv"), pd.read_csv(out / "rejected.csv")
    outcomes = dict(zip(index["image_id"].map(by_id), np.load(out / "images.npy"), strict=True))
    return outcomes | dict(zip(rejected["image_id"].map(by_id), rejected["reason"], strict=True)), printed


@pytest.fixture(scope="module")
def predicted(corpus, tmp_path_factory) -> tuple[dict[str, np.ndarray | str], str]:
    """The same for `amae predict`, without the window; overlays of maps that are 0 show the image as it is."""
    folder, files = corpus
    out = tmp_path_factory.mktemp("predicted")
    model = write_model(out / "model.safetensors", SIZE, "minmax")
    words = ["predict", folder, "--model", model, "--output", out / "scored", "--device", "cpu", "--workers", 2]
    printed = measured(*words)
    table = pd.read_csv(out / "scored/predictions.csv", keep_default_na=False)
    names = {os.fsencode(name).decode("utf-8", "backslashreplace"): name for name in files}
    outcomes = {}
    for name, reason, overlay in table[["file", "reason", "overlay"]].itertuples(index=False):
        outcomes[names.get(name, name)] = reason or np.asarray(Image.open(out / "scored" / overlay))[..., 0]
    return outcomes, printed


def difference(outcome: np.ndarray | str, expected: np.ndarray | str, tolerance: int) -> str:
    """What is wrong with an outcome; "" for nothing."""
    if isinstance(expected, str):
        found = outcome if isinstance(outcome, str) else "an image"
        right = re.search(REFUSED if expected == ANY else expected, found) or (expected == ANY and found == "an image")
        return "" if right else f"expected {expected!r}, found {found!r}"
    if isinstance(outcome, str):
        return f"expected an image, found {outcome!r}"
    off = np.abs(outcome - expected).max()
    return "" if off <= tolerance else f"up to {off} levels off"


KINDS = sorted({variant.kind for variant in variants()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", CONVERSIONS)
def test_each_is_right_or_refused_with_its_reason(kind, command, corpus, request):
    outcomes = request.getfixturevalue(command)[0]
    wrong = {
        name: difference(outcomes[name], variant.expected(CONVERSIONS[command]), variant.tolerance)
        for name, variant in corpus[1].items()
        if variant.kind == kind and name in outcomes
    }
    assert wrong
    assert not {name: what for name, what in wrong.items() if what}


def test_every_file_has_its_row(corpus, converted, predicted):
    assert set(predicted[0]) == set(corpus[1]) and len(corpus[1]) >= 200
    assert set(corpus[1]) - set(converted[0]) == {"name/invalid \udcff utf-8.dcm"}


def test_the_documentation_has_these_numbers(corpus, converted, predicted):
    page = (ROOT / "docs/robustness.md").read_text(encoding="utf-8")
    lines = []
    for kind in KINDS:
        files = [name for name, variant in corpus[1].items() if variant.kind == kind]
        cells = [kind, len(files)]
        for outcomes, _ in (converted, predicted):
            refused = [isinstance(outcomes[name], str) for name in files if name in outcomes]
            cells += [len(refused) - sum(refused), sum(refused)]
        print(f"| {' | '.join(map(str, cells))} |")
        if kind != "changed bytes":  # which damage a decoder notices depends on its version
            lines.append(f"| {' | '.join(map(str, cells))} |")
    assert not [line for line in lines if line not in page]
    assert f"{len(corpus[1])} files" in page


def test_memory_stays_small_and_nothing_is_run_or_printed(converted, predicted, corpus):
    assert int(re.search(r"^peak (\d+)$", converted[1], re.M)[1]) < GIB  # in one process, without torch
    for _, printed in (converted, predicted):
        assert "Traceback" not in printed and "Warning" not in printed
    assert not list(corpus[0].rglob("injected")) + list(Path.cwd().glob("injected"))
