"""Calls of a model at its operating point against labels: sensitivity and specificity."""

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
