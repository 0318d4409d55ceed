"""Images compared with those that a model was trained on (not in the paper).

One image is held against the training images by the distance of its features and by its lung mask, a folder of them by
the distributions of intensity, lung coverage and distance. The training images are T_n and T_u: what comes to a
hospital contains abnormal radiographs too, and labels play no part.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

FOLDS = 10
RARE = 0.01  # a lung mask counts against an image where at most this share of the training images has such a mask
QUANTILE = 0.999  # of the training images' distances
DRIFT = 0.001  # p, over all measures together
FOLDER = 10  # scored images; the p-values of fewer are not to be trusted
MEASURES = {"intensity": "mean grey level", "coverage": "lung coverage", "distance": "distance of the features"}
MASKS = {"empty": "no lungs found", "implausible": "implausible lungs"}


def distances(features: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Mahalanobis distances `(N,)` of features `(N, D)`; one by one, so that none depends on the others."""
    offsets = np.asarray(features, np.float64) - mean
    return np.sqrt([max((offset @ precision) @ offset, 0) for offset in offsets])


def held_out_distances(features: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Distances `(N,)` of training images `(N, D)`, each from the others only, as a new image's would be.

    Images of one group (a patient) are held out together, in ten folds. Where all are of one group, each
    image counts as a group of its own.
    """
    from sklearn.model_selection import GroupKFold  # seconds to load, and a card needs neither

    from amae.method.features import fit_gaussian

    if len(set(groups)) < 2:
        print("warning: all training images have the same patient_id; it is taken for unknown", file=sys.stderr)
        groups = [str(place) for place in range(len(features))]
    found = np.empty(len(features))
    for others, held_out in GroupKFold(min(FOLDS, len(set(groups)))).split(features, groups=groups):
        found[held_out] = distances(features[held_out], *fit_gaussian(features[others]))
    return found


def distance_limit(reference: np.ndarray) -> float:
    """The distance beyond which an image is unlike the training images: their 99.9th percentile, or their largest."""
    return float(np.quantile(reference, QUANTILE, method="higher"))


def image_flags(table: pd.DataFrame, limit: float, mask_shares: Mapping[str, float]) -> list[str]:
    """Reasons against each image; "" for none. Columns: mask (empty, implausible or ""), distance."""
    masks = {name: MASKS[name] for name, share in mask_shares.items() if share <= RARE}
    return [
        "; ".join(filter(None, [masks.get(mask, ""), "unlike the training images" if distance > limit else ""]))
        for mask, distance in zip(table["mask"], table["distance"], strict=True)
    ]


def drift_warnings(
    table: pd.DataFrame, reference: Mapping[str, np.ndarray], of: str = "the training images"
) -> list[str]:
    """One line for each measure whose distribution differs from that of reference images (Kolmogorov-Smirnov).

    Columns of the table: those of MEASURES. Their p-values are multiplied by their number (Bonferroni). None for fewer
    images than FOLDER.
    """
    from scipy.stats import ks_2samp

    found = []
    for name, meaning in MEASURES.items() if len(table) >= FOLDER else ():
        here, there = table[name].to_numpy(), reference[name]
        p = min(1.0, len(MEASURES) * ks_2samp(here, there, method="asymp").pvalue)
        if p < DRIFT:
            found.append(f"{meaning}: median {np.median(here):.3g} here, {np.median(there):.3g} in {of} (p = {p:.1g})")
    return found
