"""The comparators, each with its own settings."""

import dataclasses
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch

from amae.commands import parameters as p
from amae.comparators.interface import TestData, TrainingData, check_fitted, check_scores
from amae.comparators.methods import Method, all_methods, code_of, column, method_of, package_of, section
from amae.comparators.settings import BalancedSettings, IgdSettings
from amae.comparators.state import load_state, save_state
from amae.data.packed import load_lung_masks, load_splits
from amae.data.splits import patients_of
from amae.data.stored import on_device
from amae.evaluation.audit import age_in_years
from amae.mae.weights import Encoder, load_encoder, load_for_size, load_weights
from amae.method.training import resume_beside
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError, naming
from amae.runtime.files import write_csv
from amae.runtime.provenance import recording

Protocol = Annotated[Literal["N", "Y"], p.meaning("N: trained on T_n; Y: on T_n and T_u")]


def compare(
    method: str,
    settings: Any,
    *,
    protocol: Protocol,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    state: p.file("trained comparator to write (.safetensors)"),
    history: p.History,
    record: p.Record,
    scores: p.Scores,
    lungs: p.optional(p.Lungs) = None,
    weights: p.optional(p.Weights) = None,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Train a comparator, and score the test images with it."""
    about = method_of(method)
    files = _needed(method, about, protocol, lungs, weights)
    where = choose_device(device, gpus, jobs_per_card)
    packed = manifest, images, index
    what = {"method": method, "protocol": protocol, **dataclasses.asdict(settings)}
    inputs = dict(zip(("manifest", "images", "index"), packed, strict=True)) | files
    if isinstance(settings, IgdSettings) and settings.backbone:  # a file among the settings: its hash goes on record
        inputs["backbone"] = Path(settings.backbone)
    with recording(record, settings=what, seed=seed, inputs=inputs, device=where) as made:
        made["versions"] |= package_of(method)
        beside = resume_beside(state, made, code_of(method))
        # a folder: a method may train several networks
        resume = dataclasses.replace(beside, path=beside.path.with_suffix("") / "training.pt")
        balanced = settings.column if isinstance(settings, BalancedSettings) else None
        data = _training_data(protocol, packed, files, about, where, balanced)
        found = about.fit(data, settings, seed, resume)
        with naming(f"method {method}"):
            trained, epochs = check_fitted(found)
        save_state(trained, state, method, protocol, settings)
        write_csv(epochs, history)
    _score(state, packed, files, scores, seed, where, about.protocols[protocol])
    shutil.rmtree(resume.path.parent, ignore_errors=True)  # only now: a score that fails costs no training


def _score(
    state: Path,
    packed: tuple[Path, Path, Path],
    files: dict[str, Path],
    scores: Path,
    seed: int,
    device: torch.device,
    declared: str,
) -> None:
    """Score the test images with a trained comparator: one column for each of its scores, named by `column`."""
    tensors, name, settings = load_state(state, device)
    method = method_of(name)
    chosen, images = load_splits(*packed, "test")
    encoder = _encoder(method, files.get("weights"), images.shape[1], device)
    batch = on_device(images, chosen["row"], device)
    lungs = None
    if "lungs" in method.needs:
        lungs = _lungs(files["lungs"], chosen["row"], images.shape[1], device)
    data = TestData(batch, chosen["view"].tolist(), encoder, chosen["image_id"].tolist(), seed, lungs)
    with naming(f"method {name}"):
        found = check_scores(method.score(tensors, data, settings), data.ids, declared)
    columns = {column(name, score): values.cpu().numpy() for score, values in found.items()}
    write_csv(pd.DataFrame({"image_id": chosen["image_id"], **columns}), scores)


def _needed(name: str, method: Method, protocol: str, lungs: Path | None, weights: Path | None) -> dict[str, Path]:
    """Files that the method needs, by option; InputError for a missing one and a protocol that it cannot follow."""
    if protocol not in method.protocols:
        raise InputError(f"method {name}: found protocol {protocol!r}, expected {' or '.join(method.protocols)}")
    files = {}
    if "lungs" in method.needs:
        files["lungs"] = lungs
    if method.needs & {"encoder", "autoencoder"}:
        files["weights"] = weights
    made_by = {"lungs": "`amae segment-lungs`", "weights": "`amae pretrain` or `amae import-weights`"}
    for option, path in files.items():
        if path is None:
            raise InputError(f"--{option}: missing; method {name} needs it (made by {made_by[option]})")
    return files


def _encoder(method: Method, weights: Path | None, size: int, device: torch.device) -> Encoder | None:
    """f_0, or f_0 and g_0, where the method needs it."""
    if "autoencoder" in method.needs:
        return load_for_size(weights, size, device, load_weights)
    return load_for_size(weights, size, device, load_encoder) if "encoder" in method.needs else None


def _training_data(
    protocol: str,
    packed: tuple[Path, Path, Path],
    files: dict[str, Path],
    method: Method,
    device: torch.device,
    column: str | None,
) -> TrainingData:
    """Images of T_n and, under protocol Y, T_u, with what the method needs beside them, and a column of the table."""
    chosen, images = load_splits(*packed, *["train_normal", "train_unlabeled"][: 1 + (protocol == "Y")])
    rows = [chosen.loc[chosen["split"] == split, "row"] for split in ("train_normal", "train_unlabeled")]
    masks = [None, None]
    if "lungs" in method.needs:
        masks = [_lungs(files["lungs"], each, images.shape[1], device) for each in rows]
    return TrainingData(
        *(on_device(images, each, device) for each in rows),
        *masks,
        encoder=_encoder(method, files.get("weights"), images.shape[1], device),
        patients=patients_of(chosen),
        groups=_groups(chosen, column, packed[0]) if column else (),
    )


def _groups(chosen: pd.DataFrame, column: str, manifest: Path) -> list[str]:
    """Values of a column, ages by decade; "" and "nan" are groups like others. InputError where the table lacks it."""
    if column not in chosen:
        raise InputError(f"column: the table of images ({manifest}) has no column {column}")
    if column == "age":
        return [str(years // 10) for years in chosen[column].map(age_in_years)]
    return chosen[column].tolist()


def _lungs(path: Path, rows: pd.Series, size: int, device: torch.device) -> torch.Tensor:
    """Lung masks of these rows, bool `(N, size, size)`."""
    return torch.from_numpy(load_lung_masks(path, rows.to_numpy(), size)).to(device)


def _command(name: str) -> Callable[..., None]:
    """The sub-command of one method: `compare` with the options of that method's settings."""
    method = method_of(name)
    sections = _sections(name)

    def command(**options: Any) -> None:
        given = {key: options.pop(key, of()) for key, of in sections.items()}
        compare(name, given[section(name)] if section(name) in given else method.settings(**given), **options)

    own = inspect.signature(compare).parameters
    shared = [each for key, each in own.items() if key not in ("method", "settings")]
    if taken := sections.keys() & own.keys():
        raise InputError(f"method {name}: --{taken.pop()} is an option already; give the method another name")
    kind = inspect.Parameter.KEYWORD_ONLY
    made = [inspect.Parameter(key, kind, default=of(), annotation=of) for key, of in sections.items()]
    command.__signature__ = inspect.Signature([*shared, *made])
    command.__doc__ = f"Train {method.title}, and score the test images with it."
    command.__name__ = name
    return command


def _sections(name: str) -> dict[str, type]:
    """The settings of a method by section of the command line: its own, or those that it shares with AMAE."""
    fields = dataclasses.fields(method_of(name).settings)
    shared = {field.name: field.type for field in fields if dataclasses.is_dataclass(field.type)}
    return shared or ({section(name): method_of(name).settings} if fields else {})


SUBCOMMANDS = {name: _command(name) for name in all_methods()}
