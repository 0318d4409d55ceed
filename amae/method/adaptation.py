"""Training of a whole autoencoder on masked images: pre-training, modules A and B, and Mask Rec. (AMAE, Eq. 3)."""

import pandas as pd
import torch
from torch import Tensor

from amae.data.stored import Stored
from amae.mae.model import MAE, masked_loss
from amae.method.augment import random_resized_crop_flip
from amae.method.training import LossOf, Resume, Schedule, train
from amae.runtime.device import precision
from amae.settings import ModuleSettings, PretrainSettings


def adaptation_loss(
    model: MAE,
    images: Tensor | Stored,
    settings: ModuleSettings | PretrainSettings,
    masks: int = 1,
    loss_on: str = "hidden",
) -> LossOf:
    """The loss of a batch of grey uint8 images `(N, H, W)`, given the ids and a generator of all that is random.

    Mean squared error per pixel over the hidden patches, averaged over `masks` random masks of the same image in the
    same step (Eq. 3). Matrix products in bfloat16 on CUDA.
    """
    a = model.architecture
    visible = a.visible(settings.mask_ratio)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        batch = model.normalise(images[ids])
        if settings.augmentation == "crop_flip":
            batch = random_resized_crop_flip(batch, generator)
        noise = torch.rand(len(ids) * masks, a.patches, generator=generator, device=ids.device)
        with precision(ids.device):
            return masked_loss(model, batch, noise.argsort(1), visible, full=loss_on == "all")

    return loss_of


def train_autoencoder(
    model: MAE,
    images: Tensor | Stored,
    settings: ModuleSettings | PretrainSettings,
    lr: float,
    seed: int,
    resume: Resume,
    masks: int = 1,
    loss_on: str = "hidden",
) -> pd.DataFrame:
    """Train all of an autoencoder by `adaptation_loss`, in place; return its history. `lr` is absolute."""
    loss_of = adaptation_loss(model, images, settings, masks, loss_on)
    schedule = Schedule(settings.epochs, settings.warmup_epochs, settings.batch_size, lr, settings.weight_decay)
    return train(model, loss_of, len(images), schedule, seed, resume)
