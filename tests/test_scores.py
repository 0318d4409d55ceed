"""Scores on maps whose scores are known."""

import numpy as np
import pytest

from amae.method.scores import DESCRIPTIONS, discrepancy_map, reconstruction_scores


def test_known_answers():
    images = np.full((1, 4, 4), 51, np.uint8)  # 0.2
    mu_a = np.full((1, 4, 4), 0.5, np.float32)  # error 0.09
    mu_b = np.full((1, 4, 4), 0.3, np.float32)  # error 0.01
    mu_b[0, :2, :2] = 0.4  # error 0.04 in the first of four patches
    scores = reconstruction_scores(images, mu_a, mu_b, np.array([0.7], np.float32), patch=2).iloc[0]
    assert scores["inter"] == pytest.approx((0.1 + 3 * 0.2) / 4, rel=1e-5)
    assert scores["mask_rec"] == pytest.approx(0.7)
    assert scores["error_ratio"] == pytest.approx(np.log(0.09 / ((0.04 + 3 * 0.01) / 4)), rel=1e-4)
    assert scores["error_ratio_patch"] == pytest.approx((np.log(0.09 / 0.04) + 3 * np.log(9)) / 4, rel=1e-4)


def test_patches_that_were_never_hidden_count_nothing():
    images = np.zeros((1, 4, 4), np.uint8)
    mu_a, mu_b = np.full((2, 1, 4, 4), 0.5, np.float32)
    mu_b = mu_b / 2
    for mu in (mu_a, mu_b):
        mu[0, :2, :2] = np.nan
    scores = reconstruction_scores(images, mu_a, mu_b, np.ones(1), patch=2).iloc[0]
    assert scores["inter"] == pytest.approx(0.25 * 3 / 4)
    assert scores["error_ratio"] == pytest.approx(np.log(4), rel=1e-5)
    assert scores["error_ratio_patch"] == pytest.approx(np.log(4), rel=1e-5)
    assert discrepancy_map(mu_a, mu_b)[0, 0, 0] == 0


def test_a_perfect_reconstruction_by_b_is_finite_and_anomalous():
    images = np.full((1, 4, 4), 255, np.uint8)
    mu_a, mu_b = np.full((1, 4, 4), 0.9, np.float32), np.ones((1, 4, 4), np.float32)
    scores = reconstruction_scores(images, mu_a, mu_b, np.ones(1), patch=2).iloc[0]
    assert np.isfinite(scores).all()
    assert scores["error_ratio"] > 10


def test_every_score_is_described():
    scores = reconstruction_scores(np.zeros((1, 2, 2), np.uint8), *np.ones((2, 1, 2, 2), np.float32), np.ones(1), 2)
    assert {"detector", "stage1", *scores} == set(DESCRIPTIONS)
