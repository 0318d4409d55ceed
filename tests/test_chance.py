"""Levels of chance, and sensitivities at a threshold."""

import numpy as np
import pandas as pd
import pytest

from amae.evaluation.calls import sensitivities, threshold_of
from amae.evaluation.chance import chance_of_chi_square, chance_of_purity
from amae.evaluation.metrics import chi_square_distance


@pytest.mark.parametrize(("normal", "abnormal"), [(8, 8), (30, 50), (400, 300)])
def test_chi_square_of_chance_is_that_of_shuffled_labels(normal, abnormal):
    rng = np.random.default_rng(normal)
    values = np.concatenate([rng.normal(size=normal), rng.normal(2, size=abnormal)])
    shuffled = [rng.permutation(values) for _ in range(400)]
    expected = np.mean([chi_square_distance(each[:normal], each[normal:]) for each in shuffled])
    assert chance_of_chi_square(values[:normal], values[normal:]) == pytest.approx(expected, rel=0.03)


def test_few_images_are_far_apart_by_chance_and_equal_ones_are_not():
    rng = np.random.default_rng(0)
    assert chance_of_chi_square(*rng.normal(size=(2, 8))) > 80
    assert chance_of_chi_square(np.ones(5), np.ones(4)) == chi_square_distance(np.ones(5), np.ones(4)) == 0


def test_purity_of_chance_is_the_share_of_the_class():
    found = chance_of_purity(pd.Series(["normal", "abnormal", "abnormal", "abnormal", "unknown"]))
    assert found == {"normal": 0.25, "abnormal": 0.75}
    assert np.isnan(chance_of_purity(pd.Series(["unknown"]))["normal"])


def test_sensitivity_is_counted_above_the_threshold():
    normal = np.arange(20.0)
    assert threshold_of(normal, 0.95) == 18  # one of twenty exceeds it
    images = pd.DataFrame(
        {
            "label": ["normal"] * 20 + ["abnormal"] * 30,
            "finding": [""] * 20 + ["nodule"] * 10 + ["effusion"] * 20,
            "score": [*normal, *[18.0] * 6, *[18.5] * 4, *[30.0] * 20],
        }
    )
    found = sensitivities(images, ["score"], 0.95).set_index("group")["sensitivity"]
    assert found.to_dict() == {"all": 24 / 30, "finding=effusion": 1.0, "finding=nodule": 0.4}
