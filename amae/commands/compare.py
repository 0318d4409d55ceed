"""Commands that train and apply the comparators. None of them is ever given a label of an unlabeled image."""

import hashlib
import json
import shutil
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amae.commands.train import load_model, load_split, to_device
from amae.comparators import TestData, TrainingData, column, load_method
from amae.data.splits import patients_of
from amae.mae.checkpoints import is_safetensors, read_safetensors, write_tensors
from amae.mae.weights import load_encoder
from amae.method.training import Resume
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError
from amae.runtime.files import write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.provenance import recording
from amae.settings import from_mapping

_MEANING = {
    "lungs": "lung masks (--lungs, made by `amae segment-lungs`)",
    "encoder": "a pre-trained autoencoder (--weights, made by `amae pretrain` or `amae import-weights`)",
}


def fit_comparator(options: Namespace) -> None:
    """Train a comparator: protocol N on T_n, protocol Y on T_n and T_u."""
    method, settings = _method(options)
    device = choose_device(options.device, options.gpus)
    what = {"method": options.method, "protocol": options.protocol, **asdict(settings)}
    needed = {"lungs": "lungs", "encoder": "weights"}
    files = {name: getattr(options, name) for name in ("manifest", "images", "index")}
    files |= {option: getattr(options, option) for need, option in needed.items() if need in method.NEEDS}
    with recording(options.record, settings=what, seed=options.seed, inputs=files, device=device) as record:
        resume = _resume(options.state, record, options.method)
        state, history = method.fit(_training_data(options, method, device), settings, options.seed, resume)
        save_state(state, options.state, options.method, options.protocol, settings)
        write_csv(history, options.history)
    shutil.rmtree(resume.path.parent, ignore_errors=True)


def score_comparator(options: Namespace) -> None:
    """Score the test images with a trained comparator: one column for each of its scores, named by `column`."""
    device = choose_device(options.device, options.gpus)
    state, name, settings = load_state(options.state, device)
    method = load_method(name)
    _require(options, name, method.NEEDS & {"encoder"})
    chosen, images = load_split(options, "test")
    encoder = load_model(options.weights, images.shape[1], device, load_encoder) if "encoder" in method.NEEDS else None
    data = TestData(to_device(images, chosen["row"], device), chosen["view"].tolist(), encoder)
    scores = method.score(state, data, settings)
    columns = {column(name, score): values.cpu().numpy() for score, values in scores.items()}
    write_csv(pd.DataFrame({"image_id": chosen["image_id"], **columns}), options.scores)


def compare(options: Namespace) -> None:
    """Train a comparator and score the test images with it."""
    fit_comparator(options)
    score_comparator(options)


def score_probe(options: Namespace) -> None:
    """Probability of each image of T_u that it is not of T_n, by probes that never saw its patient.

    Written as stage 1 writes its own. Which image is of T_u is all that the probe is told, as in the comparator
    pu_probe.
    """
    from amae.comparators.pu_probe import Settings, out_of_fold
    from amae.method.stage1 import frozen_features

    settings = read_settings(Settings, options.settings or "{}")
    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, "train_normal", "train_unlabeled")
    encoder = load_model(options.weights, images.shape[1], device, load_encoder)
    features = frozen_features(encoder, to_device(images, chosen["row"], device)).cpu().numpy()
    unlabeled = (chosen["split"] == "train_unlabeled").to_numpy()
    p = out_of_fold(features, unlabeled, patients_of(chosen), settings)
    table = chosen.loc[unlabeled, ["image_id", "split"]]
    write_csv(table.assign(p_normal=1 - p, p_abnormal=p), options.probe_scores)


def read_settings(kind: type, text: str) -> Any:
    """Settings of a comparator from JSON: an object with those that differ from the defaults.

    Raises InputError, naming the key, for anything that is not such an object.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--settings {text!r}: not JSON ({error})") from None
    if not isinstance(given, dict):
        raise InputError(f'--settings {text!r}: expected an object, such as {{"epochs": 20}}')
    try:
        return from_mapping(kind, given)
    except InputError as error:
        raise InputError(f"--settings: key {error}") from None


def save_state(state: dict[str, Tensor], path: str | Path, method: str, protocol: str, settings: Any) -> None:
    """Write a trained comparator as safetensors with its method, protocol and settings."""
    about = {"kind": "comparator", "method": method, "protocol": protocol, "settings": asdict(settings)}
    write_tensors(state, path, about)


def load_state(path: str | Path, device: torch.device) -> tuple[dict[str, Tensor], str, Any]:
    """Read a trained comparator: its state on the device, method and settings; InputError if the file is not one."""
    if not is_safetensors(path):
        raise InputError(f"{path}: not a trained comparator: no safetensors file; make it with `amae compare`")
    about, state = read_safetensors(path)
    if about.get("kind") != "comparator":
        raise InputError(f"{path}: not a trained comparator, but {about.get('kind', 'something else')}")
    try:
        state = {name: tensor.to(device) for name, tensor in state.items()}
        return state, about["method"], load_method(about["method"]).Settings(**about["settings"])
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: not of this version ({error}); make it again with `amae compare`") from None


def _method(options: Namespace) -> tuple[ModuleType, Any]:
    """The method and its settings, once they and the protocol are found to fit together."""
    method = load_method(options.method)
    if options.protocol not in method.PROTOCOLS:
        known = " or ".join(method.PROTOCOLS)
        raise InputError(f"method {options.method}: found protocol {options.protocol!r}, expected {known}")
    _require(options, options.method, method.NEEDS)
    return method, read_settings(method.Settings, options.settings or "{}")


def _require(options: Namespace, method: str, needs: frozenset[str]) -> None:
    """Raise InputError for a file that the method needs and that is not given."""
    for need, option in [("lungs", "lungs"), ("encoder", "weights")]:
        if need in needs and getattr(options, option, None) is None:
            raise InputError(f"method {method} needs {_MEANING[need]}")


def _training_data(options: Namespace, method: ModuleType, device: torch.device) -> TrainingData:
    """Images of T_n and, under protocol Y, T_u, with what the method needs beside them."""
    splits = ["train_normal", "train_unlabeled"] if options.protocol == "Y" else ["train_normal"]
    chosen, images = load_split(options, *splits)
    rows = [chosen.loc[chosen["split"] == split, "row"] for split in ("train_normal", "train_unlabeled")]
    normal, unlabeled = (to_device(images, each, device) for each in rows)
    lungs = [_lungs(options.lungs, each, images, device) for each in rows] if "lungs" in method.NEEDS else [None, None]
    encoder = load_model(options.weights, images.shape[1], device, load_encoder) if "encoder" in method.NEEDS else None
    return TrainingData(normal, unlabeled, *lungs, encoder=encoder)


def _lungs(path: Path, rows: pd.Series, images: np.ndarray, device: torch.device) -> Tensor:
    """Lung masks at the images' size, bool `(N, H, W)`."""
    from amae.data.packed import load_lung_masks

    return torch.from_numpy(load_lung_masks(path, rows.to_numpy(), images.shape[1])).to(device)


def _resume(path: Path, record: dict[str, Any], method: str) -> Resume:
    """Unfinished trainings in a folder beside `path`, bound to settings, seed, inputs and code."""
    hashes = {role: file["sha256"] for role, file in record["inputs"].items()}
    code = [fingerprint(f"amae.comparators.{method}:fit"), fingerprint(f"{__name__}:fit_comparator")]
    what = [record["settings"], record["seed"], hashes, code]
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Resume(path.with_name(f".{path.stem}.unfinished") / "training.pt", identity)
