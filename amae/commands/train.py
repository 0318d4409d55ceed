"""Commands that train and apply networks. None of them is ever given the hidden labels."""

import hashlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amae.data.manifest import read_manifest
from amae.data.packed import open_images, select
from amae.data.stored import Stored, stored_images, stored_masks
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.mae.weights import NORMALISATIONS, convert_weights, load_encoder, load_weights, save_weights
from amae.method.training import Resume, finish
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError, naming
from amae.runtime.files import atomic, read_csv, rows_of, write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.provenance import recording
from amae.settings import (
    ModelSettings,
    ModuleSettings,
    PretrainSettings,
    ReconstructionSettings,
    Stage1Settings,
    from_options,
)

PART = 512  # test images reconstructed at a time
Model = TypeVar("Model", bound=torch.nn.Module)


def load_split(options: Namespace, *splits: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The manifest's rows of these splits that have an image, with its place as `row`; all images, memory-mapped."""
    manifest = read_manifest(options.manifest)
    images, index = open_images(options.images, options.index)
    with naming(options.manifest):
        return pd.concat([select(manifest, index, split) for split in splits], ignore_index=True), images


def _unlabeled(options: Namespace) -> list[str]:
    """The split of T_u, where the manifest has it; a data set of protocol N has none."""
    return sorted(set(read_manifest(options.manifest)["split"]) & {"train_unlabeled"})


def to_device(images: np.ndarray, rows: pd.Series, device: torch.device) -> Tensor:
    """These packed images as uint8 `(N, H, W)` on the device."""
    return torch.from_numpy(images[rows.to_numpy()]).to(device)


def load_model(
    path: Path, size: int, device: torch.device, load: Callable[[Path, torch.device], Model] = load_weights
) -> Model:
    """A trained autoencoder for images of this size; with `load_encoder`, whatever can serve stage 1."""
    model = load(path, device)
    if model.architecture.image_size != size:
        raise InputError(
            f"{path}: made for images of {model.architecture.image_size} px, the packed images have {size} px"
        )
    return model


def _resume(path: Path, record: dict[str, Any], command: str) -> Resume:
    """Unfinished state beside `path`, bound to settings, seed, inputs and code."""
    hashes = {role: file["sha256"] for role, file in record["inputs"].items()}
    what = [record["settings"], record["seed"], hashes, fingerprint(f"{__name__}:{command}")]
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Resume(path.with_name(f".{path.stem}.unfinished.pt"), identity)


def _files(options: Namespace, *names: str) -> dict[str, Path]:
    """Input files by role, for the record."""
    return {name: getattr(options, name) for name in names}


def pretrain(options: Namespace) -> None:
    """Pre-train f_0 and g_0 from scratch on T_n and, where there is one, T_u; their labels play no part."""
    from amae.method.modules import train_autoencoder

    sizes, settings = from_options(ModelSettings, options), from_options(PretrainSettings, options)
    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, "train_normal", *_unlabeled(options))
    batch = stored_images(images, chosen["row"].to_numpy(), device)
    inputs = _files(options, "manifest", "images", "index")
    with recording(
        options.record, settings=[sizes, settings], seed=options.seed, inputs=inputs, device=device
    ) as record:
        mean, std = _grey_statistics(batch)
        torch.manual_seed(options.seed)
        model = MAE(Architecture(**vars(sizes), mean=mean, std=std)).to(device)
        resume = _resume(options.weights, record, "pretrain")
        lr = settings.lr * settings.batch_size / 256
        history = train_autoencoder(model, batch, settings, lr, options.seed, resume)
        record["images"] = len(batch) * settings.epochs
        made = f"pre-trained by amae pretrain on {len(batch)} images, seed {options.seed}"
        hashes = {f"{name}_sha256": record["inputs"][name]["sha256"] for name in ("manifest", "images")}
        save_weights(model, options.weights, {"made": made, "settings": json.dumps(vars(settings)), **hashes})
        write_csv(history, options.history)
    finish(resume)


def _grey_statistics(images: Tensor | Stored) -> tuple[float, float]:
    """Mean and standard deviation of intensities in [0, 1] over all pixels, rounded to what matters."""
    counts = sum(torch.bincount(batch.flatten(), minlength=256) for batch in images.split(1024)).double().cpu()
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * levels).sum() / counts.sum()
    std = ((counts * (levels - mean) ** 2).sum() / counts.sum()).sqrt()
    return round(mean.item(), 4), round(std.item(), 4)


def import_weights(options: Namespace) -> None:
    """Read f_0 and g_0 from a published or a pre-trained file of the configured sizes, or a DenseNet for stage 1."""
    mean, std = NORMALISATIONS[options.normalisation]
    sizes = vars(from_options(ModelSettings, options))
    convert_weights(options.source, options.weights, mean=mean, std=std, sizes=sizes)


def train_stage1(options: Namespace) -> None:
    """Train the stage 1 head on T_n."""
    from amae.method.stage1 import save_head
    from amae.method.stage1 import train_stage1 as train

    settings = from_options(Stage1Settings, options)
    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, "train_normal")
    inputs = _files(options, "manifest", "images", "index", "lungs", "weights")
    with recording(options.record, settings=settings, seed=options.seed, inputs=inputs, device=device) as record:
        encoder = load_model(options.weights, images.shape[1], device, load_encoder)
        resume = _resume(options.head, record, "train_stage1")
        lungs = stored_masks(options.lungs, chosen["row"].to_numpy(), images.shape[1], device)
        batch = stored_images(images, chosen["row"].to_numpy(), device)
        head, history = train(encoder, batch, lungs, settings, options.seed, resume)
        record["images"] = 2 * len(batch) * settings.epochs
        save_head(head, options.head)
        write_csv(history, options.history)
    finish(resume)


def score_stage1(options: Namespace) -> None:
    """Score T_u and the test images with stage 1."""
    from amae.method.stage1 import load_head
    from amae.method.stage1 import score_stage1 as score

    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, *_unlabeled(options), "test")
    encoder = load_model(options.weights, images.shape[1], device, load_encoder)
    head = load_head(options.head, encoder.architecture.width).to(device)
    p = score(encoder, head, stored_images(images, chosen["row"].to_numpy(), device)).cpu().numpy()
    write_csv(chosen[["image_id", "split"]].assign(p_normal=p[:, 0], p_abnormal=p[:, 1]), options.stage1_scores)


def train_module(options: Namespace) -> None:
    """Adapt f_0 and g_0 as module A or B, or as the baseline Mask Rec. on T_n and T_u pooled."""
    from dataclasses import replace

    from amae.method.modules import equal_epochs, module_lr, train_autoencoder, training_images

    settings = from_options(ModuleSettings, options)
    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, "train_normal", "train_unlabeled")
    pseudo_labels = _pseudo_labels(options)
    ids = training_images(options.module, chosen, pseudo_labels, settings)
    effective = settings
    if settings.equal_updates and options.module == "B":
        of_a = training_images("A", chosen, pseudo_labels, settings)
        epochs, warmup = equal_epochs(settings, len(ids), len(of_a))
        effective = replace(settings, epochs=epochs, warmup_epochs=warmup)
    rows = rows_of(chosen, ids, options.manifest)["row"]
    print(f"module {options.module}: {len(ids)} images, {effective.epochs} epochs", file=sys.stderr)
    inputs = _files(options, "manifest", "images", "index", "weights")
    inputs |= _files(options, "pseudo_labels") if options.pseudo_labels else {}
    what = {"module": options.module, **vars(effective)}
    with recording(options.record, settings=what, seed=options.seed, inputs=inputs, device=device) as record:
        model = load_model(options.weights, images.shape[1], device)
        resume = _resume(options.model, record, "train_module")
        batch = stored_images(images, rows.to_numpy(), device)
        history = train_autoencoder(
            model,
            batch,
            effective,
            module_lr(settings),
            options.seed,
            resume,
            masks=settings.masks,
            loss_on=settings.loss_on,
        )
        record["images"] = len(batch) * effective.epochs
        made = f"module {options.module}, trained by amae train-module on {len(ids)} images, seed {options.seed}"
        save_weights(model, options.model, {"made": made})
        write_csv(history, options.history)
    finish(resume)


def _pseudo_labels(options: Namespace) -> pd.DataFrame:
    """The pseudo-labels of T_u; none for the pooled module, which has no use for them."""
    if options.pseudo_labels:
        return read_csv(options.pseudo_labels, ["image_id", "pseudo_label"])
    if options.module != "pooled":
        raise InputError(f"--pseudo-labels: missing; module {options.module} needs them")
    return pd.DataFrame(columns=["image_id", "pseudo_label"])


def score_pooled(options: Namespace) -> None:
    """Score the test images with the baseline Mask Rec.: the masked error of one autoencoder."""
    from amae.method.reconstruct import draw_orders
    from amae.method.reconstruct import reconstruct as run

    settings = from_options(ReconstructionSettings, options)
    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, "test")
    model = load_model(options.model, images.shape[1], device)
    orders = draw_orders(chosen["image_id"].tolist(), options.seed, model.architecture.patches, settings)
    parts = _parts(images, chosen["row"].to_numpy(), orders, device)
    error = torch.cat([run(model, batch, masks, settings)[1] for _, batch, masks in parts])
    write_csv(chosen[["image_id"]].assign(mask_rec=error.numpy()), options.scores)


def _parts(
    images: np.ndarray, rows: np.ndarray, orders: Tensor, device: torch.device
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """PART test images at a time, here and on the device, with their masks: maps take memory."""
    for start in range(0, len(rows), PART):
        part = images[rows[start : start + PART]]
        yield part, torch.from_numpy(part).to(device), orders[start : start + PART]


def reconstruct(options: Namespace) -> None:
    """Reconstruct the test images with both modules, and score them."""
    from amae.method.reconstruct import draw_orders, hidden_counts
    from amae.method.reconstruct import reconstruct as run
    from amae.method.scores import reconstruction_scores

    settings = from_options(ReconstructionSettings, options)
    device = choose_device(options.device, options.gpus)
    chosen, images = load_split(options, "test")
    ids = chosen["image_id"].tolist()
    inputs = _files(options, "manifest", "images", "index", "model_a", "model_b")
    with recording(options.record, settings=settings, seed=options.seed, inputs=inputs, device=device) as record:
        models = [load_model(path, images.shape[1], device) for path in (options.model_a, options.model_b)]
        a = models[0].architecture
        orders = draw_orders(ids, options.seed, a.patches, settings)
        parts = []
        for part, batch, masks in _parts(images, chosen["row"].to_numpy(), orders, device):
            (mu_a, error_a), (mu_b, _) = [run(model, batch, masks, settings) for model in models]
            scores = reconstruction_scores(part, mu_a.numpy(), mu_b.numpy(), error_a.numpy(), a.patch_size)
            parts.append((scores, mu_a.numpy().astype(np.float16), mu_b.numpy().astype(np.float16)))
        record["images"] = len(ids)
        visible = a.visible(settings.mask_ratio)
        seen = np.zeros((len(ids), a.patches), bool)
        np.put_along_axis(seen, orders[:, 0, :visible].numpy(), True, axis=1)
        grid = (len(ids), a.grid, a.grid)
        with atomic(options.maps) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                image_id=np.array(ids),
                mu_a=np.concatenate([mu_a for _, mu_a, _ in parts]),
                mu_b=np.concatenate([mu_b for _, _, mu_b in parts]),
                hidden=hidden_counts(orders, visible).reshape(grid),
                visible=seen.reshape(grid),
            )
        scores = pd.concat([scores for scores, _, _ in parts], ignore_index=True)
        write_csv(chosen[["image_id"]].join(scores), options.reconstruction_scores)
