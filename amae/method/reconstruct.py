"""Test-time reconstruction: mean maps over several masks (AMAE, Sec. 2.3, Eq. 4).

The masks of an image are drawn from (seed, image_id), and are the same for both modules: what comes out for an image
does not depend on batch size, order, or which other images are reconstructed.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from amae.mae.architecture import visible_patches
from amae.mae.model import MAE, gather_tokens
from amae.settings import ReconstructionSettings


def draw_orders(image_ids: list[str], seed: int, patches: int, settings: ReconstructionSettings) -> Tensor:
    """For each image and mask a permutation of its patches, the visible ones first: int64 `(N, L, T)`.

    Raises InputError where complementary masks do not share out this number of patches evenly.
    """
    settings.check_patches(patches, visible_patches(patches, settings.mask_ratio))
    orders = np.empty((len(image_ids), settings.masks, patches), np.int64)
    for row, image_id in enumerate(image_ids):
        digest = hashlib.sha256(image_id.encode()).digest()
        generator = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
        if settings.mask_scheme == "random":
            orders[row] = generator.random((settings.masks, patches)).argsort(1)
        else:
            parts = round(1 / (1 - settings.mask_ratio))
            for first in range(0, settings.masks, parts):  # one permutation, each of its parts visible in turn
                permutation = generator.permutation(patches)
                for part in range(parts):
                    orders[row, first + part] = np.roll(permutation, -part * (patches // parts))
    return torch.from_numpy(orders)


@torch.no_grad()
def reconstruct(
    model: MAE, images: Tensor, orders: Tensor, settings: ReconstructionSettings, batch_size: int = 32
) -> tuple[Tensor, Tensor]:
    """Reconstruct grey uint8 images `(N, H, W)` under the masks `orders (N, L, T)`.

    Returns the mean maps `(N, H, W)` float32 on the scale of intensities in [0, 1] (they may leave it), and the masked
    error `(N,)`: mean squared error over the hidden patches, averaged over the masks, on the same scale. A map is the
    mean over the masks that hid a patch, nan where none did; with `aggregate` full, over all decoder outputs.
    """
    model.eval()
    a = model.architecture
    visible, full = a.visible(settings.mask_ratio), settings.aggregate == "full"
    maps, errors = [], []
    for batch, order in zip(images.split(batch_size), orders.split(batch_size), strict=True):
        order = order.to(images.device).flatten(0, 1)  # (B * L, T)
        patches = model.patchify(model.normalise(batch))  # (B, T, P)
        predicted = model(patches, order, visible, full)
        hidden = predicted[:, -(a.patches - visible) :]
        target = gather_tokens(patches, order[:, visible:])
        errors.append((hidden - target).square().mean((1, 2)).view(-1, settings.masks).mean(1) * a.std**2)
        mean = _mean_by_patch(predicted, order[:, -predicted.shape[1] :], len(batch), a.patches)
        maps.append(model.unpatchify(mean * a.std + a.mean)[:, 0])
    return torch.cat(maps).cpu(), torch.cat(errors).cpu()


def _mean_by_patch(predicted: Tensor, ids: Tensor, images: int, patches: int) -> Tensor:
    """Mean of the predictions `(B * L, N, P)` of each patch `ids (B * L, N)`: `(B, T, P)`, nan where there is none."""
    placed = predicted.new_zeros(len(predicted), patches, predicted.shape[-1])
    placed.scatter_(1, ids[..., None].expand_as(predicted), predicted)
    count = predicted.new_zeros(len(predicted), patches).scatter_(1, ids, 1)
    # Added mask by mask: a GPU adds in any order in a `scatter_add_`, and every run would give other last bits.
    total, count = (sum(each.unflatten(0, (images, -1)).unbind(1)) for each in (placed, count))
    return total / count[..., None]  # 0 / 0 is nan


def hidden_counts(orders: Tensor, visible: int) -> np.ndarray:
    """Number of masks that hide each patch: int16 `(N, T)`, from `orders (N, L, T)`."""
    hidden = orders[..., visible:].flatten(1)
    counts = torch.zeros(len(orders), orders.shape[-1], dtype=torch.int16)
    return counts.scatter_add_(1, hidden, torch.ones_like(hidden, dtype=torch.int16)).numpy()
