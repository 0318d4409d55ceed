"""Distances to the nearest images in the frozen features of f_0: to T_n and, where there is one, to T_u.

References that the paper does not report. Under protocol N an image scores by its distance to T_n alone; under Y by the
logarithm of the ratio of its distances to T_n and to T_u, an estimate of how much denser T_u is around it.
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
    """Keep the features of T_n and of T_u; nothing is random. InputError for fewer images than neighbours."""
    sets = {"normal": data.normal} | ({"unlabeled": data.unlabeled} if len(data.unlabeled) else {})
    for (name, images), symbol in zip(sets.items(), ("T_n", "T_u"), strict=False):
        if len(images) < settings.neighbours:
            raise InputError(f"neighbours: found {settings.neighbours}, but {symbol} has {len(images)} images")
        sets[name] = frozen_features(data.encoder, images)
    return sets, no_history()


def score(state: dict[str, Tensor], data: TestData, settings: NeighbourSettings) -> Scores:
    """Mean Euclidean distance to the nearest features of T_n, or its log-ratio to that of T_u, float64 `(N,)`."""
    features = frozen_features(data.encoder, data.images).double()

    def distance(batch: Tensor, known: Tensor) -> Tensor:
        return cdist(batch, known.double()).topk(settings.neighbours, largest=False).values.mean(1)

    to_normal = in_batches(lambda batch: distance(batch, state["normal"]), features)
    if "unlabeled" not in state:
        return {"score": to_normal}
    return {"score": (to_normal / in_batches(lambda batch: distance(batch, state["unlabeled"]), features)).log()}
