"""Distance to normal: the mean distance to the nearest images of T_n, in the frozen features of f_0.

A reference that the paper does not report.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amae.runtime.errors import InputError
from amae.settings import Checked, setting

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "Nearest neighbours"
TAXONOMY = "ours"
NOTE = "not in the paper"
NEEDS = frozenset({"encoder"})
PROTOCOLS = {"N": "score"}


@dataclass(frozen=True)
class Settings(Checked):
    """Nearest neighbours in the frozen features."""

    neighbours: int = setting(5, "nearest images of T_n whose distances are averaged", 1)


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Keep the features of T_n; nothing is random."""
    from amae.comparators._shared import no_history
    from amae.method.stage1 import frozen_features

    if len(data.normal) < settings.neighbours:
        raise InputError(f"neighbours: found {settings.neighbours}, but T_n has {len(data.normal)} images")
    return {"normal": frozen_features(data.encoder, data.normal)}, no_history()


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Mean Euclidean distance to the nearest features, float64 `(N,)`."""
    from torch import cdist

    from amae.comparators._shared import in_batches
    from amae.method.stage1 import frozen_features

    normal = state["normal"].double()
    features = frozen_features(data.encoder, data.images).double()

    def distance(batch: "Tensor") -> "Tensor":
        nearest = cdist(batch, normal).topk(settings.neighbours, largest=False)
        return nearest.values.mean(1)

    return {"score": in_batches(distance, features)}
