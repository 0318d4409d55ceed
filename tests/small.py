"""A trained model as `amae export` writes it, made in no time: its weights are random."""

import copy
from pathlib import Path

import numpy as np
import torch

from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.detector import make_network
from amae.method.scores import DESCRIPTIONS
from amae.method.stage1 import make_head
from amae.predict.model import Model, save_model
from amae.settings import ReconstructionSettings


def write_model(path: Path, size: int, conversion: str) -> Path:
    """A model for images of `size` pixels. Modules A and B are one: maps are 0, and an overlay is its image."""
    architecture = Architecture(
        size, size // 4, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2
    )
    torch.manual_seed(0)
    encoder, head, module = MAE(architecture), make_head(16), MAE(architecture)
    twin = copy.deepcopy(module)
    arrays = {"features.mean": np.zeros(16), "features.precision": np.eye(16)}
    arrays |= {"normal.image": np.full((32, 32), 99.0)}
    arrays |= {f"training.{name}": np.linspace(0, 99, 100) for name in ("intensity", "coverage", "distance")}
    arrays |= {f"calibration.{name}": np.linspace(0, 1, 20) for name in DESCRIPTIONS}
    about = {
        "dataset": "random",
        "seed": 0,
        "conversion": conversion,
        "square": "squash",
        "reconstruction": vars(ReconstructionSettings()),
        "masks_of_new_images": vars(ReconstructionSettings()),
        "detector": {"folds": 1, "image_size": 32},
        "test": {},
        "auc_p": {},
        "implied_auc": {},
        "no_calls": {},
        "mask_noise_of_run": {},
        "mask_noise": 0.5,
        "files": {"manifest": "0" * 64},
        "versions": {"amae": "0"},
        "commit": "unknown",
        "images": {"train_normal": 100, "train_unlabeled": 0, "calibration": 20},
        "mask_shares": {"empty": 1.0, "implausible": 1.0},
        "map_limit": 0.1,
    }
    save_model(Model(about, encoder, head, module, twin, (make_network(),), arrays), path)
    return path
