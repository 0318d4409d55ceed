"""The share of abnormal images in T_u, estimated without labels.

Source: Garg et al. 2021, "Mixture proportion estimation and PU learning: a modern approach" (best bin estimation).
"""

import math

import numpy as np

CONFIDENCE = 0.1  # of the bound: it fails with at most this probability
MARGIN = 0.01  # by how much that bound discounts every bin; both as published


def estimated_ratio(normal: np.ndarray, unlabeled: np.ndarray) -> float:
    """Estimate of the anomaly ratio of T_u, in [0, 1], from scores `(N,)` and `(M,)` that are higher for T_u.

    Among the images below a threshold, the share of T_u over the share of the normal images bounds the normal part of
    T_u from above; the threshold whose bound with its error is least is taken. Where every bin contains abnormal images
    the estimate is too low: it counts those that the score separates from normal ones.
    """
    thresholds = np.unique(normal)
    of_normal, of_unlabeled = (
        np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores) for scores in (normal, unlabeled)
    )
    error = sum(math.sqrt(math.log(4 / CONFIDENCE) / (2 * len(scores))) for scores in (normal, unlabeled))
    best = np.argmin((of_unlabeled + (1 + MARGIN) * error) / of_normal)
    return float(1 - min(1.0, of_unlabeled[best] / of_normal[best]))
