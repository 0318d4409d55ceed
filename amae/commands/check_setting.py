"""Checks of T_n and T_u that need no label."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from amae.commands import parameters as p
from amae.data.packed import load_splits
from amae.evaluation.metrics import auc, bootstrap_interval
from amae.evaluation.soundness import anomaly_ratio as estimate
from amae.evaluation.soundness import auc_of_unlabeled, differences, greatest_auc_p, implied_auc
from amae.mae.checkpoints import read_safetensors
from amae.runtime.errors import InputError
from amae.runtime.files import read_csv, rows_of, write_csv


def check_setting(
    *,
    trained_detector: p.TrainedDetector,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    table: p.Table,
    anomaly_ratio: p.AnomalyRatio = None,
    seed: p.Seed = 0,
) -> None:
    """Report how well T_u is separated from T_n, and how much of T_u is abnormal, from a detector's logits out of fold.

    Warns where the two sets differ by more than the stated anomaly ratio explains, and names the columns that differ
    most.
    """
    normal, unlabeled = _logits(trained_detector)
    labels, scores = [0] * len(normal) + [1] * len(unlabeled), [*normal, *unlabeled]
    rows = [
        ("auc_of_unlabeled", auc_of_unlabeled(normal, unlabeled), *bootstrap_interval(labels, scores, auc, seed=seed))
    ]
    rows.append(("anomaly_ratio", *estimate(normal, unlabeled, seed)))
    ratio = rows[1][1] if anomaly_ratio is None else anomaly_ratio
    rows.append(("greatest_auc_of_unlabeled", greatest_auc_p(ratio), None, None))
    if ratio > 0:
        rows.append(("implied_auc", *(implied_auc(value, ratio) for value in rows[0][1:])))
    apart = differences(*_known(manifest, images, index))
    rows += [(f"auc_of_unlabeled_by_{name}", value, None, None) for name, value in apart.items()]
    write_csv(pd.DataFrame(rows, columns=["measure", "value", "low", "high"]), table)
    if rows[0][2] > greatest_auc_p(ratio):
        most = ", ".join(f"{name} {value:.2f}" for name, value in list(apart.items())[:3])
        print(
            f"warning: the detector separates T_u from T_n with an AUC of {rows[0][1]:.3f}, and an anomaly ratio of "
            f"{ratio:g} explains at most {greatest_auc_p(ratio):.3f}: the sets differ by more than disease; what is "
            f"known of the images separates them by {most}",
            file=sys.stderr,
        )


def _known(manifest: Path, images: Path, index: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns that are known of every image of T_n and T_u, none of which gives a label away; which are of T_u."""
    chosen, packed = load_splits(manifest, images, index, "train_normal", "train_unlabeled")
    sizes = rows_of(read_csv(index, ["image_id", "rows", "columns"]), chosen["image_id"], index)
    known = chosen[[name for name in ("view", "sex", "age") if name in chosen]]
    known = known.assign(intensity=[float(packed[row].mean()) for row in chosen["row"]])
    for name in ("rows", "columns"):
        known[name] = sizes[name].astype(int).to_numpy()
    return known, (chosen["split"] == "train_unlabeled").to_numpy()


def _logits(path: Path) -> tuple:
    """Logits out of fold of T_n and of T_u; InputError for a file that is no detector."""
    about, tensors = read_safetensors(path)
    if not {"normal", "unlabeled"} <= tensors.keys() or not about.get("method", "").startswith("detector"):
        raise InputError(f"{path}: not a trained detector; make it with `amae compare detector`")
    return tensors["normal"].numpy(), tensors["unlabeled"].numpy()
