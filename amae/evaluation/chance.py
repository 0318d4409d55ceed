"""What chance gives, to be read beside what was found."""

import numpy as np
import pandas as pd

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
