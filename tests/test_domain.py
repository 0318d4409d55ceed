"""What is unlike the training images: distances, masks, drift of a folder."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.covariance import LedoitWolf

from amae.method.features import fit_gaussian
from amae.predict.domain import (
    DRIFT,
    distance_limit,
    distances,
    drift_warnings,
    held_out_distances,
    image_flags,
)

SHARES = {"empty": 0.0, "implausible": 0.2}


@pytest.fixture
def features() -> np.ndarray:
    """Correlated features of 300 images."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)) + 5


def test_distances_are_those_of_scikit_learn(features):
    found = distances(features[:20], *fit_gaussian(features))
    np.testing.assert_allclose(found**2, LedoitWolf().fit(features).mahalanobis(features[:20]))


def test_held_out_distances_come_from_the_other_images_only(features):
    few = features[:8]
    found = held_out_distances(few, [f"p{n}" for n in range(8)])
    for place in range(8):
        others = np.delete(few, place, 0)
        assert found[place] == pytest.approx(distances(few[[place]], *fit_gaussian(others))[0])
    of_two = held_out_distances(few, ["a"] * 4 + ["b"] * 4)
    np.testing.assert_allclose(of_two[:4], distances(few[:4], *fit_gaussian(few[4:])))


def test_images_of_one_patient_are_held_out_one_by_one(features, capsys):
    alone = held_out_distances(features, [str(n) for n in range(len(features))])
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(held_out_distances(features, ["ANON"] * len(features)), alone)
    assert "warning: all training images have the same patient_id" in capsys.readouterr().err


def test_held_out_distances_are_like_those_of_new_images(features):
    """The distances of the images that were fitted are smaller, which is why they are not the reference."""
    train, new = features[:60], features[60:]
    fitted = fit_gaussian(train)
    held_out = held_out_distances(train, [str(n) for n in range(60)])
    expected = np.median(distances(new, *fitted))
    assert abs(np.median(held_out) - expected) < abs(np.median(distances(train, *fitted)) - expected) / 2


def test_the_limit():
    assert distance_limit(np.arange(300.0)) == 299
    assert distance_limit(np.arange(10000.0)) == pytest.approx(9990, abs=1)


def test_a_mask_counts_only_where_it_is_rare_in_training():
    table = pd.DataFrame({"mask": ["", "empty", "implausible", "empty"], "distance": [1.0, 1.0, 1.0, 9.0]})
    assert image_flags(table, 5.0, SHARES) == ["", "no lungs found", "", "no lungs found; unlike the training images"]
    assert image_flags(table, 5.0, {"empty": 0.02, "implausible": 0.01})[1:3] == ["", "implausible lungs"]


def test_drift():
    rng = np.random.default_rng(0)
    reference = {"intensity": rng.normal(100, 9, 500), "coverage": rng.random(500), "distance": rng.normal(9, 1, 500)}
    alike = pd.DataFrame(
        {"intensity": rng.normal(100, 9, 90), "coverage": rng.random(90), "distance": rng.normal(9, 1, 90)}
    )
    assert drift_warnings(alike, reference) == []
    found = drift_warnings(alike.assign(intensity=alike["intensity"] + 12), reference)
    assert len(found) == 1
    assert found[0].startswith("mean grey level: median 11")
    assert "in the training images (p = " in found[0]
    assert drift_warnings(alike.head(9).assign(intensity=999.0), reference) == []  # too few to tell


def test_false_drift_is_rare():
    rng = np.random.default_rng(2)
    reference = dict.fromkeys(["intensity", "coverage", "distance"], rng.random(400))
    warned = sum(
        bool(drift_warnings(pd.DataFrame(rng.random((50, 3)), columns=list(reference)), reference)) for _ in range(200)
    )
    assert warned <= 2  # 0.001 of 200 is a fifth


def test_the_p_value_counts_that_there_are_several_measures():
    reference = dict.fromkeys(["intensity", "coverage", "distance"], np.arange(400) / 400)
    here = pd.DataFrame(dict.fromkeys(reference, np.arange(300) / 300))
    shifted = [here.assign(distance=here["distance"] + shift) for shift in np.linspace(0, 0.3, 200)]
    p = np.array([ks_2samp(table["distance"], reference["distance"], method="asymp").pvalue for table in shifted])
    assert ((p < DRIFT) & (3 * p >= DRIFT)).any()
    np.testing.assert_array_equal([bool(drift_warnings(table, reference)) for table in shifted], 3 * p < DRIFT)
