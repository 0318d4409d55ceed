"""A trained model in one file."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from amae.commands import parameters as p
from amae.comparators.detector import networks_of
from amae.comparators.state import load_state
from amae.data.manifest import read_manifest
from amae.data.packed import evenly, known_columns, open_images, rejected_beside, select
from amae.data.resize import resize
from amae.data.splits import patients_of
from amae.data.stored import stored_images
from amae.evaluation.soundness import anomaly_ratio as estimate
from amae.evaluation.soundness import (
    auc_of_unlabeled,
    auc_p_interval,
    differences,
    fault,
    implied_auc,
    implied_by_estimate,
    report_fault,
    warn_of_few,
)
from amae.mae.weights import load_weights
from amae.method.features import fit_gaussian
from amae.method.scores import DESCRIPTIONS, MODULE_SCORES
from amae.method.stage1 import frozen_features, load_head
from amae.predict.card import read_card
from amae.predict.domain import MASKS, held_out_distances
from amae.predict.model import Model, save_model
from amae.predict.score import BATCH, LIMIT_IMAGES, map_limit, mask_noise, module_scores, quiet, score_packed
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError, naming
from amae.runtime.files import atomic, read_csv, rows_of, sha256, write_csv
from amae.runtime.provenance import code_revision, versions
from amae.settings import ModuleSettings, ReconstructionSettings, Stage1Settings

NOISE_IMAGES = 64  # on which the noise of the masks is measured
AUCP_IMAGES = 200  # of T_u, spread over it: enough for a second digit


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
    trained_detector: p.TrainedDetector,
    model: p.Model,
    card: p.file("model card to write (.md)"),
    separation: p.file("AUCp, the AUC that it implies and the noise of the masks, of each score, to write (.csv)"),
    measured: p.optional(p.file("metrics of the run's test images, for the card (.csv)")) = None,
    dataset: p.DatasetName,
    conversion: p.Conversion = "minmax",
    square: p.Square = "squash",
    anomaly_ratio: p.AnomalyRatio = None,
    normal_noise: p.NormalNoise = 0.0,
    accept_differences: p.AcceptDifferences = False,
    stage1: Stage1Settings = Stage1Settings(),
    modules: ModuleSettings = ModuleSettings(),
    reconstruction: ReconstructionSettings = ReconstructionSettings(),
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Put a trained model and all that scoring a new radiograph needs into one file, with a card to read.

    The settings of stage 1 and of the modules are those of their trainings. Without an anomaly ratio the implied AUC
    uses the detector's estimate of it, unless that may be 0. Raises InputError where T_n and T_u differ by far more
    than disease, unless that is accepted.
    """
    where = choose_device(device, gpus, jobs_per_card)
    encoder, a, b = (load_weights(path, where) for path in (weights, model_a, model_b))
    files = {"manifest": manifest, "images": images, "index": index, "lungs_table": lungs_table, "weights": weights}
    files |= {"head": head, "model_a": model_a, "model_b": model_b, "trained_detector": trained_detector}
    state, method, settings = load_state(trained_detector, where)
    if method != "detector":
        raise InputError(f"{trained_detector}: found a trained {method}, expected a detector")
    logits = state["normal"].cpu().numpy(), state["unlabeled"].cpu().numpy()
    auc_p, estimated = auc_p_interval(*logits), estimate(*logits)
    apart = differences(*known_columns(manifest, images, index))
    report_fault(fault(auc_p, estimated, anomaly_ratio, apart), accept_differences)
    ratio = estimated[0] if anomaly_ratio is None else anomaly_ratio
    warn_of_few(ratio, len(logits[1]))
    about = {
        "dataset": dataset,
        "normal_noise": normal_noise,
        "seed": seed,
        "conversion": conversion,
        "square": square,
        "reconstruction": dataclasses.asdict(reconstruction),
        "masks_of_new_images": dataclasses.asdict(reconstruction),
        "detector": dataclasses.asdict(settings),
        "test": _test_aucs(measured),
        "files": {name: sha256(path) for name, path in files.items()},
        "versions": versions(),
        "commit": (code_revision() or {}).get("commit", "unknown"),
    }
    detector = tuple(network.to(where) for network in networks_of(state, settings))
    head_of_f0 = load_head(head, encoder.architecture.width).to(where).eval()
    trained = Model(about, encoder, head_of_f0, a, b, detector, {})
    learned, arrays = _describe_training(trained, manifest, images, index, lungs_table)
    if "detector" in learned["auc_p"]:  # T_u out of fold: its networks were trained on it
        learned["auc_p"]["detector"] = auc_p[0]
    learned["implied_auc"] = _implied(learned["auc_p"], anomaly_ratio, estimated)
    learned["no_calls"] |= _not_left_warm_up(detector=settings, stage1=stage1, modules=modules)
    for name, reason in learned["no_calls"].items():
        print(f"warning: {name} calls no image: {reason}", file=sys.stderr)
    save_model(dataclasses.replace(trained, about=about | learned, arrays=arrays), model)
    with atomic(card) as temporary:
        temporary.write_text(read_card(model), encoding="utf-8")
    names = {"auc_p": "auc_p", "implied_auc": "implied_auc", "mask_noise": "mask_noise_of_run"}
    columns = {column: learned[name] for column, name in names.items()}
    write_csv(pd.DataFrame(columns, index=pd.Index(DESCRIPTIONS, name="score")).astype(float).reset_index(), separation)


def _implied(auc_p: dict[str, float], stated: float | None, estimated: tuple[float, float, float]) -> dict[str, float]:
    """AUC that each score's AUCp implies at the stated ratio, or else at the estimated one; none at 0."""
    if stated is None:
        found = {name: implied_by_estimate(value, estimated) for name, value in auc_p.items()}
        return {name: value for name, value in found.items() if value is not None}
    return {name: implied_auc(value, stated) for name, value in auc_p.items() if stated > 0}


def _not_left_warm_up(**trainings: Any) -> dict[str, str]:
    """Scores of networks whose learning rate never went beyond its warm-up, each with the reason."""
    found = {}
    for name, of in trainings.items():
        if of.epochs <= of.warmup_epochs:
            scores = MODULE_SCORES if name == "modules" else [name]
            found |= dict.fromkeys(scores, f"its training ended within its warm-up of {of.warmup_epochs} epochs")
    return found


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
        "normal.image": _mean_image(pixels[: len(normal)], model.about["detector"]["image_size"]),
        "training.intensity": np.concatenate([batch.cpu().numpy().mean((1, 2)) for batch in pixels.split(BATCH)]),
        "training.coverage": lungs["coverage"].astype(float).to_numpy(),
        "training.distance": held_out_distances(features, patients_of(training)),
    }
    model = dataclasses.replace(model, arrays=arrays)
    sample = parts.get("calibration", normal).head(NOISE_IMAGES)
    sample = sample if len(sample) > 1 else normal.head(NOISE_IMAGES)  # one image has no spread
    masks, noise = quiet(model, packed[sample["row"].to_numpy()])
    reconstruction = ReconstructionSettings(**model.about["reconstruction"])
    model = dataclasses.replace(model, about=model.about | {"masks_of_new_images": dataclasses.asdict(masks)})
    unlabeled = parts["train_unlabeled"]["row"].to_numpy()
    found = {
        "images": {"calibration": 0} | {split: len(chosen) for split, chosen in parts.items()},
        "mask_shares": {name: float((lungs["flag"] == name).mean()) for name in MASKS},
        "map_limit": map_limit(model, packed[evenly(unlabeled, LIMIT_IMAGES)]),
        "masks_of_new_images": dataclasses.asdict(masks),
        "mask_noise": noise,
        "mask_noise_of_run": mask_noise(model, packed[sample["row"].to_numpy()], reconstruction),
        "auc_p": {},
        "no_calls": {},
    }
    error, of_mean = _errors(model, packed[sample["row"].to_numpy()], pixels[: len(normal)])
    if error >= of_mean:
        reason = (
            f"module A explains hidden parts of normal images no better than their mean image does (squared error "
            f"{error:.2g} against {of_mean:.2g})"
        )
        found["no_calls"] = dict.fromkeys(MODULE_SCORES, reason)
    if calibration:
        scores, _ = score_packed(model, packed[parts["calibration"]["row"].to_numpy()])
        arrays |= {f"calibration.{name}": np.sort(scores[name].to_numpy(np.float64)) for name in scores}
        found_of_unlabeled, _ = score_packed(model, packed[evenly(unlabeled, AUCP_IMAGES)])
        found["auc_p"] = {name: auc_of_unlabeled(scores[name], found_of_unlabeled[name]) for name in scores}
    return found, arrays


def _mean_image(normal: torch.Tensor, size: int) -> np.ndarray:
    """Mean of T_n at the size of the detector's input: float64 `(size, size)`, grey levels 0 to 255."""
    return (sum(resize(batch, size).double().sum(0) for batch in normal.split(BATCH)) / len(normal)).cpu().numpy()


def _errors(model: Model, images: np.ndarray, normal: torch.Tensor) -> tuple[float, float]:
    """Mean squared error of module A on hidden patches of normal images, and that of the mean of T_n on all."""
    mean = sum(batch.double().sum(0) for batch in normal.split(BATCH)).cpu().numpy() / len(normal)
    return float(module_scores(model, images)["mask_rec"].mean()), float((((images - mean) / 255) ** 2).mean())


def _test_aucs(measured: Path | None) -> dict[str, list[float]]:
    """AUC of each score on all test images, with its interval; none where it was not measured."""
    if measured is None:
        return {}
    table = read_csv(measured, ["score", "group", "auc", "auc_low", "auc_high"])
    table = table[(table["group"] == "all") & table["score"].isin(DESCRIPTIONS)]
    return {row["score"]: [float(row[name]) for name in ("auc", "auc_low", "auc_high")] for _, row in table.iterrows()}
