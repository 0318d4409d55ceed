"""Packed arrays as the trainings see them: on the device where they fit, else read from their file batch by batch.

Either way a batch is the same, bit for bit.
"""

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amae.data.packed import load_lung_masks

CHUNK = 1024  # items copied at a time


class Stored:
    """Some items of a file, in the place of a tensor `(N, H, W)`: has a length, takes ids `(B,)`, and splits.

    `read(rows (B,)) -> (B, H, W)` reads items of the file; `rows` are those that are meant, in their order.
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, device: torch.device):
        self._read, self._rows, self.device = read, rows, device

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, ids: Tensor) -> Tensor:
        return self._load(self._rows[ids.cpu().numpy()])

    def split(self, size: int) -> Iterator[Tensor]:
        """Batches of this size, in order."""
        for start in range(0, len(self), size):
            yield self._load(self._rows[start : start + size])

    def _load(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(self._read(rows))).to(self.device)


def on_device(images: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
    """These packed images (a memory map) in one tensor, uint8 `(N, H, W)`."""
    return torch.from_numpy(images[np.asarray(rows)]).to(device)


def stored_images(images: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor | Stored:
    """These packed images (a memory map), uint8 `(N, H, W)`."""
    return _held(Stored(lambda some: images[some], rows, device), images[0].nbytes)


def stored_masks(path: str | Path, rows: np.ndarray, size: int, device: torch.device) -> Tensor | Stored:
    """Lung masks of these packed images at a model's image size, bool `(N, size, size)`."""
    return _held(Stored(lambda some: load_lung_masks(path, some, size), rows, device), size * size)


def _held(stored: Stored, item: int) -> Tensor | Stored:
    """All on the device if that takes no more than half of its free memory; `item`: bytes of an item."""
    if len(stored) * item > free_memory(stored.device) // 2:
        return stored
    parts = stored.split(CHUNK)
    first = next(parts)
    held = first.new_empty(len(stored), *first.shape[1:])  # filled part by part: joining them would hold two copies
    start = 0
    for part in chain([first], parts):
        held[start : start + len(part)] = part
        start += len(part)
    return held


def free_memory(device: torch.device) -> int:
    """Free bytes of a GPU, or of this machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS has the latter
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages)
