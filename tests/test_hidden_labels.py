"""No hidden label reaches training: once T_u is composed, its labels can be permuted or deleted without a trace."""

import re

import numpy as np
import pytest

from amae.cli import main
from amae.runtime.files import read_csv, write_csv

TRAINING = (
    "pretrain",
    "import-weights",
    "train-stage1",
    "score-stage1",
    "export-pseudo-labels",
    "train-module",
    "reconstruct",
    "compute-metrics",
)
RESULTS = [
    "pretraining/mae.safetensors",
    "mae.safetensors",
    "seed0/stage1/head.safetensors",
    "seed0/stage1/scores.csv",
    "seed0/pseudo_labels.csv",
    "seed0/module_A/mae.safetensors",
    "seed0/module_B/mae.safetensors",
    "seed0/reconstruction/scores.csv",
    "seed0/reconstruction/maps.npz",
    "seed0/scores.csv",
    "seed0/metrics.csv",
]


def changed(hidden, what):
    """Other labels of the same images."""
    if what == "deleted":
        return hidden.assign(label="")
    other = hidden.assign(label=np.roll(hidden["label"], 3))
    assert (other["label"] != hidden["label"]).any()
    return other


def train_again(finished, folder, monkeypatch, what):
    """Every training on the same sets, from a table in which T_u has other labels; results that differ from before.

    The table of the data set names the splits and contains every label, those of T_u too, as a person's own may.
    """
    project = finished.copy(folder)
    table = read_csv(project.results / "raw/labels.csv").set_index("image_id")
    manifest = read_csv(project.results / "manifest.csv").set_index("image_id")
    hidden = changed(read_csv(project.results / "hidden_labels.csv"), what).set_index("image_id")
    table = table.loc[manifest.index].assign(split=manifest["split"])
    table.loc[hidden.index, "label"] = hidden["label"]
    assert (table.loc[hidden.index, "split"] == "train_unlabeled").all()
    write_csv(table.reset_index(), project.results / "raw/labels.csv")
    for name in RESULTS:
        (project.results / name).unlink()
    monkeypatch.chdir(project.folder)
    for words in finished.commands("index", *TRAINING):
        if words[0] == "index":
            words = words[: words.index("--splits.train-normal")]  # the table names the splits
        assert main(words) == 0
    left = read_csv(project.results / "hidden_labels.csv")
    assert left["label"].tolist() == [label for label in hidden["label"] if label]
    return [name for name in RESULTS if (project.results / name).read_bytes() != (finished.results / name).read_bytes()]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("what", ["permuted", "deleted"])
def test_weights_and_scores_do_not_depend_on_the_hidden_labels(finished, tmp_path, monkeypatch, what):
    assert train_again(finished, tmp_path / "project", monkeypatch, what) == []


@pytest.mark.usefixtures("one_thread")
def test_a_leak_would_show(finished, tmp_path, monkeypatch):
    """The test above can fail: here the trainings of the modules peek at the table of the data set."""
    from amae.commands import train_module

    def peek(module, chosen, pseudo, settings):
        table = read_csv("out/tiny/raw/labels.csv")
        wanted = set(table.loc[table["label"] == ("normal" if module == "A" else "abnormal"), "image_id"])
        return [image_id for image_id in chosen["image_id"] if image_id in wanted]

    monkeypatch.setattr(train_module, "training_images", peek)
    project = finished.copy(tmp_path / "peeked")  # as it would have been made by such code
    monkeypatch.chdir(project.folder)
    for words in finished.commands("train-module", "reconstruct", "compute-metrics"):
        assert main(words) == 0
    found = train_again(project, tmp_path / "project", monkeypatch, "permuted")
    assert {"seed0/module_A/mae.safetensors", "seed0/module_B/mae.safetensors", "seed0/scores.csv"} <= {*found}


def test_only_the_diagnosis_is_given_the_hidden_labels(finished):
    users = {words[0] for words in finished.commands() if any("hidden_labels" in word for word in words)}
    assert users == {"index", "diagnose-pseudo-labels"}
    inputs = dict(re.findall(r"^(?:local)?rule (\w+):\n +input: (.+)$", finished.output, re.M))
    assert {"train_stage1", "train_module", "reconstruct_test", "compute_metrics"} <= inputs.keys()
    assert [rule for rule, files in inputs.items() if "hidden_labels" in files] == ["diagnose_pseudo_labels"]
    labelled = [rule for rule, files in inputs.items() if "labels.csv" in files.replace("pseudo_labels.csv", "")]
    assert set(labelled) <= {"list_images", "index_images", "diagnose_pseudo_labels"}
