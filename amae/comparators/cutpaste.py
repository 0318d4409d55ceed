"""CutPaste, trained end to end: a network segments rectangles that were cut out of an image and pasted back elsewhere.

Not the two-stage method of Li et al. 2021 but the baseline of the paper's table, "CutPaste-e2e", as in Schlüter et al.
2022, "Natural synthetic anomalies for self-supervised anomaly detection and localization" (NSA), with NSA's sampler of
patches, in batches on the device of the images. The published code tries places one by one until one will do; here as
many are drawn at once, and the first that will do is taken, which is the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from amae.comparators import nsa
from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import SegmentationSettings
from amae.method.training import Resume

PATCHES = 3  # at most; the first always, the others with probability 0.5
ATTEMPTS = 200  # places tried for a patch
HALF_SIDE = (0.03, 0.4)  # bounds of half a patch's side, of the image's
LEAST, SCALE = 0.05, 0.03  # half a side is LEAST + Gamma(2, SCALE)
BACKGROUND = 20  # grey levels up to this are not the patient
OBJECT = 0.7  # least share of the patient in a patch, and where it goes
TOLERANCE = 1  # grey levels; smaller changes are not labelled


def fit(data: TrainingData, settings: SegmentationSettings, seed: int, resume: Resume) -> Fitted:
    """Train the network on T_n, and T_u where there is one."""
    return nsa.fit(data.pooled, cut_and_paste, settings, seed, resume)


def score(state: dict[str, Tensor], data: TestData, settings: SegmentationSettings) -> Scores:
    """Mean over pixels of the predicted probability of a paste, float32 `(N,)`."""
    return {"score": nsa.score(state, data.images, settings)}


def cut_and_paste(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste up to three patches of each image, `(B, S, S)` in grey levels 0 to 255, into itself.

    Returns the changed images and where they changed, bool `(B, S, S)`. An image on which no place is found, because
    it shows too little of a patient, stays as it is.
    """
    area = integral(majority((images > BACKGROUND).float(), 7))
    pasted = images
    for number in range(PATCHES):
        source, size, found = _draw_source(area, generator)
        target, fits = _draw_target(area, size, generator)
        wanted = torch.rand(len(images), generator=generator, device=generator.device).to(images.device) < 0.5
        done = found & fits & (wanted | (number == 0))
        pasted = paste(pasted, images, source, target, torch.where(done, size, 0))
    changed = (pasted - images).abs() > TOLERANCE
    return pasted, majority(changed.float(), 5) > 0


def paste(onto: Tensor, images: Tensor, source: Tensor, target: Tensor, size: Tensor) -> Tensor:
    """Copy rectangles of `images` to other places `onto` images, both `(B, S, S)`.

    `source`, `target`, `size`: (rows, columns), int64 `(2, B)`; a size of 0 copies nothing.
    """
    side = images.shape[1]
    pixels = torch.arange(side, device=images.device)
    from_target = pixels - target[:, :, None]  # (2, B, S)
    inside = (from_target >= 0) & (from_target < size[:, :, None])
    rows, columns = (from_target + source[:, :, None]).clamp(0, side - 1)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images[batch, rows[:, :, None], columns[:, None, :]]
    return torch.where(inside[0][:, :, None] & inside[1][:, None, :], moved, onto)


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


def _draw_source(area: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Place and size `(2, B)` of a patch to cut, and whether a place was found, bool `(B,)`.

    Its centre is uniform over the image, and what would lie beyond the edge is cut off.
    """
    batch, side = len(area), area.shape[1] - 1
    draws = torch.rand(2, 2, batch, generator=generator, device=generator.device).to(area.device)
    gamma = -SCALE * (1 - draws).log().sum(0)  # of shape 2: the sum of two exponentials
    smallest, largest = (round(bound * side) for bound in HALF_SIDE)
    half = ((LEAST + gamma) * side).clamp(smallest, largest).long()[:, :, None]  # (2, B, 1)
    places = torch.rand(2, batch, ATTEMPTS, generator=generator, device=generator.device).to(area.device)
    centre = smallest + (places * (side - 2 * smallest)).long()
    start, end = (centre - half).clamp(min=0), (centre + half).clamp(max=side)
    good = share(area, start, end - start) >= OBJECT
    return *_first(good, start, end - start), good.any(1)


def _draw_target(area: Tensor, size: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Place `(2, B)` of a patch of `size` to paste, uniform over the image, and whether one was found, bool `(B,)`."""
    side = area.shape[1] - 1
    places = torch.rand(2, len(area), ATTEMPTS, generator=generator, device=generator.device).to(area.device)
    room = (side - size + 1)[:, :, None]
    start = (places * room).long().minimum(room - 1)
    good = share(area, start, size[:, :, None].expand_as(start)) >= OBJECT
    return *_first(good, start), good.any(1)


def _first(good: Tensor, *candidates: Tensor) -> tuple[Tensor, ...]:
    """The first good one of each image's candidates `(2, B, N)`: `(2, B)`; the very first where none is good."""
    chosen = good.int().argmax(1)
    return tuple(each[:, torch.arange(len(good), device=good.device), chosen] for each in candidates)
