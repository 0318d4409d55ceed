"""Score radiographs with a trained model: what the workflow does with its test images, for any image."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pandas as pd
import torch

from amae.data.images import in_order
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.scores import DESCRIPTIONS, discrepancy_map, reconstruction_scores
from amae.method.stage1 import frozen_features
from amae.predict.calibration import OperatingPoint, percentiles
from amae.predict.domain import distance_limit, distances, image_flags
from amae.predict.model import Model
from amae.predict.prepare import prepare

BATCH = 32
SCORES = list(DESCRIPTIONS)


@torch.no_grad()
def score_images(model: Model, images: np.ndarray, ids: list[str]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Score uint8 images `(N, H, W)`.

    Returns one column for each score (higher is more abnormal), the features `(N, D)`, and the maps |mu_A - mu_B|
    `(N, H, W)` float32. What an image gets depends on nothing but its pixels and its id, which seeds the masks.
    """
    batch = torch.from_numpy(images).to(model.device)
    features = frozen_features(model.encoder, batch)
    p_abnormal = model.head(features).softmax(1)[:, 1]
    architecture, settings = model.encoder.architecture, model.settings
    orders = draw_orders(ids, model.about["seed"], architecture.patches, settings)
    (mu_a, error_a), (mu_b, _) = [reconstruct(m, batch, orders, settings) for m in (model.module_a, model.module_b)]
    scores = reconstruction_scores(images, mu_a.numpy(), mu_b.numpy(), error_a.numpy(), architecture.patch_size)
    scores.insert(0, "stage1", p_abnormal.cpu().numpy())
    return scores, features.cpu().numpy(), discrepancy_map(mu_a.numpy(), mu_b.numpy())


def predict(
    model: Model, paths: list[str], ids: list[str], workers: int = 1
) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
    """Score files in batches, in their order, with memory that does not grow with their number.

    Yields a table with a row for each file, and of the scored ones the images uint8 and the maps float32 `(n, H, W)`.
    Columns: the scores, intensity, coverage, distance (nan where not scored), flag ("" for none) and reason ("" where
    scored). The index is the place of the file.
    """
    about, size = model.about, model.encoder.architecture.image_size
    tasks = ((path, about["conversion"], about["square"], size) for path in paths)
    files = zip(ids, in_order(prepare, tasks, workers), strict=True)
    start = 0
    while part := list(islice(files, BATCH)):
        places = pd.RangeIndex(start, start + len(part))
        results = [result or (None, {"header": ""}) for _, (result, _) in part]
        table = pd.DataFrame([about for _, about in results], places)
        table["id"], table["reason"] = [image_id for image_id, _ in part], [reason for _, (_, reason) in part]
        images = np.array([image for image, _ in results if image is not None]).reshape(-1, size, size)
        yield _scored(model, table, images.astype(np.uint8))
        start += len(part)


def _scored(model: Model, table: pd.DataFrame, images: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """One batch of `predict`."""
    kept = table[table["reason"] == ""]
    if kept.empty:
        return table.assign(flag=""), images, images.astype(np.float32)
    scores, features, maps = score_images(model, images, kept["id"].tolist())
    fitted = model.group("features")
    found = scores.assign(
        intensity=images.mean((1, 2)), distance=distances(features, fitted["mean"], fitted["precision"])
    ).set_index(kept.index)
    limit = distance_limit(model.group("training")["distance"])
    flags = image_flags(kept.assign(distance=found["distance"]), limit, model.about["mask_shares"])
    flag = ["; ".join(filter(None, both)) for both in zip(kept["header"], flags, strict=True)]
    return table.join(found.assign(flag=flag)).fillna({"flag": ""}), images, maps


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
