"""Checks that need no label, on mixtures of known shares."""

import numpy as np
import pandas as pd
import pytest
import torch

from amae.commands.check_setting import check_setting
from amae.evaluation.metrics import auc
from amae.evaluation.soundness import anomaly_ratio, auc_of_unlabeled, greatest_auc_p, implied_auc
from amae.mae.checkpoints import write_tensors
from amae.runtime.errors import InputError


def mixture(ratio: float, seed: int, distance: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of 800 normal and 1,000 unlabeled images, and which of these are abnormal."""
    rng = np.random.default_rng(seed)
    abnormal = np.arange(1000) < round(1000 * ratio)
    return rng.normal(size=800), rng.normal(size=1000) + distance * abnormal, abnormal


@pytest.mark.parametrize("ratio", [0, 0.1, 0.3, 0.6, 0.9, 1])
def test_the_anomaly_ratio_of_mixtures_is_found(ratio):
    found = [anomaly_ratio(*mixture(ratio, seed)[:2], seed) for seed in range(3)]
    for estimate, low, high in found:
        assert estimate == pytest.approx(ratio, abs=0.08)
        assert low <= ratio <= high + 0.03


def test_abnormal_images_that_look_normal_are_not_counted():
    normal, unlabeled, _ = mixture(0.6, 0, distance=0)
    assert anomaly_ratio(normal, unlabeled)[0] < 0.1


@pytest.mark.parametrize("ratio", [0.2, 0.6, 1])
def test_auc_p_implies_the_auc_among_the_mixed(ratio):
    normal, unlabeled, abnormal = mixture(ratio, 1, distance=1.5)
    auc_p = auc_of_unlabeled(normal, unlabeled)
    true = auc(np.repeat([0, 1], [800, abnormal.sum()]), np.concatenate([normal, unlabeled[abnormal]]))
    assert implied_auc(auc_p, ratio) == pytest.approx(true, abs=0.03 / ratio)
    assert auc_p < greatest_auc_p(ratio)


def test_a_perfect_score_reaches_the_greatest_auc_p_where_normal_images_tie():
    assert auc_of_unlabeled(np.zeros(10), np.repeat([0, 1], [4, 6])) == pytest.approx(greatest_auc_p(0.6))
    assert implied_auc(greatest_auc_p(0.6), 0.6) == pytest.approx(1)


def test_the_checks_as_a_command(tmp_path, capsys):
    normal, unlabeled, abnormal = mixture(0.6, 3)
    state = {"normal": torch.from_numpy(normal), "unlabeled": torch.from_numpy(unlabeled)}
    about = {"kind": "comparator", "method": "detector", "protocol": "Y", "settings": {}}
    write_tensors(state, tmp_path / "state.safetensors", about)
    check_setting(trained_detector=tmp_path / "state.safetensors", table=tmp_path / "setting.csv", anomaly_ratio=0.6)
    table = pd.read_csv(tmp_path / "setting.csv").set_index("measure")
    assert table.loc["anomaly_ratio", "value"] == pytest.approx(0.6, abs=0.05)
    assert table.loc["auc_of_unlabeled", "value"] == pytest.approx(auc_of_unlabeled(normal, unlabeled))
    true = auc(np.repeat([0, 1], [800, abnormal.sum()]), np.concatenate([normal, unlabeled[abnormal]]))
    assert table.loc["implied_auc", "low"] < true < table.loc["implied_auc", "high"]
    assert capsys.readouterr().err == ""
    check_setting(trained_detector=tmp_path / "state.safetensors", table=tmp_path / "setting.csv", anomaly_ratio=0.2)
    assert "differ by more than disease" in capsys.readouterr().err
    write_tensors({}, tmp_path / "other.safetensors", {"kind": "x"})
    with pytest.raises(InputError, match="not a trained detector"):
        check_setting(trained_detector=tmp_path / "other.safetensors", table=tmp_path / "setting.csv")
