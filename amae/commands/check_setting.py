"""Checks of T_n and T_u that need no label."""

import pandas as pd

from amae.commands import parameters as p
from amae.comparators.detector import logits_of
from amae.data.packed import known_columns
from amae.evaluation.soundness import anomaly_ratio as estimate
from amae.evaluation.soundness import (
    auc_p_interval,
    differences,
    fault,
    greatest_auc_p,
    implied_auc,
    implied_with_interval,
    report_fault,
    warn_of_few,
)
from amae.runtime.files import write_csv


def check_setting(
    *,
    trained_detector: p.TrainedDetector,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    table: p.Table,
    anomaly_ratio: p.AnomalyRatio = None,
    accept_differences: p.AcceptDifferences = False,
) -> None:
    """Report how well T_u is separated from T_n, and how much of T_u is abnormal, from a detector's logits out of fold.

    Warns where the two sets differ by more than the stated anomaly ratio explains, and names the columns that differ
    most; refuses them where they do by a wide margin, unless that is accepted. Warns where T_u has few abnormal images.
    """
    normal, unlabeled = logits_of(trained_detector)
    rows = [("auc_of_unlabeled", *auc_p_interval(normal, unlabeled))]
    rows.append(("anomaly_ratio", *estimate(normal, unlabeled)))
    ratio = rows[1][1] if anomaly_ratio is None else anomaly_ratio
    rows.append(("greatest_auc_of_unlabeled", greatest_auc_p(ratio), None, None))
    if anomaly_ratio is None:
        rows.append(("implied_auc", *implied_with_interval(normal, unlabeled, rows[1][1:])))
    elif ratio > 0:
        rows.append(("implied_auc", *(implied_auc(value, ratio) for value in rows[0][1:])))
    apart = differences(*known_columns(manifest, images, index))
    rows += [(f"auc_of_unlabeled_by_{name}", value, None, None) for name, value in apart.items()]
    write_csv(pd.DataFrame(rows, columns=["measure", "value", "low", "high"]), table)
    report_fault(fault(rows[0][1:], rows[1][1:], anomaly_ratio, apart), accept_differences)
    warn_of_few(ratio, len(unlabeled))
