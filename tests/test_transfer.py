"""Models of one data set on the test images of others: the pairs, the matrix, and the rules behind it."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT
from sklearn.metrics import roc_auc_score

from amae.cli import main
from amae.plan import transfer
from amae.runtime.errors import InputError

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def scores_of(seed: int, shift: float) -> pd.DataFrame:
    """Scores of 40 images whose classes are `shift` apart."""
    labels = np.arange(40) % 2
    values = np.random.default_rng(seed).normal(shift * labels, 1)
    about = {"image_id": [f"i{i}" for i in range(40)], "label": np.where(labels, "abnormal", "normal")}
    return pd.DataFrame({**about, "detector": values, "inter": -values})


def test_a_data_set_without_unlabeled_images_is_tested_on_only():
    config = CONFIG | {"results": "out/", "seeds": [0, 3]}
    pairs = transfer.folders_of_pairs(config)
    assert list(pairs) == [(a, b) for a in ("rsna", "vindr") for b in ("rsna", "vindr", "nih")]
    assert pairs["rsna", "nih"] == ["out/nih/transfer/rsna_seed0", "out/nih/transfer/rsna_seed3"]
    assert len(transfer.folders(config)) == 12 and transfer.matrix(config) == ["out/transfer.md"]
    first = json.loads(transfer.evaluations_option(config))[1]
    assert (first["trained"], first["tested"]) == ("rsna", "vindr")
    assert first["scores"][1] == "out/vindr/transfer/rsna_seed3/scores.csv"
    alone = config | {"experiments": config["experiments"] | {"transfer": ["nih"]}}
    assert transfer.matrix(alone) == []


def test_the_score_auto_is_refused_in_the_plan_without_calibration_images():
    model = "results/rsna/seed3/model.safetensors"
    assert transfer.model_of(CONFIG, "rsna", "3") == model
    with pytest.raises(InputError, match=r"key predict\.score: found auto, .* data set rsna has none"):
        transfer.model_of(CONFIG | {"predict": {"score": "auto"}}, "rsna", "3")


@pytest.fixture
def evaluations(tmp_path) -> list[dict]:
    """Scores of two models on two data sets, two seeds each; each pair with another distance of the classes."""
    pairs = {("b", "b"): 3.0, ("b", "a"): 1.5, ("a", "b"): 0.5, ("a", "a"): 2.0}
    found = []
    for place, ((trained, tested), shift) in enumerate(pairs.items()):
        files = [tmp_path / f"{trained}_{tested}_{seed}.csv" for seed in (0, 1)]
        for seed, path in enumerate(files):
            scores_of(10 * place + seed, shift).to_csv(path, index=False)
        found.append({"trained": trained, "tested": tested, "scores": [str(path) for path in files]})
    return found


def test_each_cell_is_the_auc_of_its_pair(evaluations, tmp_path):
    words = ["--evaluations", json.dumps(evaluations), "--table", tmp_path / "t.csv", "--markdown", tmp_path / "t.md"]
    assert main(["tabulate-transfer", *map(str, words)]) == 0
    table = pd.read_csv(tmp_path / "t.csv").set_index(["trained", "tested", "score"])
    lines = (tmp_path / "t.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    assert cells[0] == ["Score", "Trained on", "tested on b", "tested on a"]
    assert [row[:2] for row in cells[2:]] == [["detector", "b"], ["detector", "a"], ["inter", "b"], ["inter", "a"]]
    labels = np.arange(40) % 2
    for each in evaluations:
        pair = (each["trained"], each["tested"])
        expected = np.mean([roc_auc_score(labels, pd.read_csv(path)["detector"]) for path in each["scores"]])
        assert table.loc[(*pair, "detector"), "auc_mean"] == pytest.approx(expected)
        row, column = (next(row for row in cells if row[:2] == ["detector", pair[0]]), 2 + "ba".index(pair[1]))
        assert row[column].startswith(f"{100 * expected:.1f} ")


def test_wrong_evaluations_are_named(evaluations, tmp_path, capsys):
    for text, message in [
        ("[3]", "--evaluations: 3; expected the keys trained, tested and scores"),
        ("[]", "--evaluations: no pair of data sets given"),
        (json.dumps([evaluations[0] | {"scores": ["none.csv"]}]), "none.csv: no such file"),
    ]:
        words = ["--evaluations", text, "--table", tmp_path / "t.csv", "--markdown", tmp_path / "t.md"]
        assert main(["tabulate-transfer", *map(str, words)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.long
def test_the_workflow_measures_a_model_on_its_own_test_images_as_before(finished, tmp_path):
    """The scores without masks are those of the workflow, through other code: files, not packed arrays."""
    project = finished.copy(tmp_path / "project")
    status, output = project.run("transfer")
    assert status == 0, output
    again = pd.read_csv(project.results / "transfer/tiny_seed0/metrics.csv").set_index(["group", "score"])
    before = pd.read_csv(project.results / "seed0/metrics.csv").set_index(["group", "score"])
    for score in ("detector", "stage1"):
        assert again.loc[("all", score), "auc"] == pytest.approx(before.loc[("all", score), "auc"], abs=0.011)
    assert (project.folder / "out/transfer.md").read_text().count("tested on tiny") == 1
    assert len(pd.read_csv(project.results / "transfer/tiny_seed0/calls.csv")) == 20
    assert project.run("transfer", "--dry-run")[1].count("Nothing to be done") == 1
