"""What several methods have in common: images at a method's own size, seeds and states of several networks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from amae.method.training import Resume

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


def signed(images: Tensor) -> Tensor:
    """Grey levels 0 to 255, `(B, H, W)`, as network input in [-1, 1]: float32 `(B, 1, H, W)`."""
    return images[:, None].float() / 127.5 - 1


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a function of images `(B, ...)` to all of them, a batch at a time, without gradients."""
    return torch.cat([function(batch) for batch in images.split(BATCH)])


def seed_of(seed: int, *part: int) -> int:
    """An independent seed for one of several trainings of a method."""
    return int(np.random.SeedSequence([seed, *part]).generate_state(1)[0])


def resume_of(resume: Resume, part: str) -> Resume:
    """Where one of several trainings of a method is kept while unfinished."""
    return replace(resume, path=resume.path.with_name(f"{part}{resume.path.suffix}"))


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A network's state under a prefix, among others."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state that `prefixed` put under a prefix; empty where there is none."""
    return {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}


def no_history() -> pd.DataFrame:
    """History of a method that is not trained in epochs."""
    return pd.DataFrame(columns=["epoch", "step", "lr", "loss"])
