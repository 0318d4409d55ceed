"""Metrics of a score, normal against abnormal images: AUC, average precision, chi-square distance, intervals.

Importing scikit-learn takes two seconds, so only those wait for it who ask for a metric.
"""

from collections.abc import Callable

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; labels (N,) with 1 for abnormal, scores (N,) higher for more abnormal. In [0, 1]."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision, the precision averaged over steps of recall without interpolation. In [0, 1]."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores))


def chi_square_distance(normal: np.ndarray, abnormal: np.ndarray, bins: int = 100) -> float:
    """Chi-square distance between the histograms of two sets of scores, 0.5 * sum (p - q)^2 / (p + q).

    The scores of both classes together are scaled to [0, 1]; p and q are densities over `bins` equal bins, so the
    distance runs from 0 (same histogram) to `bins` (no bin in common). Scores that are all equal are 0 apart.
    """
    low, high = min(normal.min(), abnormal.min()), max(normal.max(), abnormal.max())
    if low == high:
        return 0.0
    p, q = (
        np.histogram((np.asarray(part, np.float64) - low) / (high - low), bins, range=(0, 1), density=True)[0]
        for part in (normal, abnormal)
    )
    used = p + q > 0
    return float(0.5 * np.sum((p - q)[used] ** 2 / (p + q)[used]))


def bootstrap_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    metric: Callable[[np.ndarray, np.ndarray], float],
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval over images of `auc` or `average_precision`.

    scores: (N,), or (S, N) for S replicates of a score, such as trainings of several seeds; the interval is then that
    of the mean of their S values; a resample consists of the same images for all of them. Normal and abnormal images
    are resampled separately, so that every resample has both classes in their numbers. The same seed gives the same
    resamples. Raises KeyError for any other metric.
    """
    resampled_metric = {auc: _resampled_auc, average_precision: _resampled_average_precision}[metric]
    values = [
        resampled_metric(*_resample(np.asarray(labels), replicate, resamples, seed))
        for replicate in np.atleast_2d(scores)
    ]
    low, high = np.percentile(np.mean(values, axis=0), [2.5, 97.5])
    return float(low), float(high)


def _resample(labels: np.ndarray, scores: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of normal and of abnormal images at each distinct score, from the highest down: two (resamples, K) arrays.

    AUC and average precision depend on these counts only, so all resamples are evaluated at once. Which images are
    drawn depends on the labels and the seed, not on the scores.
    """
    rng = np.random.default_rng([seed])
    levels, level = np.unique(-scores, return_inverse=True)
    row_starts = np.arange(resamples)[:, None] * len(levels)
    counts = []
    for label in (0, 1):
        members = level[labels == label]
        drawn = members[rng.integers(len(members), size=(resamples, len(members)))]
        flat = np.bincount((drawn + row_starts).ravel(), minlength=resamples * len(levels))
        counts.append(flat.reshape(resamples, len(levels)))
    return counts[0], counts[1]


def _resampled_auc(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Share of normal-abnormal pairs in which the abnormal image scores higher, a tie counting half. (R, K) -> (R,)."""
    abnormal_above = np.cumsum(abnormal, axis=1) - 0.5 * abnormal
    pairs = normal[0].sum() * abnormal[0].sum()
    return (normal * abnormal_above).sum(axis=1) / pairs


def _resampled_average_precision(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Sum over distinct scores of (step of recall) * (precision at that score). (R, K) -> (R,)."""
    true_positives = np.cumsum(abnormal, axis=1)
    positives = np.cumsum(normal + abnormal, axis=1)
    precision = true_positives / np.maximum(positives, 1)  # levels above the first drawn image add no recall
    return (abnormal * precision).sum(axis=1) / abnormal[0].sum()
