"""CutPaste, trained end to end: a network segments rectangles that were cut out of an image and pasted back elsewhere.

Not the two-stage method of Li et al. 2021 but the baseline of the paper's table, "CutPaste-e2e", as in Schlüter et al.
2022, "Natural synthetic anomalies for self-supervised anomaly detection and localization" (NSA), with NSA's sampler of
patches, in batches on the device of the images.
"""

import torch
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
from amae.comparators.settings import SegmentationSettings
from amae.method.training import Resume


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
    area = patient(images)
    pasted = images
    for number in range(PATCHES):
        source, size, found = draw_source([area], generator)
        target, fits = draw_target(area, size, generator)
        done = found & fits & is_wanted(number, len(images), generator, images.device)
        inside = rectangle(target, torch.where(done, size, 0), images.shape[1])
        pasted = torch.where(inside, resampled(images, source, size, target, size), pasted)
    return pasted, changed(images, pasted)
