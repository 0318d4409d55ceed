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


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("what", ["permuted", "deleted"])
def test_weights_and_scores_do_not_depend_on_the_hidden_labels(finished, tmp_path, monkeypatch, what):
    project = finished.copy(tmp_path / "project")
    path = project.results / "hidden_labels.csv"
    hidden = read_csv(path)
    if what == "permuted":
        other = hidden.assign(label=np.roll(hidden["label"], 3))
        assert (other["label"] != hidden["label"]).any()
        write_csv(other, path)
    else:
        write_csv(hidden[:0], path)
        (project.results / "raw/labels.csv").unlink()
        (project.results / "raw/boxes.csv").unlink()
    for name in RESULTS:
        (project.results / name).unlink()

    monkeypatch.chdir(project.folder)
    for words in finished.commands(*TRAINING):
        assert main(words) == 0
    for name in RESULTS:
        assert (project.results / name).read_bytes() == (finished.results / name).read_bytes(), name


def test_only_the_diagnosis_is_given_the_hidden_labels(finished):
    users = {words[0] for words in finished.commands() if any("hidden_labels" in word for word in words)}
    assert users == {"index", "diagnose-pseudo-labels"}
    inputs = dict(re.findall(r"^(?:local)?rule (\w+):\n +input: (.+)$", finished.output, re.M))
    assert {"train_stage1", "train_module", "reconstruct_test", "compute_metrics"} <= inputs.keys()
    assert [rule for rule, files in inputs.items() if "hidden_labels" in files] == ["diagnose_pseudo_labels"]
    labelled = [rule for rule, files in inputs.items() if "labels.csv" in files.replace("pseudo_labels.csv", "")]
    assert set(labelled) <= {"list_images", "index_images", "diagnose_pseudo_labels"}
