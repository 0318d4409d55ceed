"""A model adapted to the normal images of a site, without training."""

import sys

from amae.commands import parameters as p
from amae.predict.calibration import SPECIFICITY
from amae.predict.card import calibrated_on, describe
from amae.runtime.errors import InputError
from amae.runtime.files import require_new, require_writable, sha256
from amae.runtime.progress import Progress


def recalibrate(
    model: p.Model,
    normal_images: p.file("folder of a site's normal images, or table with a column path (.csv)"),
    /,
    *,
    recalibrated_model: p.file("model to write (.safetensors)"),
    workers: p.Workers = 1,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Take thresholds, percentiles and drift reference from a site's own normal images, without training.

    Every image keeps its scores, its map and its flag; only calls, percentiles and warnings of drift change. Flagged
    and unreadable files are listed and left out, as are copies, and rows of a table that are not labelled normal.
    """
    require_new(recalibrated_model, ".safetensors")
    require_writable(recalibrated_model.parent)  # before hours of scoring
    before = describe(model).get("recalibration")
    if not normal_images.exists():
        raise InputError(f"{normal_images}: no such file or folder")
    import pandas as pd

    from amae.predict.model import load_model, save_model
    from amae.predict.recalibrate import measure, normal_files, recalibrated
    from amae.predict.score import SCORES, why_no_call
    from amae.runtime.device import choose_device

    files, left_out = normal_files(normal_images, recalibrated_model)
    trained = load_model(model, choose_device(device, gpus, jobs_per_card))
    tables, progress = [], Progress("recalibrate", len(files), "files")
    for table in measure(trained, files, workers):
        tables.append(table)
        progress.reached(table.index[-1] + 1)
    table = pd.concat(tables)
    left_out |= dict(table.loc[table["left_out"] != "", ["file", "left_out"]].itertuples(index=False))
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    kept = table[table["left_out"] == ""]
    if kept.empty:
        raise InputError(f"{normal_images}: none of {len(left_out)} images is left to recalibrate with")
    if before:
        print(f"{model}: its recalibration on {before['images']} images is replaced", file=sys.stderr)
    made = recalibrated(trained, kept, len(left_out), sha256(model))
    for score in SCORES:
        if reason := why_no_call(made, score, SPECIFICITY):
            print(f"warning: {score} calls no image: {reason}", file=sys.stderr)
    save_model(made, recalibrated_model)
    print(f"{recalibrated_model}: {len(kept)} {calibrated_on(made.about)}, {len(left_out)} left out", file=sys.stderr)
