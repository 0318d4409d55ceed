"""A finished model on labelled images that it has never seen."""

import hashlib
import sys
from typing import TYPE_CHECKING

import pandas as pd

from amae.commands import parameters as p
from amae.data.manifest import read_labelled
from amae.evaluation.tables import SMALLEST_GROUP, dependence
from amae.predict.card import chosen_score, describe
from amae.predict.files import refuse_used
from amae.runtime.errors import InputError, naming
from amae.runtime.files import require_writable
from amae.runtime.progress import Progress

if TYPE_CHECKING:
    from amae.predict.model import Model


def evaluate(
    model: p.Model,
    image_table: p.ImageTable,
    /,
    *,
    output: p.Output,
    root: p.Root = None,
    score: p.Score = "detector",
    specificity: p.Specificity = 0.95,
    workers: p.Workers = 1,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Measure a finished model on a table of labelled images: metrics, and calls at the operating point.

    The threshold comes from the model's calibration images alone; no label of the table moves it.
    """
    refuse_used(output)
    require_writable(output)  # before hours of scoring
    score = chosen_score(describe(model), score)
    images = read_labelled(image_table, root)  # before torch, which takes seconds to load
    from amae.evaluation.calls import rates_of_calls
    from amae.evaluation.tables import metrics_of_scores
    from amae.predict.domain import drift_warnings
    from amae.predict.model import load_model
    from amae.predict.score import SCORES, operating_point_of, why_no_call
    from amae.runtime.device import choose_device
    from amae.runtime.files import write_csv

    trained = load_model(model, choose_device(device, gpus, jobs_per_card))
    point = operating_point_of(trained, score, specificity)
    scoring = score, specificity, workers
    table = images.reset_index(drop=True).join(_scored(trained, images["path"].tolist(), *scoring))
    kept = table["reason"] == ""
    if not kept.any():
        raise InputError(f"{image_table}: none of {len(table)} images can be read: {table['reason'].iloc[0]}")
    scored, known = table[kept], [name for name in ("label", "view", "finding") if name in table]
    scores = scored[["image_id", *known, *SCORES]]
    with naming(image_table):
        metrics = metrics_of_scores(scores, trained.about["seed"])
    calls = table[["image_id", "path", *known, "patient_id", score, f"{score}_percentile", "call", "flag", "reason"]]
    tables = {"calls": calls, "scores": scores, "metrics": metrics}
    if point:
        tables["operating_point"] = rates_of_calls(scored).assign(score=score, threshold=point.threshold)
    for name, each in tables.items():
        write_csv(each, output / f"{name}.csv")
    _report(table, metrics[metrics["score"] == score], tables.get("operating_point"))
    like, reference = trained.reference()
    drift = drift_warnings(scored, reference, like)
    warnings = [*_limits(scored, metrics), *(f"unlike {like} as a whole: {each}" for each in drift)]
    if not point:
        reason = why_no_call(trained, score, specificity)
        warnings.append(f"no image is called, and operating_point.csv is not written: {reason}")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _scored(model: "Model", paths: list[str], score: str, specificity: float, workers: int) -> pd.DataFrame:
    """Scores, call, flag and reason of each file, in their order."""
    from amae.predict.score import score_files

    tables, progress = [], Progress("evaluate", len(paths), "images")
    pictures: list[bytes] = []
    for table, images, _ in score_files(model, paths, score, specificity, workers, every=True):
        pictures += [hashlib.sha256(image.tobytes()).digest() for image in images]
        tables.append(table.drop(columns=["file", "geometry", "radiograph"], errors="ignore"))
        progress.reached(table.index[-1] + 1)
    if copies := len(pictures) - len(set(pictures)):
        print(f"warning: {copies} images are copies of others, so the intervals are too narrow", file=sys.stderr)
    return pd.concat(tables)


def _report(table: pd.DataFrame, metrics: pd.DataFrame, rates: pd.DataFrame | None) -> None:
    """Print the result over all images."""
    kept, whole = table["reason"] == "", metrics.iloc[0]
    print(f"{len(table)} images: {kept.sum()} scored, {(~kept).sum()} not readable (calls.csv has the reasons)")
    for name, title in {"auc": "AUC", "ap": "average precision"}.items():
        print(f"{whole['score']}: {title} {_with_interval(whole, name)}")
    if rates is None:
        return
    for name, rate in {"abnormal": "sensitivity", "normal": "specificity"}.items():
        count, flagged = rates.iloc[0][[name, f"{name}_flagged"]]
        counts = f"{count} {name} images, {flagged} of them flagged and not called"
        print(f"{rate}: {_with_interval(rates.iloc[0], rate)}; {counts}")


def _limits(scored: pd.DataFrame, metrics: pd.DataFrame) -> list[str]:
    """Groups too small to be measured, and images that are not independent."""
    found, columns = [], [name for name in ("view", "finding") if name in scored]
    counts = scored["label"].value_counts()
    if counts.min() < SMALLEST_GROUP:
        of_each = " and ".join(f"{count} {name}" for name, count in counts.items())
        found.append(
            f"{of_each} images: with fewer than {SMALLEST_GROUP} of a class an AUC and its interval say little"
        )
    elif separated := int(metrics.loc[metrics["group"] == "all", "auc"].isin((0, 1)).sum()):
        found.append(f"an AUC of 0 or 1 (of {separated} scores) has a bootstrap interval without width")
    groups = {f"{column}={value}" for column in columns for value in scored[column] if value}
    if small := sorted(groups - set(metrics["group"])):
        found.append(f"fewer than {SMALLEST_GROUP} images of a class, not measured by itself: {', '.join(small)}")
    if said := dependence(scored["patient_id"]):
        found.append(said)
    return found


def _with_interval(row: pd.Series, name: str) -> str:
    """A fraction and its 95 % interval; where no image is called there is none."""
    if pd.isna(row[name]):
        return "not known"
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
