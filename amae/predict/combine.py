"""One model of several that differ in their seed: the mean of their scores, each on the scale of normal images."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from amae.predict.card import origin
from amae.predict.model import Model
from amae.predict.score import SCORES, map_limit, mean_scores, score_packed
from amae.runtime.errors import InputError
from amae.runtime.provenance import code_revision, versions

# Of the description: what a member needs to score, and what the card reports of it.
OF_MEMBER = ("seed", "masks_of_new_images", "detector", "test")
SHARED = ("dataset", "conversion", "square", "reconstruction", "images", "architecture")
SHARED_FILES = ("manifest", "images", "index", "weights")


def require_alike(models: Mapping[str, Model]) -> None:
    """Raise InputError, naming the files, where models, by file, are not replicates of one run with seeds of their own.

    They are where data set, settings, images and f_0 are the same, and none was combined or recalibrated before.
    """
    first, *others = models
    if not others:
        raise InputError(f"{first}: the only model; expected two or more, with different seeds")
    seeds: dict[int, str] = {}
    for path, model in models.items():
        about, wanted = model.about, models[first].about
        for done, key in (("combined", "members"), ("recalibrated", "recalibration")):
            if key in about:
                raise InputError(f"{path}: already {done}; expected a model as `amae export` makes it")
        for key in SHARED:
            if about[key] != wanted[key]:
                raise InputError(f"{path}: {key} is {about[key]}, but {wanted[key]} in {first}; they do not belong")
        for name in SHARED_FILES:
            if about["files"][name] != wanted["files"][name]:
                raise InputError(f"{path}: made from another file {name} than {first}; they do not belong")
        if (other := seeds.setdefault(about["seed"], path)) != path:
            raise InputError(f"{path}: {origin(about)}, as {other}; expected models of different seeds")


def combined(
    models: Sequence[Model],
    hashes: Sequence[str],
    reference: np.ndarray,
    unlabeled: np.ndarray,
) -> Model:
    """The model that gives the mean over `models`, which `require_alike` accepts.

    `hashes`: SHA-256 of their files. `reference`: uint8 `(N, H, W)`, the calibration images or, where the models have
    none, images of T_n: the mean and standard deviation of a model's score on them set its scale. `unlabeled`: images
    of T_u, for the end of the colour scale. Raises InputError where a score is constant.
    """
    first = models[0]
    scores = [score_packed(model, reference)[0] for model in models]
    scales = {
        name: np.array([_scale(model, each, name) for model, each in zip(models, scores, strict=True)])
        for name in SCORES
    }
    arrays = {
        name: array for name, array in first.arrays.items() if name.split(".")[0] in ("features", "normal", "training")
    }
    arrays |= {f"scale.{name}": scale for name, scale in scales.items()}
    if first.group("calibration"):
        joint = mean_scores(scores, scales)
        arrays |= {f"calibration.{name}": np.sort(joint[name].to_numpy()) for name in SCORES}
    abouts = [model.about for model in models]
    about = {key: value for key, value in first.about.items() if key != "format"} | {
        "members": [{key: each[key] for key in OF_MEMBER} for each in abouts],
        "scaled_by": len(reference),
        "test": {},
        "auc_p": _mean([each["auc_p"] for each in abouts]),
        "implied_auc": _mean([each["implied_auc"] for each in abouts]),
        "no_calls": {k: f"{origin(each)}: {why}" for each in reversed(abouts) for k, why in each["no_calls"].items()},
        "mask_noise": max(each["mask_noise"] for each in abouts),
        "mask_noise_of_run": {
            k: max(e["mask_noise_of_run"][k] for e in abouts) for k in first.about["mask_noise_of_run"]
        },
        "files": {f"model of {origin(each)}": found for each, found in zip(abouts, hashes, strict=True)},
        "versions": versions(),
        "commit": (code_revision() or {}).get("commit", "unknown"),
    }
    parts = (first.encoder, first.head, first.module_a, first.module_b, first.detector)
    model = Model(about, *parts, arrays, tuple(models))
    return dataclasses.replace(model, about=about | {"map_limit": map_limit(model, unlabeled)})


def _scale(model: Model, scores: pd.DataFrame, name: str) -> tuple[float, float]:
    """Mean and standard deviation of a score on the reference images."""
    values = scores[name].to_numpy(np.float64)
    if len(values) < 2 or not (spread := values.std(ddof=1)) > 0:
        raise InputError(
            f"model of {origin(model.about)}: score {name} is the same for all {len(values)} normal images"
        )
    return values.mean(), spread


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean by score, of the scores that all have."""
    return {name: float(np.mean([each[name] for each in found])) for name in found[0] if all(name in e for e in found)}
