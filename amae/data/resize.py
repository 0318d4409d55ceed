"""Packed images at another size, in batches on their device."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BATCH = 64  # images at a time where nothing is trained


def resize(images: Tensor, size: int) -> Tensor:
    """Packed images uint8 `(N, H, W)` at another size, uint8 `(N, size, size)`: bilinear, antialiased, rounded.

    It agrees with Pillow's bilinear `resize`, which the published loaders use, to one grey level.
    """
    if images.shape[1:] == (size, size):
        return images

    def resized(batch: Tensor) -> Tensor:
        floats = F.interpolate(batch[:, None].float(), (size, size), mode="bilinear", antialias=True)
        return floats[:, 0].round().clamp(0, 255).byte()

    return in_batches(resized, images)


def resize_masks(masks: Tensor, size: int) -> Tensor:
    """Masks, bool `(N, H, W)`, at another size: bool `(N, size, size)`, true where half of the area is."""
    if masks.shape[1:] == (size, size):
        return masks
    return resize(masks.byte() * 255, size) >= 128


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a function of images `(B, ...)` to all of them, a batch at a time, without gradients."""
    return torch.cat([function(batch) for batch in images.split(BATCH)])
