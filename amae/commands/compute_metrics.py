"""Metrics of one run."""

import sys

from amae.commands import parameters as p
from amae.evaluation import tables
from amae.runtime.errors import naming
from amae.runtime.files import read_csv, rows_of, write_csv


def compute_metrics(
    *,
    manifest: p.Manifest,
    index: p.Index,
    stage1_scores: p.Stage1Scores,
    scores: p.Scores,
    metrics: p.Metrics,
    reconstruction_scores: p.optional(p.ReconstructionScores) = None,
    detector_scores: p.optional(p.DetectorScores) = None,
    seed: p.Seed = 0,
) -> None:
    """Join the scores with the test labels, and compute AUC and average precision; without T_u of stage 1 alone."""
    made = tables.tested_images(manifest, index)
    stage1 = read_csv(stage1_scores, ["image_id", "p_abnormal"])
    made["stage1"] = rows_of(stage1, made["image_id"], stage1_scores)["p_abnormal"]
    for path in filter(None, (reconstruction_scores, detector_scores)):
        more = rows_of(read_csv(path, ["image_id"]), made["image_id"], path)
        made = made.join(more.drop(columns="image_id"))
    write_csv(made, scores)
    about = tables.tested_images(manifest, index, "patient_id", "finding", "severity")
    patients = about.pop("patient_id")[about["label"] != ""]
    about = about.drop(columns=["image_id", "label", "view"])
    with naming(scores):
        measured = tables.metrics_of_scores(made.join(about)[made["label"] != ""], seed)
    write_csv(measured, metrics)
    if said := tables.dependence(patients):
        print(f"warning: {said}", file=sys.stderr)
