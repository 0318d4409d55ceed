"""Pseudo-labels of T_u from the probabilities of stage 1 (AMAE, Sec. 2.2)."""

import sys

import numpy as np
import pandas as pd

from amae.settings import PseudoLabelSettings

CLASSES = ("normal", "abnormal")


def pseudo_label(scores: pd.DataFrame, settings: PseudoLabelSettings) -> pd.DataFrame:
    """Decide which unlabeled images become pseudo-normal (T_un) and pseudo-abnormal (T_ua).

    `scores`: image_id, p_normal, p_abnormal of T_u. The threshold of a class is the K-th percentile of the confidences
    of the images predicted as that class; images at or above it are kept. A class with fewer than `minimum` predicted
    images takes the top `fallback_share` of T_u by its probability instead, and says so.

    Returns one row per image: image_id, p_normal, p_abnormal, predicted, confidence, threshold, kept and
    pseudo_label (normal, abnormal or empty). The threshold is that of the class an image was predicted or kept as.
    """
    table = scores[["image_id", "p_normal", "p_abnormal"]].reset_index(drop=True)
    p = table[["p_normal", "p_abnormal"]].to_numpy(float)  # (M, 2)
    predicted = p.argmax(1)
    confidence = p.max(1)
    threshold = np.full(len(p), np.nan)
    label = np.full(len(p), -1)
    scarce = []
    for c, name in enumerate(CLASSES):
        members = predicted == c
        if members.sum() < settings.minimum:
            scarce.append((c, name, int(members.sum())))
        else:
            threshold[members] = np.percentile(confidence[members], settings.percentile)
            label[members & (confidence >= threshold)] = c
    for c, name, found in scarce:
        count = max(1, round(settings.fallback_share * len(p)))
        top = np.argsort(-p[:, c], kind="stable")[:count]
        label[top] = c
        threshold[top] = p[top, c].min()
        print(
            f"warning: only {found} of {len(p)} unlabeled images are predicted {name} (pseudo_labels.minimum is "
            f"{settings.minimum}); the {len(top)} with the highest p_{name} are taken instead",
            file=sys.stderr,
        )
    return table.assign(
        predicted=np.array(CLASSES)[predicted],
        confidence=confidence,
        threshold=threshold,
        kept=label >= 0,
        pseudo_label=np.array([*CLASSES, ""])[label],
    )
