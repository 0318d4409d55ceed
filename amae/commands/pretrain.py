"""f_0 and g_0 from the images at hand."""

import json

import torch
from torch import Tensor

from amae.commands import parameters as p
from amae.data.packed import load_splits
from amae.data.stored import Stored, stored_images
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.mae.weights import save_weights
from amae.method.adaptation import train_autoencoder
from amae.method.training import finish, resume_beside
from amae.runtime.device import choose_device
from amae.runtime.files import write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.provenance import recording
from amae.settings import ModelSettings, PretrainSettings


def pretrain(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    weights: p.Weights,
    history: p.History,
    record: p.Record,
    mae: ModelSettings = ModelSettings(),
    pretrain: PretrainSettings = PretrainSettings(),
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Pre-train a masked autoencoder on T_n and, where there is one, T_u; their labels play no part."""
    where = choose_device(device, gpus, jobs_per_card)
    chosen, packed = load_splits(manifest, images, index, "train_normal", "train_unlabeled")
    batch = stored_images(packed, chosen["row"].to_numpy(), where)
    inputs = {"manifest": manifest, "images": images, "index": index}
    with recording(record, settings=[mae, pretrain], seed=seed, inputs=inputs, device=where) as made:
        mean, std = _grey_statistics(batch)
        torch.manual_seed(seed)
        model = MAE(Architecture(**vars(mae), mean=mean, std=std)).to(where)
        resume = resume_beside(weights, made, fingerprint("amae.commands.pretrain"))
        lr = pretrain.lr * pretrain.batch_size / 256
        rows = train_autoencoder(model, batch, pretrain, lr, seed, resume)
        made["images"] = len(batch) * pretrain.epochs
        about = f"pre-trained by amae pretrain on {len(batch)} images, seed {seed}"
        hashes = {f"{name}_sha256": made["inputs"][name]["sha256"] for name in ("manifest", "images")}
        save_weights(model, weights, {"made": about, "settings": json.dumps(vars(pretrain)), **hashes})
        write_csv(rows, history)
    finish(resume)


def _grey_statistics(images: Tensor | Stored) -> tuple[float, float]:
    """Mean and standard deviation of intensities in [0, 1] over all pixels, rounded to what matters."""
    counts = sum(torch.bincount(batch.flatten(), minlength=256) for batch in images.split(1024)).double().cpu()
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * levels).sum() / counts.sum()
    std = ((counts * (levels - mean) ** 2).sum() / counts.sum()).sqrt()
    return round(mean.item(), 4), round(std.item(), 4)
