"""The same seed makes the same files; threads and batches at test time change no score by more than 1e-5."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from amae.cli import main
from amae.commands import compare
from amae.comparators.methods import method_of
from amae.method.reconstruct import reconstruct
from amae.method.stage1 import frozen_features

TOLERANCE = 1e-5
set_threads = torch.set_num_threads
TIMED = (".json", ".log", ".tsv")  # hold times and paths


@pytest.mark.long
@pytest.mark.usefixtures("one_thread")
def test_a_second_run_makes_the_same_files(finished, tmp_path, monkeypatch):
    """Every command of the workflow once more, without Snakemake, in one process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("amae.commands.export.code_revision", lambda: None)  # the copy is not kept by git
    for words in finished.commands():
        assert main(words) == 0
    made = [path for path in finished.results.rglob("[!.]*") if path.is_file() and path.suffix not in TIMED]
    made = [path for path in made if path.name != "overview.html"]  # tells the time of the first training
    assert len(made) > 100
    for path in made:
        again = tmp_path / path.relative_to(finished.folder)
        assert again.read_bytes() == path.read_bytes(), again


@pytest.fixture(params=["two threads", "batches of 1", "batches of 64"])
def otherwise(request, monkeypatch):
    """Other threads or batches at test time, once the function is called."""

    def change():
        if request.param == "two threads":
            monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
            set_threads(2)
            assert torch.get_num_threads() == 2
            return
        size = int(request.param.rpartition(" ")[2])
        for function in (reconstruct, frozen_features):
            monkeypatch.setattr(function.__wrapped__, "__defaults__", (size,))
        for name in ("commands.reconstruct.PART", "predict.score.BATCH", "data.resize.BATCH", "method.detector.BATCH"):
            monkeypatch.setattr(f"amae.{name}", size)
        monkeypatch.setattr("amae.comparators.ddad.BATCH", size)
        monkeypatch.setattr("amae.comparators.mask_rec.PART", size)

    threads = torch.get_num_threads()
    set_threads(1)
    yield change
    set_threads(threads)


def largest_difference(path, other):
    """Of two tables of the same images, in any number."""
    tables = [pd.read_csv(each) for each in (path, other)]
    for table in tables:
        assert len(table) > 1
    numbers = [table.select_dtypes("number") for table in tables]
    assert len(numbers[0].columns) > 0
    assert tables[0].drop(columns=numbers[0]).equals(tables[1].drop(columns=numbers[1]))
    return (numbers[0] - numbers[1]).abs().max(axis=None)


@pytest.mark.parametrize(
    ("command", "scores", "others"),
    [
        ("score-stage1", "stage1-scores", []),
        ("reconstruct", "reconstruction-scores", ["maps", "record"]),
    ],
)
def test_scores_of_the_workflow(finished, tmp_path, monkeypatch, otherwise, command, scores, others):
    monkeypatch.chdir(finished.folder)
    words = finished.commands(command)[0]
    before = words[words.index(f"--{scores}") + 1]
    for name in (scores, *others):
        words[words.index(f"--{name}") + 1] = str(tmp_path / name)
    otherwise()
    assert main(words) == 0
    assert largest_difference(before, tmp_path / scores) < TOLERANCE


@pytest.mark.long
def test_scores_of_predict(finished, tmp_path, otherwise):
    manifest = pd.read_csv(finished.results / "manifest.csv")
    # A calibration image ties with itself: there the last bit of a score moves the percentile by a step.
    files = [str(finished.folder / path) for path in manifest.loc[manifest["split"] != "calibration", "path"]]
    words = ["predict", *files, "--model", str(finished.results / "seed0/model.safetensors"), "--output"]
    assert main([*words, str(tmp_path / "as it is")]) == 0
    otherwise()
    assert main([*words, str(tmp_path / "otherwise")]) == 0
    found = [tmp_path / name / "predictions.csv" for name in ("as it is", "otherwise")]
    assert largest_difference(*found) < TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize("method", ["ddad", "anatpaste", "knn", "pu_probe", "mask_rec"])
def test_scores_of_other_methods(finished, tmp_path, monkeypatch, otherwise, method):
    """A method that is trained once, and scored in two ways."""
    monkeypatch.chdir(finished.folder)
    small = {"ddad": ("--ddad.epochs", "1", "--ddad.networks", "2", "--ddad.batch-size", "4")}
    small |= {"anatpaste": ("--anatpaste.image-size", "32", "--anatpaste.epochs", "1", "--anatpaste.updates", "1")}
    small |= {"mask_rec": ("--modules.epochs", "1", "--modules.warmup-epochs", "0")}
    words = ["compare", method, "--protocol", "N" if method == "knn" else "Y", *small.get(method, ())]
    words += [
        "--manifest",
        "out/tiny/manifest.csv",
        "--images",
        "out/tiny/images.npy",
        "--index",
        "out/tiny/images.csv",
    ]
    words += ["--lungs", "out/tiny/lungs.npy", "--weights", "out/tiny/mae.safetensors"]
    for name in ("state", "history", "record", "scores"):
        words += [f"--{name}", str(tmp_path / name)]
    assert main(words) == 0
    otherwise()
    packed = [Path("out/tiny", name) for name in ("manifest.csv", "images.npy", "images.csv")]
    files = {"weights": Path("out/tiny/mae.safetensors"), "lungs": Path("out/tiny/lungs.npy")}
    declared = method_of(method).protocols["N" if method == "knn" else "Y"]
    compare._score(tmp_path / "state", packed, files, tmp_path / "otherwise.csv", 0, torch.device("cpu"), declared)
    assert largest_difference(tmp_path / "scores", tmp_path / "otherwise.csv") < TOLERANCE
