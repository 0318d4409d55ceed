"""Percentiles and operating points against other ways to know them."""

import numpy as np
import pytest
from scipy.stats import binom

from amae.evaluation.calls import threshold_of
from amae.predict.calibration import operating_point, percentiles
from amae.runtime.errors import InputError


def test_percentiles_by_hand():
    found = percentiles(np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.5, 1, 1.5, 2, 2.5, 9]))
    assert found.tolist() == [0, 25, 25, 75, 75, 100]


@pytest.mark.parametrize(
    ("count", "specificity", "threshold"),
    [(20, 0.95, 20), (100, 0.95, 96), (19, 0.95, 19), (10, 0.5, 6), (3, 0.01, 1), (179, 0.55, 99)],
)
def test_the_threshold_is_the_smallest_score_that_reaches_the_specificity_on_average(count, specificity, threshold):
    """A new normal score is as likely to fall into each of the count + 1 gaps between those of the calibration."""
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert operating_point(scores, specificity).threshold == threshold
    on_average = np.arange(1, count + 1) / (count + 1)
    assert threshold == 1 + np.argmax(on_average >= specificity - 1e-12)


@pytest.mark.parametrize("count", [19, 20, 25, 100])
def test_new_normal_images_reach_the_specificity_on_average(count):
    rng = np.random.default_rng(count)  # of uniform scores, the share below a threshold is the threshold
    mean = np.mean([operating_point(rng.random(count)).threshold for _ in range(4000)])
    assert 0.949 < mean < 0.972


@pytest.mark.parametrize(("count", "specificity", "threshold"), [(20, 0.95, 19), (100, 0.95, 95), (180, 0.55, 99)])
def test_on_the_same_images_the_threshold_is_the_least_that_reaches_the_specificity(count, specificity, threshold):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert threshold_of(scores, specificity) == threshold
    assert threshold == 1 + np.argmax([(scores <= value).mean() >= specificity for value in np.sort(scores)])


def test_the_interval_by_the_binomial_distribution():
    """P(F(x_k) <= p) is the chance that at least k of n uniform scores are below p."""
    for count, k in ((100, 95), (60, 57), (30, 27)):
        point = operating_point(np.arange(float(count)), (k - 0.5) / (count + 1))
        assert binom.sf(k - 1, count, point.low) == pytest.approx(0.025)
        assert binom.sf(k - 1, count, point.high) == pytest.approx(0.975)


def test_the_interval_holds_the_specificity_reached_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(2000):
        point = operating_point(rng.random(40), 0.9)  # of uniform scores, the share below a threshold is the threshold
        inside.append(point.low <= point.threshold <= point.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("specificity", [0, 1, -0.1, 1.5, float("nan")])
def test_an_impossible_specificity_is_refused(specificity):
    with pytest.raises(InputError, match="--specificity: found"):
        operating_point(np.arange(9.0), specificity)


@pytest.mark.parametrize(("specificity", "needed"), [(0.95, 19), (0.9, 9), (0.5, 1), (0.99, 99)])
def test_with_too_few_images_there_is_no_operating_point(specificity, needed):
    """Of n + 1 images in random order the largest is the last one with probability 1 / (n + 1)."""
    assert operating_point(np.arange(float(needed)), specificity) is not None
    assert needed == 1 or operating_point(np.arange(needed - 1.0), specificity) is None
    assert needed / (needed + 1) >= specificity > (needed - 1) / needed
