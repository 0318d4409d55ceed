"""Packed arrays as the trainings see them: on the device where they fit, else read from their file batch by batch.

Either way a batch is the same, bit for bit.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from amae.data.packed import load_lung_masks

CHUNK = 1024  # items copied at a time
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = (  # control groups, version 2 and 1: folder, and the files of the limit and of what is used
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


class Stored:
    """Some items of a file, in the place of a tensor `(N, H, W)`: it has a length, splits, and takes ids or a slice.

    `read(rows (B,)) -> (B, H, W)` reads items of the file; `rows` are those that are meant, in their order.
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, device: torch.device):
        self._read, self._rows, self.device = read, rows, device

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, ids: Tensor | slice) -> "Tensor | Stored":
        if isinstance(ids, slice):
            return Stored(self._read, self._rows[ids], self.device)
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
    held = first.new_empty(len(stored), *first.shape[1:])  # filled part by part: joining them would need two copies
    start = 0
    for part in chain([first], parts):
        held[start : start + len(part)] = part
        start += len(part)
    return held


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU, or available on this machine within the limits of the process's control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """Bytes that each limit on this process's control groups leaves (Linux: containers, Slurm); none elsewhere."""
    left = []
    for root, limit, used in GROUPS:
        for folder in _groups_of(root):
            try:
                left.append(int((folder / limit).read_text()) - int((folder / used).read_text()))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return [max(0, each) for each in left]


def _groups_of(root: Path) -> set[Path]:
    """Folders of the control group of this process and of those around it; a container sees its own as the root."""
    try:
        names = [line.split(":", 2)[2].strip("/") for line in OWN_GROUPS.read_text().splitlines()]
    except OSError:
        return set()
    return {root / each for name in names for each in (Path(name), *Path(name).parents)}
