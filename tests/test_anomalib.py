"""Models of anomalib as comparators; those that train are skipped where the extra of that name is not installed."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from project import ROOT
from sklearn.metrics import roc_auc_score
from test_comparators import draw, write_data_set
from test_installed import words_of

from amae.cli import main
from amae.comparators import methods
from amae.comparators.interface import TestData, TrainingData
from amae.comparators.settings import AnomalibSettings
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.training import Resume
from amae.plan import compared
from amae.plan.check import check
from amae.runtime.errors import InputError

NAME = "anomalib:Padim"
SMALL = AnomalibSettings(image_size=64, batch_size=8, pre_trained=False)
needs_anomalib = pytest.mark.skipif(not find_spec("anomalib"), reason="the optional extra anomalib is not installed")


def configured(name: str) -> dict:
    """The project's configuration with one comparator."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["experiments"]["comparators"] = [name]
    config["presets"]["demo"]["comparators"] = {name: {"image_size": 64, "pre_trained": False}}
    return config


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(methods, "of_anomalib", dict)
    monkeypatch.setattr("amae.plan.check.of_anomalib", dict)
    with pytest.raises(InputError, match=r"'anomalib:Padim': models of anomalib need .* `uv sync --extra anomalib`"):
        methods.method_of(NAME)
    config = configured(NAME)
    del config["presets"]["demo"]["comparators"]
    with pytest.raises(InputError, match=r"experiments\.comparators: found 'anomalib:Padim', models of anomalib need"):
        check(config)


@needs_anomalib
def test_its_models_are_names_of_the_configuration_and_none_is_imported():
    found = methods.of_anomalib()
    assert {NAME, "anomalib:Patchcore", "anomalib:EfficientAd"} <= found.keys()
    config = configured(NAME)
    check(config)
    assert compared.method_settings(config, "", NAME) == (
        "--anomalib.image-size 64 --anomalib.epochs 100 --anomalib.batch-size 32 --anomalib.no-pre-trained"
    )
    assert methods.code_of(NAME) != methods.code_of("anomalib:Patchcore")
    with pytest.raises(InputError, match="'anomalib:Pad': expected one of"):
        methods.method_of("anomalib:Pad")


@needs_anomalib
def test_finds_squares_from_random_weights_and_scores_each_image_by_itself(tmp_path):
    method, normal = methods.method_of(NAME), draw(32, 0, False)
    images, resume = torch.cat([draw(30, 3, False), draw(30, 4, True)]), Resume(tmp_path / "x/training.pt", "")
    state, history = method.fit(TrainingData(normal, normal[:0]), SMALL, 0, resume)
    again, _ = method.fit(TrainingData(normal, normal[:0]), SMALL, 0, resume)
    assert all(torch.equal(state[key], again[key]) for key in state) and len(history) == 1
    scores = method.score(state, TestData(images), SMALL)["score"]
    assert scores.shape == (60,) and roc_auc_score([0] * 30 + [1] * 30, scores) > 0.9
    three = method.score(state, TestData(images[[41, 3, 29]]), SMALL)["score"]
    torch.testing.assert_close(three, scores[[41, 3, 29]], atol=1e-5, rtol=1e-5)


@needs_anomalib
def test_the_command_trains_and_scores(tmp_path, capsys):
    encoder = MAE(Architecture(64, 16, 16, 1, 2, 16, 1, 2))
    few = TrainingData(draw(8, 0, False), draw(8, 1, True), encoder=encoder)
    write_data_set(tmp_path / "data", few, ["normal"] * 4 + ["abnormal"] * 4)
    words = [str(word) for key, value in words_of(tmp_path / "data").items() for word in (f"--{key}", value)]
    assert main(["compare", NAME, *words, "--anomalib.image-size", "64", "--anomalib.no-pre-trained"]) == 0
    assert pd.read_csv(tmp_path / "data/scores.csv")[NAME].notna().all()
    assert not (tmp_path / "data/state").exists() and not Path("results/Padim").exists()
    assert main(["compare", "anomalib:Ganomaly", *words, "--anomalib.no-pre-trained"]) == 2
    assert "pre_trained: found false, but anomalib:Ganomaly has no such choice" in capsys.readouterr().err
