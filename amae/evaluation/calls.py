"""Calls of images at a threshold against labels: sensitivity and specificity."""

import math

import numpy as np
import pandas as pd

from amae.evaluation.statistics import proportion_interval
from amae.evaluation.tables import groups_of

RATES = {"normal": "specificity", "abnormal": "sensitivity"}  # the share of a class that is called by its name


def rates_of_calls(images: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity and specificity in the groups of `groups_of`, one row each, over the images that are called.

    images: label, call (normal, abnormal, or "" where flagged), and view and finding where known. Columns: group; for
    each class its images (normal, abnormal), those without a call (_flagged), those called by its name (_correct); its
    rate (specificity, sensitivity), a fraction, with _low and _high, the Wilson 95 % interval over images; empty where
    no image of the class is called.
    """
    rows = []
    for group, part in groups_of(images):
        row = {"group": group}
        for name, rate in RATES.items():
            calls = part.loc[part["label"] == name, "call"]
            called, correct = int((calls != "").sum()), int((calls == name).sum())
            low, high = proportion_interval(correct, called)
            row |= {name: len(calls), f"{name}_flagged": len(calls) - called, f"{name}_correct": correct}
            row |= {rate: correct / called if called else None, f"{rate}_low": low, f"{rate}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


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
