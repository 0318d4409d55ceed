"""Distance to normal: the Mahalanobis distance to T_n in the frozen features of f_0, with a Ledoit-Wolf covariance.

A reference that the paper does not report. Source of the covariance: Ledoit and Wolf 2004, as in scikit-learn.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amae.settings import Checked

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "Mahalanobis distance"
TAXONOMY = "ours"
NOTE = "not in the paper"
NEEDS = frozenset({"encoder"})
PROTOCOLS = {"N": "score"}


@dataclass(frozen=True)
class Settings(Checked):
    """Mahalanobis distance in the frozen features; there is nothing to set."""


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Mean and precision matrix of the features of T_n, float64; nothing is random."""
    import torch
    from sklearn.covariance import LedoitWolf

    from amae.comparators._shared import no_history
    from amae.method.stage1 import frozen_features

    features = frozen_features(data.encoder, data.normal).double().cpu().numpy()
    estimate = LedoitWolf().fit(features)
    return {"mean": torch.from_numpy(estimate.location_), "precision": torch.from_numpy(estimate.precision_)}, (
        no_history()
    )


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Mahalanobis distance, float64 `(N,)`."""
    from amae.method.stage1 import frozen_features

    features = frozen_features(data.encoder, data.images).double()
    mean, precision = (state[name].to(features.device) for name in ("mean", "precision"))
    offset = features - mean
    return {"score": ((offset @ precision) * offset).sum(1).sqrt()}
