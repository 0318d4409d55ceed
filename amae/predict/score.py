"""Score radiographs with a trained model: what the workflow does with its test images, for any image."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from amae.data.images import attempt, in_order
from amae.data.resize import resize
from amae.method.detector import influence_maps, score_maps
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.scores import DESCRIPTIONS, MODULE_SCORES, reconstruction_scores
from amae.method.stage1 import frozen_features
from amae.predict.calibration import (
    SPECIFICITY,
    OperatingPoint,
    operating_point,
    percentiles,
    require_specificity,
    too_few,
)
from amae.predict.card import calibrated_on
from amae.predict.domain import distance_limit, distances, image_flags
from amae.predict.model import Model
from amae.predict.prepare import prepare, prepare_array
from amae.runtime.errors import InputError
from amae.settings import ReconstructionSettings

BATCH = 32
MASKED = 128  # masked images at a time
SCORES = list(DESCRIPTIONS)
UNMASKED = [name for name in SCORES if name not in MODULE_SCORES]
MOST_ROUNDS = 16  # of complementary masks: more take too long on a CPU
QUIET = 0.25  # greatest noise of the masks, as a share of the spread of normal images
DRAWS = 4  # of masks, to measure their noise
LIMIT_PERCENTILE = 75
LIMIT_IMAGES = 64  # of T_u at most, spread over it: their maps set the end of the colour scale


@torch.no_grad()
def score_images(
    model: Model, images: np.ndarray, draw: int = 0, every: bool = True
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Score uint8 images `(N, H, W)`.

    Returns one column for each score (higher is more abnormal), the features `(N, D)`, and the detector's
    `influence_maps` at the size of the images, `(N, H, W)` float32. All depend on the image's pixels alone, which seed
    its masks; another `draw` gives other masks. Without `every` those of UNMASKED alone, in a third of the time.
    Of a combined model scores and maps are the means over its members.
    """
    if model.members:
        scores, features, maps = zip(
            *(score_images(member, images, draw, every) for member in model.members), strict=True
        )
        return mean_scores(scores, model.group("scale")), features[0], np.mean(maps, 0)
    # What a file scores may not depend on what is scored with it, and the last digits of a matrix product depend on its
    # size and, on some processors, on the place of a row in it. On a CPU batches save little time.
    group = 1 if model.device.type == "cpu" else BATCH
    starts = range(0, len(images), group)
    parts = [_score_group(model, images[start : start + group], group, draw, every) for start in starts]
    scores, features, maps = zip(*parts, strict=True)
    return pd.concat(scores, ignore_index=True), np.concatenate(features), np.concatenate(maps)


def _score_group(
    model: Model, images: np.ndarray, group: int, draw: int, every: bool
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The same for 1 to `group` images, in a pass of `group`."""
    given = len(images)
    images = np.concatenate([images, np.repeat(images[-1:], group - given, axis=0)])
    batch = torch.from_numpy(images).to(model.device)
    features = frozen_features(model.encoder, batch)
    p_abnormal = model.head(features).softmax(1)[:, 1]
    logits = score_maps(model.detector, resize(batch, model.about["detector"]["image_size"]))
    logits = logits.mean((1, 2)).double().cpu().numpy().round(5)  # the same in every batch
    scores = pd.DataFrame({"detector": logits, "stage1": p_abnormal.cpu().numpy()})
    if every:
        scores = scores.join(module_scores(model, images, draw))
    return scores[:given], features[:given].cpu().numpy(), detector_maps(model, images)[:given]


@torch.no_grad()
def module_scores(model: Model, images: np.ndarray, draw: int = 0) -> pd.DataFrame:
    """The scores of modules A and B of one model, not of a combined one: a column for each of MODULE_SCORES.

    `images` and `draw` as for `score_images`; all go through the networks together.
    """
    architecture, settings = model.encoder.architecture, model.settings
    batch = torch.from_numpy(images).to(model.device)
    seeds = [f"{hashlib.sha256(image.tobytes()).hexdigest()}{draw or ''}" for image in images]
    orders = draw_orders(seeds, model.about["seed"], architecture.patches, settings)
    at_once = max(1, MASKED // settings.masks)
    (mu_a, error_a), (mu_b, _) = [
        reconstruct(m, batch, orders, settings, at_once) for m in (model.module_a, model.module_b)
    ]
    return reconstruction_scores(images, mu_a.numpy(), mu_b.numpy(), error_a.numpy(), architecture.patch_size)


def detector_maps(model: Model, images: np.ndarray) -> np.ndarray:
    """The `influence_maps` of one model, not of a combined one: float32 `(N, H, W)`, of uint8 images of this size."""
    small = resize(torch.from_numpy(images).to(model.device), model.about["detector"]["image_size"])
    maps = influence_maps(model.detector, small, torch.from_numpy(model.group("normal")["image"]))
    return F.interpolate(maps[:, None], images.shape[1:], mode="bilinear")[:, 0].numpy()


def map_limit(model: Model, unlabeled: np.ndarray) -> float:
    """End of the colour scale: a value that the maps of a quarter of the images of T_u, uint8 `(N, H, W)`, exceed.

    Of a combined model's members the mean map counts. Maps of T_n would give an end that abnormal images exceed far and
    wide.
    """
    maps = np.mean([detector_maps(member, unlabeled) for member in model.members or (model,)], 0)
    return max(float(np.percentile(maps.max((1, 2)), LIMIT_PERCENTILE)), 1e-6)


def mean_scores(scores: Sequence[pd.DataFrame], scales: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean over models of each score, float64, less the mean of normal images and by their standard deviation.

    `scores`: a table for each of the M models; `scales`: these two by score, `(M, 2)`.
    """
    return pd.DataFrame(
        {
            name: np.mean(
                [
                    (each[name].to_numpy(np.float64) - of[0]) / of[1]
                    for each, of in zip(scores, scales[name], strict=True)
                ],
                0,
            )
            for name in scores[0]
        }
    )


def score_packed(model: Model, images: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores and maps of uint8 images `(N, H, W)`, in batches, as `score_images` has them."""
    found = [score_images(model, images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    scores = pd.concat([scores for scores, *_ in found], ignore_index=True)
    return scores, np.concatenate([maps for *_, maps in found])


def quiet(model: Model, images: np.ndarray) -> tuple[ReconstructionSettings, float]:
    """Masks of new images: so many that their noise is at most QUIET of the spread of normal images, if MOST_ROUNDS do.

    `images` uint8 `(N, H, W)`, normal. A round is one set of complementary masks, where the mask ratio allows it, else
    the run's own number of random ones. The noise, standard deviation within an image by that between images, is
    measured with one round, and falls with the root of their number. Returns the settings, and the noise that is left.
    """
    run = ReconstructionSettings(**model.about["reconstruction"])
    once = _complementary(run, model.encoder.architecture.patches)
    share = max(mask_noise(model, images, once)[name] for name in ("inter", "error_ratio"))
    rounds = min(MOST_ROUNDS, max(1, int(np.ceil((share / QUIET) ** 2))))
    return dataclasses.replace(once, masks=once.masks * rounds), share / rounds**0.5


def mask_noise(model: Model, images: np.ndarray, settings: ReconstructionSettings) -> dict[str, float]:
    """Noise of these masks in each score of modules A and B, as a share of the spread of images uint8 `(N, H, W)`.

    The noise is the standard deviation of an image's score over draws of the masks, the spread that between images.
    """
    measured = dataclasses.replace(model, about=model.about | {"masks_of_new_images": dataclasses.asdict(settings)})
    drawn = np.stack([module_scores(measured, images, n)[list(MODULE_SCORES)].to_numpy() for n in range(1, DRAWS + 1)])
    noise = drawn.var(0, ddof=1).mean(0)
    spread = np.maximum(drawn.mean(0).var(0, ddof=1) - noise / DRAWS, 1e-30)
    return dict(zip(MODULE_SCORES, np.sqrt(noise / spread).tolist(), strict=True))


def _complementary(settings: ReconstructionSettings, patches: int) -> ReconstructionSettings:
    """One round of complementary masks; the settings as they are where the mask ratio does not share out the image."""
    parts = round(1 / (1 - settings.mask_ratio))
    if abs(parts * (1 - settings.mask_ratio) - 1) > 1e-6 or patches % parts:
        return settings
    return dataclasses.replace(settings, masks=parts, mask_scheme="complementary")


class Scored(NamedTuple):
    """Radiographs that were scored.

    `table` has a row for each, in the order given: file (the path; "" for an array), the scores of `scores_for` (higher
    is more abnormal), `<score>_percentile` among the calibration images, call (abnormal, normal or ""), flag ("" for
    none), reason ("" where scored), intensity, coverage, distance, mask, and of the scored ones radiograph and geometry
    as in `prepare`; nan where there is no number. The index is the place in what was given.

    `images` uint8 `(n, H, W)`, as the model sees them, and `maps` float32 `(n, H, W)`, at least 0: of the scored ones
    alone.
    """

    table: pd.DataFrame
    images: np.ndarray
    maps: np.ndarray


def scores_for(score: str, every: bool = False) -> list[str]:
    """Scores that are computed where `score` calls: those without masks, and all where `score` or `every` asks."""
    return SCORES if every or score in MODULE_SCORES else UNMASKED


def score_files(
    model: Model,
    paths: Sequence[str | Path],
    score: str = "detector",
    specificity: float = SPECIFICITY,
    workers: int = 1,
    every: bool = False,
) -> Iterator[Scored]:
    """Score DICOM, PNG, JPEG, TIFF and BMP files, a batch at a time, with memory that does not grow with their number.

    `score` calls an image abnormal above its threshold at `specificity`, the share of normal images to call normal.
    `workers`: processes that read. `every`: compute every score. A file that cannot be scored has a reason. Raises
    InputError for a score or a specificity that does not exist, and for one path in the place of a list.
    """
    if isinstance(paths, str | Path):
        raise InputError(f"paths: found {str(paths)!r}, expected a list of paths")
    point = operating_point_of(model, score, specificity)
    paths = [str(path) for path in paths]
    tasks = ((path, *_how(model)) for path in paths)
    return _in_batches(model, in_order(prepare, tasks, workers), paths, score, point, every)


def score_arrays(
    model: Model,
    arrays: Sequence[np.ndarray],
    score: str = "detector",
    specificity: float = SPECIFICITY,
    every: bool = False,
) -> Scored:
    """Score radiographs in memory, whole numbers `(rows, columns)` of any size, 0 black: as PNG files of the same.

    Uint8 is taken as it is, other types are scaled from their minimum to their maximum. Arguments and errors as for
    `score_files`; an array that cannot be scored has a reason.
    """
    _require_score(score)
    if isinstance(arrays, np.ndarray) and arrays.ndim == 2:
        raise InputError(f"arrays: found one of shape {arrays.shape}, expected a list of arrays")
    point = operating_point_of(model, score, specificity)
    results = (attempt(prepare_array, (values, *_how(model))) for values in arrays)
    parts = list(_in_batches(model, results, [""] * len(arrays), score, point, every))
    if not parts:
        raise InputError("no arrays; expected at least one")
    tables, images, maps = zip(*parts, strict=True)
    return Scored(pd.concat(tables), np.concatenate(images), np.concatenate(maps))


def operating_point_of(model: Model, score: str, specificity: float = SPECIFICITY) -> OperatingPoint | None:
    """The threshold of a score at a specificity in (0, 1); None where `why_no_call` has a reason."""
    require_specificity(specificity)
    if why_no_call(model, score, specificity):
        return None
    return operating_point(model.group("calibration")[score], specificity)


def why_no_call(model: Model, score: str, specificity: float = SPECIFICITY) -> str:
    """The reason why a score calls no image abnormal or normal; "" where it does."""
    _require_score(score)
    if reason := model.about["no_calls"].get(score):
        return reason
    calibration = model.group("calibration")
    if not calibration:
        return "the model has no normal images held out for calibration"
    return too_few(len(calibration[score]), specificity, calibrated_on(model.about))


def _require_score(score: str) -> None:
    if score not in SCORES:
        raise InputError(f"score: found {score!r}, expected one of {', '.join(SCORES)}")


def _how(model: Model) -> tuple[str, str, int]:
    """How a radiograph is read for a model: conversion, square, size."""
    return model.about["conversion"], model.about["square"], model.encoder.architecture.image_size


def _in_batches(
    model: Model,
    results: Iterator[tuple[Any, str]],
    names: Sequence[str],
    score: str,
    point: OperatingPoint | None,
    every: bool,
) -> Iterator[Scored]:
    """Score what was prepared, with the reason where it could not be, as it comes."""
    start, size, calibration = 0, model.encoder.architecture.image_size, model.group("calibration")
    while part := list(islice(results, BATCH)):
        places = pd.RangeIndex(start, start + len(part))
        prepared = [result or (None, {"header": "", "geometry": None, "radiograph": None}) for result, _ in part]
        table = pd.DataFrame([about for _, about in prepared], places)
        table.insert(0, "file", names[start : start + len(part)])
        table["reason"] = [reason for _, reason in part]
        images = np.array([image for image, _ in prepared if image is not None]).reshape(-1, size, size)
        scored = _scored(model, table, images.astype(np.uint8), scores_for(score, every))
        yield scored._replace(table=judge(scored.table, calibration, score, point))
        start += len(part)


def _scored(model: Model, table: pd.DataFrame, images: np.ndarray, names: list[str]) -> Scored:
    """One batch without percentiles and calls."""
    kept = table[table["reason"] == ""]
    if kept.empty:
        lacking = pd.DataFrame(np.nan, table.index, [*names, "intensity", "coverage", "distance"])
        lacking["stage1"] = lacking["stage1"].astype(np.float32)  # as the network gives it
        return Scored(table.join(lacking).assign(flag="", mask=""), images, images.astype(np.float32))
    scores, features, maps = score_images(model, images, every=names == SCORES)
    fitted = model.group("features")
    found = scores.assign(
        intensity=images.mean((1, 2)), distance=distances(features, fitted["mean"], fitted["precision"])
    ).set_index(kept.index)
    limit = distance_limit(model.group("training")["distance"])
    flags = image_flags(kept.assign(distance=found["distance"]), limit, model.about["mask_shares"])
    flag = ["; ".join(filter(None, both)) for both in zip(kept["header"], flags, strict=True)]
    return Scored(table.join(found.assign(flag=flag)).fillna({"flag": "", "mask": ""}), images, maps)


def judge(
    table: pd.DataFrame, calibration: dict[str, np.ndarray], score: str, point: OperatingPoint | None
) -> pd.DataFrame:
    """Add the percentile of each score among the calibration images, and the call at an operating point of `score`.

    `call` is abnormal above the threshold, else normal; "" where there is no operating point, and for an image that is
    flagged or not scored. Percentiles are nan where there is none.
    """
    scored = table["reason"] == ""
    for name in [name for name in SCORES if name in table]:
        found = percentiles(calibration[name], table[name].to_numpy()) if calibration else np.nan
        table[f"{name}_percentile"] = pd.Series(found, table.index).where(scored).round(2)
    table["call"] = ""
    if point:
        called = scored & (table["flag"] == "")
        table.loc[called, "call"] = np.where(table.loc[called, score] > point.threshold, "abnormal", "normal")
    return table
