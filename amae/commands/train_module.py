"""Modules A and B."""

import sys
from dataclasses import replace
from typing import Annotated, Literal

from amae.commands import parameters as p
from amae.data.packed import load_splits
from amae.data.stored import stored_images
from amae.mae.weights import load_for_size, save_weights
from amae.method.adaptation import train_autoencoder
from amae.method.modules import equal_epochs, module_lr, training_images
from amae.method.training import finish, resume_beside
from amae.runtime.device import choose_device
from amae.runtime.files import read_csv, rows_of, write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.provenance import recording
from amae.settings import ModuleSettings


def train_module(
    *,
    module: Annotated[Literal["A", "B"], p.meaning("A: of normal images; B: of pseudo-abnormal ones")],
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    weights: p.Weights,
    labels: p.Labels,
    trained_module: p.file("trained module to write (.safetensors)"),
    history: p.History,
    record: p.Record,
    modules: ModuleSettings = ModuleSettings(),
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Adapt the pre-trained autoencoder as module A or B."""
    where = choose_device(device, gpus, jobs_per_card)
    chosen, packed = load_splits(manifest, images, index, "train_normal", "train_unlabeled")
    pseudo = read_csv(labels, ["image_id", "pseudo_label"])
    ids = training_images(module, chosen, pseudo, modules)
    effective = modules
    if modules.equal_updates and module == "B":
        epochs, warmup = equal_epochs(modules, len(ids), len(training_images("A", chosen, pseudo, modules)))
        effective = replace(modules, epochs=epochs, warmup_epochs=warmup)
    rows = rows_of(chosen, ids, manifest)["row"]
    print(f"module {module}: {len(ids)} images, {effective.epochs} epochs", file=sys.stderr)
    inputs = {"manifest": manifest, "images": images, "index": index, "weights": weights, "pseudo_labels": labels}
    what = {"module": module, **vars(effective)}
    with recording(record, settings=what, seed=seed, inputs=inputs, device=where) as made:
        network = load_for_size(weights, packed.shape[1], where)
        resume = resume_beside(trained_module, made, fingerprint("amae.commands.train_module"))
        batch = stored_images(packed, rows.to_numpy(), where)
        of = {"masks": modules.masks, "loss_on": modules.loss_on}
        epochs = train_autoencoder(network, batch, effective, module_lr(modules), seed, resume, **of)
        made["images"] = len(batch) * effective.epochs
        about = f"module {module}, trained by amae train-module on {len(ids)} images, seed {seed}"
        save_weights(network, trained_module, {"made": about})
        write_csv(epochs, history)
    finish(resume)
