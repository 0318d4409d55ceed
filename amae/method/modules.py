"""Stage 2: modules A and B, the pre-trained autoencoder adapted to two different sets of images (AMAE, Sec. 2.2)."""

import math

import pandas as pd
import torch
from torch import Tensor

from amae.data.stored import Stored
from amae.mae.model import MAE, masked_loss
from amae.method.augment import random_resized_crop_flip
from amae.method.training import LossOf, Resume, Schedule, train
from amae.runtime.device import precision
from amae.runtime.errors import InputError
from amae.settings import ModuleSettings, PretrainSettings


def training_images(
    module: str, manifest: pd.DataFrame, pseudo_labels: pd.DataFrame, settings: ModuleSettings
) -> list[str]:
    """Ids of the images that a module is trained on.

    A: T_n and the pseudo-normal T_un; B: the pseudo-abnormal T_ua. With `training_sets` "without" (Fig. 3b) A has T_n
    and B all of T_u. Only the split is read from the manifest. Raises InputError where nothing is left to train on.
    """
    normal = manifest.loc[manifest["split"] == "train_normal", "image_id"].tolist()
    if settings.training_sets == "without":
        ids = normal if module == "A" else pseudo_labels["image_id"].tolist()
    else:
        wanted = "normal" if module == "A" else "abnormal"
        kept = pseudo_labels.loc[pseudo_labels["pseudo_label"] == wanted, "image_id"].tolist()
        ids = normal + kept if module == "A" else kept
    if not ids:
        why = "no unlabeled image was kept as pseudo-abnormal" if module == "B" else "split train_normal is empty"
        raise InputError(f"module {module}: no image to train on; {why}")
    return ids


def equal_epochs(settings: ModuleSettings, images: int, images_of_a: int) -> tuple[int, int]:
    """Epochs and warm-up epochs that give as many steps (to within one epoch) as module A has."""
    ratio = math.ceil(images_of_a / settings.batch_size) / math.ceil(images / settings.batch_size)
    return max(1, round(settings.epochs * ratio)), round(settings.warmup_epochs * ratio)


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


def module_lr(settings: ModuleSettings) -> float:
    """The absolute peak learning rate."""
    return settings.lr * (settings.batch_size / 256 if settings.lr_scaling == "batch" else 1)
