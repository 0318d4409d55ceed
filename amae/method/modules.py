"""Stage 2: the images and the steps of modules A and B (AMAE, Sec. 2.2)."""

import math

import pandas as pd

from amae.runtime.errors import InputError
from amae.settings import ModuleSettings


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


def module_lr(settings: ModuleSettings) -> float:
    """The absolute peak learning rate."""
    return settings.lr * (settings.batch_size / 256 if settings.lr_scaling == "batch" else 1)
