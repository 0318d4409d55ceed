"""Score radiographs with a trained model: what the workflow does with its test images, for any image."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pandas as pd
import torch

from amae.data.images import in_order
from amae.data.resize import resize
from amae.method.detector import score_maps
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.scores import DESCRIPTIONS, MODULE_SCORES, evidence_map, reconstruction_scores
from amae.method.stage1 import frozen_features
from amae.predict.calibration import OperatingPoint, needed_images, operating_point, percentiles
from amae.predict.domain import distance_limit, distances, image_flags
from amae.predict.model import Model
from amae.predict.prepare import prepare
from amae.runtime.errors import InputError
from amae.settings import ReconstructionSettings

BATCH = 32
SCORES = list(DESCRIPTIONS)
MOST_ROUNDS = 4  # of complementary masks
QUIET = 0.25  # greatest noise of the masks, as a share of the spread of normal images
DRAWS = 4  # of masks, to measure their noise


@torch.no_grad()
def score_images(model: Model, images: np.ndarray, draw: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Score uint8 images `(N, H, W)`.

    Returns one column for each score (higher is more abnormal), the features `(N, D)`, and the maps of `evidence_map`,
    `(N, H, W)` float32. All depend on the image's pixels alone, which seed its masks; another `draw` gives other masks.
    """
    batch = torch.from_numpy(images).to(model.device)
    features = frozen_features(model.encoder, batch)
    p_abnormal = model.head(features).softmax(1)[:, 1]
    architecture, settings = model.encoder.architecture, model.settings
    seeds = [f"{hashlib.sha256(image.tobytes()).hexdigest()}{draw or ''}" for image in images]
    orders = draw_orders(seeds, model.about["seed"], architecture.patches, settings)
    (mu_a, error_a), (mu_b, _) = [reconstruct(m, batch, orders, settings) for m in (model.module_a, model.module_b)]
    scores = reconstruction_scores(images, mu_a.numpy(), mu_b.numpy(), error_a.numpy(), architecture.patch_size)
    logits = score_maps(model.detector, resize(batch, model.about["detector"]["image_size"]))
    scores.insert(0, "stage1", p_abnormal.cpu().numpy())
    scores.insert(0, "detector", logits.mean((1, 2)).double().cpu().numpy().round(5))  # the same in every batch
    maps = evidence_map(images, mu_a.numpy(), mu_b.numpy(), architecture.patch_size)
    return scores, features.cpu().numpy(), maps


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
    drawn = np.stack(
        [score_images(measured, images, n)[0][list(MODULE_SCORES)].to_numpy() for n in range(1, DRAWS + 1)]
    )
    noise = drawn.var(0, ddof=1).mean(0)
    spread = np.maximum(drawn.mean(0).var(0, ddof=1) - noise / DRAWS, 1e-30)
    return dict(zip(MODULE_SCORES, np.sqrt(noise / spread).tolist(), strict=True))


def _complementary(settings: ReconstructionSettings, patches: int) -> ReconstructionSettings:
    """One round of complementary masks; the settings as they are where the mask ratio does not share out the image."""
    parts = round(1 / (1 - settings.mask_ratio))
    if abs(parts * (1 - settings.mask_ratio) - 1) > 1e-6 or patches % parts:
        return settings
    return dataclasses.replace(settings, masks=parts, mask_scheme="complementary")


def predict(model: Model, paths: list[str], workers: int = 1) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
    """Score files in batches, in their order, with memory that does not grow with their number.

    Yields a table with a row for each file, and of the scored ones the images uint8 and the maps float32 `(n, H, W)`.
    Columns: the scores, intensity, coverage, distance (nan where not scored), flag ("" for none) and reason ("" where
    scored). The index is the place of the file.
    """
    about, size = model.about, model.encoder.architecture.image_size
    tasks = ((path, about["conversion"], about["square"], size) for path in paths)
    files = in_order(prepare, tasks, workers)
    start = 0
    while part := list(islice(files, BATCH)):
        places = pd.RangeIndex(start, start + len(part))
        results = [result or (None, {"header": ""}) for result, _ in part]
        table = pd.DataFrame([about for _, about in results], places)
        table["reason"] = [reason for _, reason in part]
        images = np.array([image for image, _ in results if image is not None]).reshape(-1, size, size)
        yield _scored(model, table, images.astype(np.uint8))
        start += len(part)


def _scored(model: Model, table: pd.DataFrame, images: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """One batch of `predict`."""
    kept = table[table["reason"] == ""]
    if kept.empty:
        return table.assign(flag=""), images, images.astype(np.float32)
    scores, features, maps = score_images(model, images)
    fitted = model.group("features")
    found = scores.assign(
        intensity=images.mean((1, 2)), distance=distances(features, fitted["mean"], fitted["precision"])
    ).set_index(kept.index)
    limit = distance_limit(model.group("training")["distance"])
    flags = image_flags(kept.assign(distance=found["distance"]), limit, model.about["mask_shares"])
    flag = ["; ".join(filter(None, both)) for both in zip(kept["header"], flags, strict=True)]
    return table.join(found.assign(flag=flag)).fillna({"flag": ""}), images, maps


def chosen_score(model: Model, score: str) -> str:
    """The score of this name; for auto the one with the greatest AUCp, of T_u against held-out normal images.

    Raises InputError for any other name, and for auto where no AUCp is known.
    """
    if score == "auto":
        if not (auc_p := model.about["auc_p"]):
            raise InputError("--score auto: the model was exported without calibration images, so no AUCp is known")
        score = max(auc_p, key=auc_p.__getitem__)
        print(f"score {score}: its AUCp, {auc_p[score]:.3f}, is the greatest", file=sys.stderr)
    if score not in SCORES:
        raise InputError(f"--score: found {score!r}, expected one of auto, {', '.join(SCORES)}")
    return score


def point_of(model: Model, score: str, specificity: float) -> tuple[OperatingPoint | None, str]:
    """The operating point of a model's score and ""; or None, and the reason why it calls no image."""
    calibration, reason = model.group("calibration"), model.about["no_calls"].get(score, "")
    if reason or not calibration:
        return None, reason or "the model has no normal images held out for calibration"
    if point := operating_point(calibration[score], specificity):
        return point, ""
    return None, (
        f"a specificity of {specificity:g} needs {needed_images(specificity)} normal images held out for calibration, "
        f"and the model has {len(calibration[score])}"
    )


def judge(
    table: pd.DataFrame, calibration: dict[str, np.ndarray], score: str, point: OperatingPoint | None
) -> pd.DataFrame:
    """Add the percentile of each score among the calibration images, and the call at an operating point of `score`.

    `call` is abnormal above the threshold, else normal; "" where there is no operating point, and for an image that is
    flagged or not scored. Percentiles are nan where there is none.
    """
    scored = table["reason"] == ""
    for name in SCORES:
        found = percentiles(calibration[name], table[name].to_numpy()) if calibration else np.nan
        table[f"{name}_percentile"] = pd.Series(found, table.index).where(scored).round(2)
    table["call"] = ""
    if point:
        called = scored & (table["flag"] == "")
        table.loc[called, "call"] = np.where(table.loc[called, score] > point.threshold, "abnormal", "normal")
    return table
