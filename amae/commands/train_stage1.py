"""The stage 1 head."""

from amae.commands import parameters as p
from amae.data.packed import load_splits
from amae.data.stored import stored_images, stored_masks
from amae.mae.weights import load_encoder, load_for_size
from amae.method import stage1 as method
from amae.method.training import finish, resume_beside
from amae.runtime.device import choose_device
from amae.runtime.files import write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.provenance import recording
from amae.settings import Stage1Settings


def train_stage1(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    lungs: p.Lungs,
    weights: p.Weights,
    head: p.Head,
    history: p.History,
    record: p.Record,
    stage1: Stage1Settings = Stage1Settings(),
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Train the stage 1 head on normal images and synthetic anomalies."""
    where = choose_device(device, gpus, jobs_per_card)
    chosen, packed = load_splits(manifest, images, index, "train_normal")
    rows, size = chosen["row"].to_numpy(), packed.shape[1]
    inputs = {"manifest": manifest, "images": images, "index": index, "lungs": lungs, "weights": weights}
    with recording(record, settings=stage1, seed=seed, inputs=inputs, device=where) as made:
        encoder = load_for_size(weights, size, where, load_encoder)
        resume = resume_beside(head, made, fingerprint("amae.commands.train_stage1"))
        masks, batch = stored_masks(lungs, rows, size, where), stored_images(packed, rows, where)
        trained, epochs = method.train_stage1(encoder, batch, masks, stage1, seed, resume)
        made["images"] = 2 * len(batch) * stage1.epochs
        method.save_head(trained, head)
        write_csv(epochs, history)
    finish(resume)
