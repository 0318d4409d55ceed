"""Gaussians of the frozen features of f_0, with Ledoit-Wolf covariances: of T_n and, where there is one, of T_u.

References that the paper does not report. Under protocol N an image scores by its Mahalanobis distance to T_n; under Y
by half the difference of its squared distances to T_n and to T_u, the log-ratio of the two densities but for a
constant. Source of the covariance: Ledoit and Wolf 2004, as in scikit-learn.
"""

import torch
from torch import Tensor

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import NoSettings
from amae.comparators.shared import no_history
from amae.method.features import fit_gaussian
from amae.method.stage1 import frozen_features
from amae.method.training import Resume
from amae.runtime.tensors import prefixed, under


def fit(data: TrainingData, settings: NoSettings, seed: int, resume: Resume) -> Fitted:
    """Mean and precision matrix of the features of each set, float64; nothing is random."""
    state = _gaussian(data, data.normal)
    if len(data.unlabeled):
        state |= prefixed(_gaussian(data, data.unlabeled), "unlabeled")
    return state, no_history()


def score(state: dict[str, Tensor], data: TestData, settings: NoSettings) -> Scores:
    """Mahalanobis distance to T_n, or (D_n^2 - D_u^2) / 2, float64 `(N,)`."""
    features = frozen_features(data.encoder, data.images).double()
    to_normal = _squared_distance(features, state)
    if other := under(state, "unlabeled"):
        return {"score": (to_normal - _squared_distance(features, other)) / 2}
    return {"score": to_normal.sqrt()}


def _gaussian(data: TrainingData, images: Tensor) -> dict[str, Tensor]:
    mean, precision = fit_gaussian(frozen_features(data.encoder, images).double().cpu().numpy())
    return {"mean": torch.from_numpy(mean), "precision": torch.from_numpy(precision)}


def _squared_distance(features: Tensor, gaussian: dict[str, Tensor]) -> Tensor:
    mean, precision = (gaussian[name].to(features.device) for name in ("mean", "precision"))
    offset = features - mean
    return ((offset @ precision) * offset).sum(1)
