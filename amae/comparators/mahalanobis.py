"""Distance to normal: the Mahalanobis distance to T_n in the frozen features of f_0, with a Ledoit-Wolf covariance.

A reference that the paper does not report. Source of the covariance: Ledoit and Wolf 2004, as in scikit-learn.
"""

import torch
from torch import Tensor

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import NoSettings
from amae.comparators.shared import no_history
from amae.method.features import fit_gaussian
from amae.method.stage1 import frozen_features
from amae.method.training import Resume


def fit(data: TrainingData, settings: NoSettings, seed: int, resume: Resume) -> Fitted:
    """Mean and precision matrix of the features of T_n, float64; nothing is random."""
    mean, precision = fit_gaussian(frozen_features(data.encoder, data.normal).double().cpu().numpy())
    return {"mean": torch.from_numpy(mean), "precision": torch.from_numpy(precision)}, no_history()


def score(state: dict[str, Tensor], data: TestData, settings: NoSettings) -> Scores:
    """Mahalanobis distance, float64 `(N,)`."""
    features = frozen_features(data.encoder, data.images).double()
    mean, precision = (state[name].to(features.device) for name in ("mean", "precision"))
    offset = features - mean
    return {"score": ((offset @ precision) * offset).sum(1).sqrt()}
