"""FPI, PII and NSA: a network segments patches of another image that were blended into an image.

FPI (foreign patch interpolation) blends linearly, PII (Poisson image interpolation) and NSA (natural synthetic
anomalies) by Poisson image editing; NSA also moves and resizes the patch. Network, training and score are those of
CutPaste-e2e, as in NSA's comparison. Sources: Tan et al. 2020, "Detecting outliers with foreign patch interpolation";
Tan et al. 2021, "Detecting outliers with Poisson image interpolation"; Schlüter et al. 2022, "Natural synthetic
anomalies for self-supervised anomaly detection and localization".
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from amae.comparators import nsa
from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.patches import (
    PATCHES,
    changed,
    draw_source,
    draw_target,
    is_wanted,
    patient,
    rectangle,
    resampled,
)
from amae.comparators.poisson import mixed_clone
from amae.comparators.settings import SegmentationSettings
from amae.method.anatpaste import uniform
from amae.method.training import Resume

FACTOR = (0.05, 0.95)  # share of the foreign patch in FPI and PII
RESIZING = (1.0, 0.5, 0.7, 1.3)  # mean, standard deviation and bounds of NSA's factor on a patch's sides
STEEPNESS, MIDDLE = 0.5, 4.0  # of the logistic label, per grey level and in grey levels
DISK = 5  # radius in pixels of the median filter before it: 11 px across


def fit(
    data: TrainingData, settings: SegmentationSettings, seed: int, resume: Resume, clone: bool, move: bool
) -> Fitted:
    """Train the network on T_n, and T_u where there is one."""
    label = settings.label if move else "factor"
    return nsa.fit(data.pooled, partial(blend, clone=clone, move=move, label=label), settings, seed, resume)


def score(state: dict[str, Tensor], data: TestData, settings: SegmentationSettings, clone: bool, move: bool) -> Scores:
    """Mean over pixels of the predicted map, float32 `(N,)`."""
    return {"score": nsa.score(state, data.images, settings)}


def blend(images: Tensor, generator: torch.Generator, clone: bool, move: bool, label: str) -> tuple[Tensor, Tensor]:
    """Blend up to three patches of the previous image of the batch into each image, `(B, S, S)` in grey levels.

    `clone`: by mixed gradients, otherwise linearly. `move`: resized and to another place (NSA), otherwise at the same
    place and with a factor of U(0.05, 0.95). `label`: factor, binary or logistic. Returns the images, in whole grey
    levels where they changed, and their target maps, float32 `(B, S, S)` in [0, 1]. An image without a fitting place
    stays as it is, and so does that of a batch of one, which has itself for source.
    """
    others, side = images.roll(1, 0), images.shape[1]
    others_area, area = patient(others), patient(images)
    result, factors = images, torch.zeros_like(images)
    for number in range(PATCHES):
        if move:
            source, size, found = draw_source([others_area], generator)
            target_size = _resized(size, side, generator)
            target, fits = draw_target(area, target_size, generator)
            factor = torch.ones(len(images), device=images.device)
        else:
            source, size, found = draw_source([others_area, area], generator)
            target, target_size, fits = source, size, found
            factor = uniform(torch.rand(len(images), generator=generator, device=generator.device), *FACTOR)
            factor = factor.to(images.device)
        done = found & fits & is_wanted(number, len(images), generator, images.device)
        target_size = torch.where(done, target_size, 0)
        piece = resampled(others, source, size, target, target_size)
        piece = mixed_clone(result, piece, target, target_size) if clone else piece
        inside, factor = rectangle(target, target_size, side), factor[:, None, None]
        result = torch.where(inside, interpolate(result, piece, factor), result)
        factors = torch.where(inside, factors.maximum(factor), factors)
    return result, target_map(images, result, factors, label)


def interpolate(images: Tensor, piece: Tensor, factor: Tensor) -> Tensor:
    """(1 - factor) images + factor piece, in whole grey levels 0 to 255.

    Of a clone it is the Poisson equation's solution for gradients interpolated in the same way, which is linear.
    """
    return torch.lerp(images, piece, factor).round().clamp(0, 255)


def target_map(before: Tensor, after: Tensor, factors: Tensor, label: str) -> Tensor:
    """What the network is to predict, float32 `(B, S, S)`; 0 where the images changed by at most one grey level.

    factor: the patch's factor, the larger where patches overlap. binary: 1. logistic: 1 / (1 + exp(-(d - 4) / 2)) of
    the change d in grey levels, whose median is taken over a disk of 11 px.
    """
    differs = changed(before, after)
    if label == "logistic":
        change = disk_median((after - before).abs(), differs)
        return torch.where(differs, torch.sigmoid(STEEPNESS * (change - MIDDLE)), 0.0)
    return torch.where(differs, factors if label == "factor" else 1.0, 0.0)


def disk_median(values: Tensor, where: Tensor) -> Tensor:
    """Median over a disk of 11 px around the pixels `where`, bool `(B, S, S)`; 0 elsewhere. Edges are continued."""
    axis = torch.arange(-DISK, DISK + 1, device=values.device)
    down, across = torch.nonzero(axis[:, None].square() + axis.square() <= DISK**2, as_tuple=True)
    padded = F.pad(values[:, None], [DISK] * 4, mode="replicate")[:, 0]
    batch, row, column = torch.nonzero(where, as_tuple=True)
    around = padded[batch[:, None], row[:, None] + down, column[:, None] + across]
    result = torch.zeros_like(values)
    result[batch, row, column] = around.median(1).values
    return result


def _resized(size: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Sizes `(2, B)` times NSA's factor, one for both axes, at most the image's side."""
    mean, spread, least, most = RESIZING
    normal = torch.randn(size.shape[1], generator=generator, device=generator.device).to(size.device)
    factor = (mean + spread * normal).clamp(least, most)
    return (size * factor).round().long().clamp(1, side)
