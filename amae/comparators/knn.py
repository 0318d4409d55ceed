"""Distance to normal: the mean distance to the nearest images of T_n, in the frozen features of f_0.

A reference that the paper does not report.
"""

from torch import Tensor, cdist

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import NeighbourSettings
from amae.comparators.shared import no_history
from amae.data.resize import in_batches
from amae.method.stage1 import frozen_features
from amae.method.training import Resume
from amae.runtime.errors import InputError


def fit(data: TrainingData, settings: NeighbourSettings, seed: int, resume: Resume) -> Fitted:
    """Keep the features of T_n; nothing is random."""
    if len(data.normal) < settings.neighbours:
        raise InputError(f"neighbours: found {settings.neighbours}, but T_n has {len(data.normal)} images")
    return {"normal": frozen_features(data.encoder, data.normal)}, no_history()


def score(state: dict[str, Tensor], data: TestData, settings: NeighbourSettings) -> Scores:
    """Mean Euclidean distance to the nearest features, float64 `(N,)`."""
    normal = state["normal"].double()
    features = frozen_features(data.encoder, data.images).double()

    def distance(batch: Tensor) -> Tensor:
        nearest = cdist(batch, normal).topk(settings.neighbours, largest=False)
        return nearest.values.mean(1)

    return {"score": in_batches(distance, features)}
