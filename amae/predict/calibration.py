"""Scores compared with those of normal images that nothing was trained on (not in the paper).

Nothing here knows a test label: the operating point follows from normal images alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv  # scipy.stats has the same as beta.ppf, and takes longer to load

from amae.evaluation.calls import place_of
from amae.runtime.errors import InputError

SPECIFICITY = 0.95
CONFIDENCE = 0.95


@dataclass(frozen=True)
class OperatingPoint:
    """Images that score above `threshold` are called abnormal.

    `low` and `high`: interval for the share of all such normal images that is called normal (the specificity reached).
    """

    threshold: float
    low: float
    high: float


def percentiles(reference: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each score `(N,)` the share of the reference `(M,)`, in percent, that is no higher."""
    return 100 * np.searchsorted(np.sort(reference), scores, side="right") / len(reference)


def operating_point(reference: np.ndarray, specificity: float = SPECIFICITY) -> OperatingPoint | None:
    """The threshold at a specificity in (0, 1) by the scores `(M,)` of normal images.

    The share of all normal images below their k-th smallest has, whatever their distribution, the law
    Beta(k, M + 1 - k) (order statistics; Wilks 1941), with mean k / (M + 1). So k = ceil(specificity * (M + 1)) reaches
    the specificity on average over calibration sets, as in conformal prediction; the interval has 95 % of the law. Few
    images give a wide one: with 19, the threshold at 0.95 is the largest score, and the interval 0.82 to 1. None with
    so few images that even the largest does not reach it, as with fewer than 19 at 0.95.
    """
    require_specificity(specificity)
    count = len(reference)
    k = place_of(specificity, count + 1)
    tail = (1 - CONFIDENCE) / 2
    if count < needed_images(specificity):
        return None
    low, high = betaincinv(k, count + 1 - k, [tail, 1 - tail])
    return OperatingPoint(float(np.sort(reference)[k - 1]), float(low), float(high))


def require_specificity(specificity: float) -> None:
    """Raise InputError for a specificity that is not in (0, 1)."""
    if not 0 < specificity < 1:
        raise InputError(f"--specificity: found {specificity}, expected more than 0 and less than 1")


def needed_images(specificity: float) -> int:
    """Normal images that a specificity asks for: the largest of n scores has a mean specificity of n / (n + 1)."""
    return math.ceil(round(specificity / (1 - specificity), 9))


def too_few(count: int, specificity: float, of: str) -> str:
    """The reason why `count` normal images give no operating point; "" where they do. `of`: the images, in words."""
    if count >= needed_images(specificity):
        return ""
    return f"a specificity of {specificity:g} needs {needed_images(specificity)} {of}, and the model has {count}"
