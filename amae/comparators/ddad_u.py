"""DDAD with AE-U: the discrepancies of `ddad`, in units of the uncertainty that the networks predict.

Source: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest X-rays".
"""

from typing import TYPE_CHECKING

from amae.comparators.ddad import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "DDAD-AE-U"
TAXONOMY = "Rec."
NOTE = "not in the paper"
NEEDS: frozenset[str] = frozenset()
PROTOCOLS = {"N": "intra", "Y": "inter"}


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Train module B on T_n and, where there is a T_u, module A on both."""
    from amae.comparators import _autoencoder

    return _autoencoder.fit_modules(data, settings, seed, resume, uncertain=True)


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """As in `ddad`, with intra and inter divided at each pixel by the root of module B's mean predicted variance.

    The variance is that of B for both, so that intra is the same under both protocols.
    """
    from amae.comparators import _autoencoder

    return _autoencoder.discrepancies(state, data.images, settings, uncertain=True)
