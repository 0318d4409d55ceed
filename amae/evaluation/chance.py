"""What chance gives, to be read beside what was found; and what is found at a threshold, by finding."""

import math

import numpy as np
import pandas as pd

from amae.evaluation.calls import rates_of_calls
from amae.evaluation.tables import CLASSES

DRAWS = 200


def chance_of_chi_square(normal: np.ndarray, abnormal: np.ndarray, bins: int = 100) -> float:
    """Mean of `chi_square_distance` where labels are dealt at random to the same scores.

    Few images leave most of the bins to one image each: the distance of 8 and 8 is then near `bins`, whatever the
    scores. The counts of a class in the bins are drawn without replacement (multivariate hypergeometric), from one
    seed; the classes keep their sizes.
    """
    values = np.concatenate([normal, abnormal]).astype(np.float64)
    low, high = values.min(), values.max()
    if low == high:
        return 0.0
    counts = np.histogram((values - low) / (high - low), bins, range=(0, 1))[0]
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_hypergeometric(counts, len(normal), size=DRAWS)  # (DRAWS, bins)
    p, q = bins * drawn / len(normal), bins * (counts - drawn) / len(abnormal)
    total = p + q
    return float(0.5 * np.mean(np.sum(np.divide((p - q) ** 2, total, where=total > 0, out=np.zeros_like(p)), axis=1)))


def chance_of_purity(truth: pd.Series) -> dict[str, float]:
    """Share of each class among the unlabeled images whose hidden label is known; nan where none is.

    It is the purity of pseudo-labels that are dealt at random.
    """
    known = truth[truth.isin(CLASSES)]
    return {name: float((known == name).mean()) if len(known) else float("nan") for name in CLASSES}


def threshold_of(normal: np.ndarray, specificity: float) -> float:
    """The lowest score of these normal images that no more than 1 - `specificity` of them exceed."""
    return float(np.sort(normal)[place_of(specificity, len(normal)) - 1])


def place_of(specificity: float, count: int) -> int:
    """The least number of `count` images that is a share of them of at least `specificity`."""
    return max(1, math.ceil(round(specificity * count, 9)))  # 0.55 * 180 is 99, not a little more


def sensitivities(images: pd.DataFrame, scores: list[str], specificity: float) -> pd.DataFrame:
    """Sensitivity of each score at a specificity on the same normal images, over all images and in their groups.

    images: label, the scores (float), and view and finding where known. One row for each score and group, with the
    columns of `rates_of_calls` and score.
    """
    found = []
    for name in scores:
        threshold = threshold_of(images.loc[images["label"] == "normal", name].to_numpy(), specificity)
        calls = images.assign(call=np.where(images[name] > threshold, "abnormal", "normal"))
        found.append(rates_of_calls(calls).assign(score=name))
    return pd.concat(found, ignore_index=True)
