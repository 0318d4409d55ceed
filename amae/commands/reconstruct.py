"""Reconstructions of the test images."""

import numpy as np
import pandas as pd
import torch

from amae.commands import parameters as p
from amae.data.packed import load_splits
from amae.mae.weights import load_for_size
from amae.method.reconstruct import draw_orders, hidden_counts
from amae.method.reconstruct import reconstruct as run
from amae.method.scores import reconstruction_scores as image_scores
from amae.runtime.device import choose_device
from amae.runtime.files import atomic, write_csv
from amae.runtime.provenance import recording
from amae.settings import ReconstructionSettings

PART = 512  # test images at a time: maps take memory


def reconstruct(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    model_a: p.ModelA,
    model_b: p.ModelB,
    reconstruction_scores: p.ReconstructionScores,
    maps: p.Maps,
    record: p.Record,
    reconstruction: ReconstructionSettings = ReconstructionSettings(),
    seed: p.Seed = 0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Reconstruct the test images with both modules under the same masks, and score them."""
    where = choose_device(device, gpus, jobs_per_card)
    chosen, packed = load_splits(manifest, images, index, "test")
    ids, rows = chosen["image_id"].tolist(), chosen["row"].to_numpy()
    inputs = {"manifest": manifest, "images": images, "index": index, "model_a": model_a, "model_b": model_b}
    with recording(record, settings=reconstruction, seed=seed, inputs=inputs, device=where) as made:
        models = [load_for_size(path, packed.shape[1], where) for path in (model_a, model_b)]
        a = models[0].architecture
        orders = draw_orders(ids, seed, a.patches, reconstruction)
        parts = []
        for start in range(0, len(ids), PART):
            part, masks = packed[rows[start : start + PART]], orders[start : start + PART]
            batch = torch.from_numpy(part).to(where)
            (mu_a, error_a), (mu_b, _) = [run(model, batch, masks, reconstruction) for model in models]
            scores = image_scores(part, mu_a.numpy(), mu_b.numpy(), error_a.numpy(), a.patch_size)
            parts.append((scores, mu_a.numpy().astype(np.float16), mu_b.numpy().astype(np.float16)))
        made["images"] = len(ids)
        visible = a.visible(reconstruction.mask_ratio)
        seen = np.zeros((len(ids), a.patches), bool)
        np.put_along_axis(seen, orders[:, 0, :visible].numpy(), True, axis=1)
        grid = (len(ids), a.grid, a.grid)
        with atomic(maps) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                image_id=np.array(ids),
                mu_a=np.concatenate([mu_a for _, mu_a, _ in parts]),
                mu_b=np.concatenate([mu_b for _, _, mu_b in parts]),
                hidden=hidden_counts(orders, visible).reshape(grid),
                visible=seen.reshape(grid),
            )
        scores = pd.concat([scores for scores, _, _ in parts], ignore_index=True)
        write_csv(chosen[["image_id"]].join(scores), reconstruction_scores)
