"""Rectangular patches of radiographs, in batches: sizes and places as NSA draws them, and their pixels elsewhere.

The published code tries places one by one until one will do; here as many are drawn at once, and the first that will do
is taken, which is the same. Places and sizes are (rows, columns), int64 `(2, B)`, in pixels. Source: Schlüter et al.
2022, "Natural synthetic anomalies for self-supervised anomaly detection and localization" (NSA).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES = 3  # at most; the first always, the others with probability 0.5
ATTEMPTS = 200  # places tried for a patch
HALF_SIDE = (0.03, 0.4)  # bounds of half a patch's side, of the image's
LEAST, SCALE = 0.05, 0.03  # half a side is LEAST + Gamma(2, SCALE)
BACKGROUND = 20  # grey levels up to this are not the patient
OBJECT = 0.7  # least share of the patient in a patch, and where it goes
TOLERANCE = 1  # grey levels; smaller changes are not labelled


def patient(images: Tensor) -> Tensor:
    """Integral image of the pixels that show the patient, of `(B, S, S)` in grey levels 0 to 255."""
    return integral(majority((images > BACKGROUND).float(), 7))


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Where images `(B, S, S)` in grey levels visibly differ, bool `(B, S, S)`, without single pixels."""
    return majority(((after - before).abs() > TOLERANCE).float(), 5) > 0


def majority(mask: Tensor, side: int) -> Tensor:
    """Median filter of a mask, float32 `(B, S, S)` of 0 and 1, over side x side pixels; edges are continued."""
    padded = F.pad(mask[:, None], [side // 2] * 4, mode="replicate")
    return (F.avg_pool2d(padded, side, stride=1)[:, 0] > 0.5).float()


def integral(mask: Tensor) -> Tensor:
    """Sums over all rows above and columns to the left, float32 `(B, S + 1, S + 1)`, exact for masks."""
    return F.pad(mask, (1, 0, 1, 0)).cumsum(1).cumsum(2)


def share(area: Tensor, start: Tensor, size: Tensor) -> Tensor:
    """Share of the mask behind an integral image in rectangles at `start` of `size`, `(2, B, N)`: `(B, N)`."""
    batch = torch.arange(len(area), device=area.device)[:, None]
    top, left = start
    bottom, right = start + size
    inside = area[batch, bottom, right] - area[batch, top, right] - area[batch, bottom, left] + area[batch, top, left]
    return inside / (size[0] * size[1])


def draw_source(areas: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Place and size `(2, B)` of a patch that shows the patient in all of some integral images `(B, S + 1, S + 1)`.

    Also whether such a place was found, bool `(B,)`. Its centre is uniform over the image, and what would lie beyond
    the edge is cut off.
    """
    batch, side, device = len(areas[0]), areas[0].shape[1] - 1, areas[0].device
    draws = torch.rand(2, 2, batch, generator=generator, device=generator.device).to(device)
    gamma = -SCALE * (1 - draws).log().sum(0)  # of shape 2: the sum of two exponentials
    smallest, largest = (round(bound * side) for bound in HALF_SIDE)
    half = ((LEAST + gamma) * side).clamp(smallest, largest).long()[:, :, None]  # (2, B, 1)
    places = torch.rand(2, batch, ATTEMPTS, generator=generator, device=generator.device).to(device)
    centre = smallest + (places * (side - 2 * smallest)).long()
    start, end = (centre - half).clamp(min=0), (centre + half).clamp(max=side)
    good = torch.stack([share(area, start, end - start) >= OBJECT for area in areas]).all(0)
    return *_first(good, start, end - start), good.any(1)


def draw_target(area: Tensor, size: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Place `(2, B)` of a patch of `size` to paste, uniform over the image, and whether one was found, bool `(B,)`."""
    side = area.shape[1] - 1
    places = torch.rand(2, len(area), ATTEMPTS, generator=generator, device=generator.device).to(area.device)
    room = (side - size + 1)[:, :, None]
    start = (places * room).long().minimum(room - 1)
    good = share(area, start, size[:, :, None].expand_as(start)) >= OBJECT
    return *_first(good, start), good.any(1)


def is_wanted(number: int, batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Whether each image gets patch `number`, counted from 0: always the first, half of the others; bool `(B,)`."""
    drawn = torch.rand(batch, generator=generator, device=generator.device).to(device)
    return (drawn < 0.5) | (number == 0)


def rectangle(start: Tensor, size: Tensor, side: int) -> Tensor:
    """The pixels of a patch, bool `(B, side, side)`; none where the size is 0."""
    offset = torch.arange(side, device=start.device) - start[:, :, None]  # (2, B, S)
    rows, columns = (offset >= 0) & (offset < size[:, :, None])
    return rows[:, :, None] & columns[:, None, :]


def resampled(images: Tensor, start: Tensor, size: Tensor, target: Tensor, target_size: Tensor) -> Tensor:
    """Images `(B, S, S)` moved and stretched so that the patch at `start` of `size` lies at `target`.

    Bilinear; pixels keep their values where `target_size` is `size`. Values outside the target mean nothing.
    """
    side = images.shape[1]
    offset = torch.arange(side, device=images.device) + 0.5 - target[:, :, None]  # (2, B, S), from the target's edge
    position = start[:, :, None] + offset * (size / target_size.clamp(min=1))[:, :, None] - 0.5
    position = position.minimum((start + size - 1)[:, :, None]).maximum(start[:, :, None]).clamp(0, side - 1)
    return _interpolated(_interpolated(images, position[0][:, :, None], 1), position[1][:, None, :], 2)


def _interpolated(images: Tensor, position: Tensor, axis: int) -> Tensor:
    """Linear interpolation along one axis at positions in pixels, `(B, S, 1)` or `(B, 1, S)`."""
    low = position.floor()
    index = low.long().expand_as(images)
    above = (index + 1).clamp(max=images.shape[axis] - 1)
    return torch.lerp(images.gather(axis, index), images.gather(axis, above), position - low)


def _first(good: Tensor, *candidates: Tensor) -> tuple[Tensor, ...]:
    """The first good one of each image's candidates `(2, B, N)`: `(2, B)`; the very first where none is good."""
    chosen = good.int().argmax(1)
    return tuple(each[:, torch.arange(len(good), device=good.device), chosen] for each in candidates)
