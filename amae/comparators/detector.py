"""The detector as a row of the tables: networks that separate T_u from T_n (`amae.method.detector`).

This project's own: the paper has no such row.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import BalancedSettings
from amae.data.resize import resize
from amae.data.splits import folds_of
from amae.mae.checkpoints import read_safetensors
from amae.method.detector import fit_rounds, make_network, score_maps
from amae.method.training import Resume
from amae.runtime.errors import InputError
from amae.runtime.tensors import prefixed, under
from amae.settings import DetectorSettings


def fit(
    data: TrainingData,
    settings: DetectorSettings,
    seed: int,
    resume: Resume,
    masks: bool = False,
) -> Fitted:
    """Train a network without each fold of patients; where a column is to be balanced, under weights that do so.

    With `masks` the networks see lung masks in the place of images.

    State: the networks, and the logits out of fold of T_n and T_u, float64 `(N,)` and `(M,)`.
    """
    unlabeled = unlabeled_of(data)
    folds = folds_of(unlabeled, list(data.patients), settings.folds)
    images = resize(_white(data.pooled_lungs) if masks else data.pooled, settings.image_size)
    groups = data.groups if isinstance(settings, BalancedSettings) else None
    if groups is not None:
        _report_unbalanced(np.asarray(groups), unlabeled, settings.column)
    return fitted(unlabeled, *fit_rounds(images, unlabeled, folds, groups, settings, seed, resume))


def _report_unbalanced(groups: np.ndarray, unlabeled: np.ndarray, column: str) -> None:
    """Print what weights cannot balance: a column of one value, and values that only one of the two sets has."""
    if len(values := set(groups)) == 1:
        only = "blank" if values <= {"", "nan"} else values.pop()
        print(f"warning: {column} is {only} in all images: nothing is balanced, all weights are 1", file=sys.stderr)
    alone = ~np.isin(groups, np.intersect1d(groups[unlabeled], groups[~unlabeled]))
    if alone.all():
        print(f"warning: no {column} is in both T_n and T_u: nothing is balanced, all weights are 1", file=sys.stderr)
    elif alone.any():
        print(f"{alone.sum()} images have a {column} that T_n or T_u lacks, and weight 0", file=sys.stderr)


def logits_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits out of fold of T_n and of T_u, float64; InputError for a file that is no trained detector."""
    about, tensors = read_safetensors(path)
    if not {"normal", "unlabeled"} <= tensors.keys() or not about.get("method", "").startswith("detector"):
        raise InputError(f"{path}: not a trained detector; make it with `amae compare detector`")
    return tensors["normal"].numpy(), tensors["unlabeled"].numpy()


def unlabeled_of(data: TrainingData) -> np.ndarray:
    """Which of the pooled images are of T_u, bool `(N,)`."""
    return np.repeat([False, True], [len(data.normal), len(data.unlabeled)])


def fitted(unlabeled: np.ndarray, networks: list[nn.Module], logits: np.ndarray, history: pd.DataFrame) -> Fitted:
    """The state of trained networks and their logits out of fold."""
    state = {"normal": torch.from_numpy(logits[~unlabeled]), "unlabeled": torch.from_numpy(logits[unlabeled])}
    for number, network in enumerate(networks):
        state |= prefixed(network.state_dict(), f"network{number}")
    return state, history


def score(state: dict[str, Tensor], data: TestData, settings: DetectorSettings, masks: bool = False) -> Scores:
    """Mean over places, networks and mirror images of the logit of T_u, float32 `(N,)`."""
    networks = [network.to(data.images.device) for network in networks_of(state, settings)]
    images = _white(data.lungs) if masks else data.images
    return {"score": score_maps(networks, resize(images, settings.image_size)).mean((1, 2))}


def _white(masks: Tensor) -> Tensor:
    """Masks as images, uint8 of 0 and 255."""
    return masks.to(torch.uint8) * 255


def networks_of(state: dict[str, Tensor], settings: DetectorSettings) -> list[nn.Sequential]:
    """The networks of a trained detector, as many as folds."""
    networks = [make_network() for _ in range(settings.folds)]
    for number, network in enumerate(networks):
        network.load_state_dict(under(state, f"network{number}"))
    return networks
