"""Checks that need no label, on mixtures of known shares."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from amae.commands.check_setting import check_setting as command
from amae.evaluation.metrics import auc
from amae.evaluation.soundness import (
    anomaly_ratio,
    auc_of_unlabeled,
    auc_p_interval,
    differences,
    fault,
    greatest_auc_p,
    implied_auc,
    implied_with_interval,
)
from amae.mae.checkpoints import write_tensors
from amae.method.mixture import estimated_ratio
from amae.runtime.errors import InputError


def mixture(ratio: float, seed: int, distance: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of 800 normal and 1,000 unlabeled images, and which of these are abnormal."""
    rng = np.random.default_rng(seed)
    abnormal = np.arange(1000) < round(1000 * ratio)
    return rng.normal(size=800), rng.normal(size=1000) + distance * abnormal, abnormal


@pytest.mark.parametrize("ratio", [0, 0.1, 0.3, 0.6, 0.9, 1])
def test_the_anomaly_ratio_of_mixtures_is_found(ratio):
    found = [anomaly_ratio(*mixture(ratio, seed)[:2]) for seed in range(3)]
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


def test_the_auc_implied_by_an_estimated_ratio_has_an_interval_with_the_ratios_own_error():
    normal, unlabeled, abnormal = (part[::4] for part in mixture(0.6, 3))
    true = auc(np.repeat([0, 1], [200, abnormal.sum()]), np.concatenate([normal, unlabeled[abnormal]]))
    estimated = anomaly_ratio(normal, unlabeled)
    value, low, high = implied_with_interval(normal, unlabeled, estimated)
    assert 0 <= low < true < high <= 1
    assert value == pytest.approx(implied_auc(auc_of_unlabeled(normal, unlabeled), estimated[0]))
    ends = [implied_auc(each, estimated[0]) for each in auc_p_interval(normal, unlabeled)[1:]]
    rng, together = np.random.default_rng(1), []
    for _ in range(500):
        pair = rng.choice(normal, len(normal)), rng.choice(unlabeled, len(unlabeled))
        together.append(min(1, implied_auc(auc_of_unlabeled(*pair), estimated_ratio(*pair))))
    assert (low, high) == pytest.approx(np.percentile(together, [2.5, 97.5]), abs=0.02)
    assert ends[1] > 1  # what AUCp alone gives


def test_a_ratio_that_may_be_0_implies_no_auc():
    normal, unlabeled, _ = mixture(0, 0)
    estimated = anomaly_ratio(normal, unlabeled)
    assert estimated[1] == 0 and implied_with_interval(normal, unlabeled, estimated) == (None, None, None)


def test_a_perfect_score_reaches_the_greatest_auc_p_where_normal_images_tie():
    assert auc_of_unlabeled(np.zeros(10), np.repeat([0, 1], [4, 6])) == pytest.approx(greatest_auc_p(0.6))
    assert implied_auc(greatest_auc_p(0.6), 0.6) == pytest.approx(1)


def test_columns_that_differ_between_the_sets_are_found():
    unlabeled = np.repeat([False, True], [40, 60])
    known = pd.DataFrame({"view": ["PA"] * 40 + ["AP"] * 45 + ["PA"] * 15, "sex": ["M", "F"] * 50})
    known["age"] = [str(100 - row) for row in range(100)]
    known.loc[3, "age"], known["empty"], known["same"] = "", "", 7
    found = differences(known, unlabeled)
    assert list(found) == ["age", "view", "sex", "same"]
    assert found == pytest.approx({"age": 1, "view": (0.75 + 1) / 2, "sex": 0.5, "same": 0.5})


def test_ages_that_are_no_numbers_separate_nothing():
    unlabeled = np.repeat([False, True], 20)
    assert differences(pd.DataFrame({"age": [f"19{year}-05-01" for year in range(40, 80)]}), unlabeled) == {}


def test_ages_of_dicom_are_numbers_and_separate_nothing_by_being_many():
    ages = np.random.default_rng(0).integers(20, 90, 200)
    unlabeled = np.arange(200) < 100
    found = [
        differences(pd.DataFrame({"age": form}), unlabeled) for form in (ages.astype(str), [f"{a:03}Y" for a in ages])
    ]
    assert found[0] == found[1] and found[0]["age"] < 0.6


@pytest.mark.parametrize(
    ("ratio", "stated", "distance", "found", "wide"),
    [
        (0.6, 0.6, 3, "", False),
        (0.6, None, 3, "", False),
        (1.0, 1.0, 9, "", False),
        (0.75, 0.6, 9, "explains at most 0.800", False),
        (1.0, 0.6, 9, "explains at most 0.800", True),
        (1.0, None, 9, "or more are abnormal, with no anomaly ratio stated", True),
    ],
)
def test_a_t_u_of_another_origin_is_refused_and_a_sound_one_is_not(ratio, stated, distance, found, wide):
    normal, unlabeled, _ = mixture(ratio, 0, distance)
    said = fault(auc_p_interval(normal, unlabeled), anomaly_ratio(normal, unlabeled), stated, {"rows": 1.0})
    assert bool(said[0]) == bool(found) and found in said[0] and said[1] == wide
    if found:
        assert "separates them by rows 1.00" in said[0]


def test_the_checks_as_a_command(tmp_path, capsys):
    split = np.repeat(["train_normal", "train_unlabeled"], [800, 1000])
    manifest = pd.DataFrame({"image_id": [f"i{n:04}" for n in range(1800)], "split": split})
    manifest["path"], manifest["label"] = manifest["image_id"] + ".png", np.where(split == "train_normal", "normal", "")
    manifest["patient_id"], manifest["view"] = "", np.where(split == "train_normal", "PA", "AP")
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    index = manifest[["image_id"]].assign(rows=64, columns=64, scale_x=1, scale_y=1, offset_x=0, offset_y=0)
    index.to_csv(tmp_path / "images.csv", index=False)
    np.save(tmp_path / "images.npy", np.zeros((1800, 8, 8), np.uint8))
    packed = {"manifest": "manifest.csv", "images": "images.npy", "index": "images.csv"}
    packed = {name: tmp_path / file for name, file in packed.items()}
    check_setting = partial(command, **packed)
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
    checked = {"trained_detector": tmp_path / "state.safetensors", "table": tmp_path / "setting.csv"}
    check_setting(**checked)
    estimated = pd.read_csv(tmp_path / "setting.csv").set_index("measure").loc["implied_auc"]
    assert estimated.tolist() == pytest.approx(
        implied_with_interval(normal, unlabeled, anomaly_ratio(normal, unlabeled))
    )
    scores = {"normal": state["normal"], "unlabeled": torch.from_numpy(mixture(0, 4)[1])}
    write_tensors(scores, tmp_path / "alike.safetensors", about)
    check_setting(trained_detector=tmp_path / "alike.safetensors", table=tmp_path / "setting.csv")
    assert pd.read_csv(tmp_path / "setting.csv").set_index("measure").loc["implied_auc"].isna().all()
    capsys.readouterr()
    check_setting(**checked, anomaly_ratio=0.5)
    assert "an anomaly ratio of 0.5 explains at most 0.750: the sets differ" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"view 1\.00, intensity 0\.50, .* set accept_differences: true"):
        check_setting(**checked, anomaly_ratio=0.02)
    check_setting(**checked, anomaly_ratio=0.02, accept_differences=True)
    warned = capsys.readouterr().err
    assert "differ by more than disease; what is known of the images separates them by view 1.00, intensity" in warned
    assert "some 20 of the 1000 images of T_u are abnormal (anomaly ratio 0.02); with fewer than 60" in warned
    table = pd.read_csv(tmp_path / "setting.csv").set_index("measure")
    assert table.loc["auc_of_unlabeled_by_view", "value"] == 1
    write_tensors({}, tmp_path / "other.safetensors", {"kind": "x"})
    with pytest.raises(InputError, match="not a trained detector"):
        check_setting(trained_detector=tmp_path / "other.safetensors", table=tmp_path / "setting.csv")
