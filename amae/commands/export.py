"""A trained model in one file."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.commands import parameters as p
from amae.data.manifest import read_manifest
from amae.data.packed import open_images, rejected_beside, select
from amae.data.splits import patients_of
from amae.data.stored import stored_images
from amae.mae.weights import load_weights
from amae.method.features import fit_gaussian
from amae.method.stage1 import frozen_features, load_head
from amae.predict.domain import MASKS, held_out_distances
from amae.predict.model import Model, card_of, load_model, save_model
from amae.predict.score import BATCH, score_images
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError, naming
from amae.runtime.files import atomic, read_csv, rows_of, sha256
from amae.runtime.provenance import code_revision, versions
from amae.settings import ReconstructionSettings

LIMIT_IMAGES = 64  # of T_n: their maps set the end of the colour scale
LIMIT_PERCENTILE = 99.8


def export(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    lungs_table: p.LungsTable,
    weights: p.Weights,
    head: p.Head,
    model_a: p.ModelA,
    model_b: p.ModelB,
    model: p.Model,
    card: p.file("model card to write (.md)"),
    dataset: p.DatasetName,
    conversion: p.Conversion = "minmax",
    square: p.Square = "squash",
    reconstruction: ReconstructionSettings = ReconstructionSettings(),
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
) -> None:
    """Put a trained model and all that scoring a new radiograph needs into one file, with a card to read."""
    where = choose_device(device, gpus)
    encoder, a, b = (load_weights(path, where) for path in (weights, model_a, model_b))
    files = {"manifest": manifest, "images": images, "index": index, "lungs_table": lungs_table, "weights": weights}
    files |= {"head": head, "model_a": model_a, "model_b": model_b}
    about = {
        "dataset": dataset,
        "seed": seed,
        "conversion": conversion,
        "square": square,
        "reconstruction": dataclasses.asdict(reconstruction),
        "files": {name: sha256(path) for name, path in files.items()},
        "versions": versions(),
        "commit": (code_revision() or {}).get("commit", "unknown"),
    }
    trained = Model(about, encoder, load_head(head, encoder.architecture.width).to(where).eval(), a, b, {})
    learned, arrays = _describe_training(trained, manifest, images, index, lungs_table)
    save_model(dataclasses.replace(trained, about=about | learned, arrays=arrays), model)
    with atomic(card) as temporary:
        temporary.write_text(card_of(load_model(model)), encoding="utf-8")


def _describe_training(
    model: Model, manifest: Path, images: Path, index: Path, lungs_table: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Statistics of the training images, and the scores of the calibration images, if any."""
    rows, (packed, about) = read_manifest(manifest), open_images(images, index)
    size = model.encoder.architecture.image_size
    if packed.shape[1] != size:
        raise InputError(f"{images}: images of {packed.shape[1]} px, but the autoencoder is for images of {size} px")
    calibration = ["calibration"] if (rows["split"] == "calibration").any() else []
    rejected = rejected_beside(index)
    with naming(manifest):
        parts = {
            split: select(rows, about, split, rejected) for split in ("train_normal", "train_unlabeled", *calibration)
        }
    normal, training = parts["train_normal"], pd.concat([parts["train_normal"], parts["train_unlabeled"]])
    lungs = rows_of(read_csv(lungs_table, ["image_id", "coverage", "flag"]), training["image_id"], lungs_table)
    pixels = stored_images(packed, training["row"].to_numpy(), model.device)
    features = frozen_features(model.encoder, pixels).double().cpu().numpy()
    mean, precision = fit_gaussian(features)
    arrays = {
        "features.mean": mean,
        "features.precision": precision,
        "training.intensity": np.concatenate([batch.cpu().numpy().mean((1, 2)) for batch in pixels.split(BATCH)]),
        "training.coverage": lungs["coverage"].astype(float).to_numpy(),
        "training.distance": held_out_distances(features, patients_of(training)),
    }
    _, maps = _score(model, normal.head(LIMIT_IMAGES), packed)
    found = {
        "images": {"calibration": 0} | {split: len(chosen) for split, chosen in parts.items()},
        "mask_shares": {name: float((lungs["flag"] == name).mean()) for name in MASKS},
        "map_limit": max(float(np.percentile(maps, LIMIT_PERCENTILE)), 1e-6),
    }
    if calibration:
        scores, _ = _score(model, parts["calibration"], packed)
        arrays |= {f"calibration.{name}": np.sort(scores[name].to_numpy(np.float64)) for name in scores}
    return found, arrays


def _score(model: Model, chosen: pd.DataFrame, images: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores and maps of packed images, in batches."""
    parts = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    found = [score_images(model, images[part["row"].to_numpy()], part["image_id"].tolist()) for part in parts]
    return pd.concat([scores for scores, *_ in found]), np.concatenate([maps for *_, maps in found])
