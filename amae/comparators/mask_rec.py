"""Mask Rec., the paper's baseline: one autoencoder adapted to T_n and T_u pooled; the score is its masked error."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import MaskRecSettings
from amae.comparators.shared import trained
from amae.mae.model import MAE
from amae.method.adaptation import train_autoencoder
from amae.method.modules import module_lr
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.training import Resume

PART = 512  # test images at a time: maps take memory


def fit(data: TrainingData, settings: MaskRecSettings, seed: int, resume: Resume) -> Fitted:
    """Adapt f_0 and g_0 to all training images, as a module of stage 2 is adapted to its own."""
    modules, model = settings.modules, copy.deepcopy(data.encoder)
    of = {"masks": modules.masks, "loss_on": modules.loss_on}
    history = train_autoencoder(model, data.pooled, modules, module_lr(modules), seed, resume, **of)
    return model.state_dict(), history


def score(state: dict[str, Tensor], data: TestData, settings: MaskRecSettings) -> Scores:
    """Mean squared error over hidden patches under L masks seeded by (seed, image_id), float32 `(N,)`."""
    return {"pooled": torch.cat([errors for _, _, errors in reconstructions(state, data, settings)])}


def reconstructions(
    state: dict[str, Tensor], data: TestData, settings: MaskRecSettings
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Part by part: images, and their mean maps and masked errors as `amae.method.reconstruct.reconstruct` gives them.

    The L masks of an image are seeded by (seed, image_id).
    """
    model = trained(MAE(data.encoder.architecture), state, data.images.device)
    orders = draw_orders(list(data.ids), data.seed, model.architecture.patches, settings.reconstruction)
    for images, order in zip(data.images.split(PART), orders.split(PART), strict=True):
        yield images, *reconstruct(model, images, order, settings.reconstruction)
