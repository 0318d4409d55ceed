"""Pseudo-labels of T_u from the probabilities of stage 1 (AMAE, Sec. 2.2) or of a probe or detector (ours)."""

import hashlib
import sys
from collections.abc import Iterable

import numpy as np
import pandas as pd

from amae.runtime.errors import InputError
from amae.settings import PseudoLabelSettings

CLASSES = ("normal", "abnormal")
RANKED_SHARE = 1 / 3  # of T_u at either end of a ranking that is not stage 1's


def pseudo_label(scores: pd.DataFrame, settings: PseudoLabelSettings) -> pd.DataFrame:
    """Decide which unlabeled images become pseudo-normal (T_un) and pseudo-abnormal (T_ua).

    `scores`: image_id, p_normal, p_abnormal of T_u. The threshold of a class is the K-th percentile of the confidences
    of the images predicted as that class; images at or above it are kept. A class with fewer than `minimum` predicted
    images takes the top `fallback_share` of T_u by its probability instead, and reports it. With the sources
    "probe" and "detector" (ours) each class takes the top third: their probability is of belonging to T_u, so that only
    its order counts. Images that score alike are ranked by the SHA-256 of their ids:
    neither the order of the rows nor that of the names, which may spell the label, plays a part.

    Returns one row per image: image_id, p_normal, p_abnormal, predicted, confidence, threshold, kept and
    pseudo_label (normal, abnormal or empty). The threshold is that of the class an image was predicted or kept as.
    Raises InputError for an empty T_u, and where classes must be ranked and all images score alike.
    """
    if scores.empty:
        raise InputError("split train_unlabeled has 0 rows, expected the unlabeled images; pseudo-labels are for these")
    table = scores[["image_id", "p_normal", "p_abnormal"]].reset_index(drop=True)
    p = table[["p_normal", "p_abnormal"]].to_numpy(float)  # (M, 2)
    label, threshold = _choose(p, table["image_id"], settings)
    return table.assign(
        predicted=np.array(CLASSES)[p.argmax(1)],
        confidence=p.max(1),
        threshold=threshold,
        kept=label >= 0,
        pseudo_label=np.array([*CLASSES, ""])[label],
    )


def _choose(p: np.ndarray, ids: Iterable[str], settings: PseudoLabelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-label of each image (0, 1, or -1 for none) and threshold of its class, from p (M, 2) and their ids."""
    predicted, confidence = p.argmax(1), p.max(1)
    label, threshold = np.full(len(p), -1), np.full(len(p), np.nan)
    ranked = []  # classes that take the top of their ranking
    for c in range(len(CLASSES)):
        members = predicted == c
        if settings.source != "stage1" or members.sum() < settings.minimum:
            ranked.append(c)
        else:
            threshold[members] = np.percentile(confidence[members], settings.percentile)
            label[members & (confidence >= threshold)] = c
    share = RANKED_SHARE if settings.source != "stage1" else settings.fallback_share
    count, difference = max(1, round(share * len(p))), p[:, 1] - p[:, 0]
    if len(ranked) == len(CLASSES):  # no image is of both
        count = min(count, len(p) // 2)
    if ranked and np.ptp(difference) == 0:  # so is a single image
        raise InputError(f"all {len(p)} unlabeled images have the same probabilities, and nothing else ranks them")
    hashes = [hashlib.sha256(image_id.encode()).hexdigest() for image_id in ids]
    order = np.lexsort((hashes, difference))  # from the most normal image to the most abnormal one
    for c in ranked:
        top = order[-count:] if c else order[:count]
        label[top] = c
        threshold[top] = p[top, c].min()
        if settings.source == "stage1":
            print(
                f"warning: only {(predicted == c).sum()} of {len(p)} unlabeled images are predicted {CLASSES[c]} "
                f"(pseudo_labels.minimum is {settings.minimum}); the {len(top)} with the highest p_{CLASSES[c]} are "
                "taken instead",
                file=sys.stderr,
            )
    return label, threshold
