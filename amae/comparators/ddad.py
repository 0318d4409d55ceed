"""DDAD-AE: where two ensembles of autoencoders, with and without unlabeled images, disagree.

Module B is K networks trained on T_n, module A is K on T_n and T_u. Without T_u there is no module A and no score
inter. Source: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest X-rays".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amae.comparators import ae
from amae.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "DDAD-AE"
NEEDS: frozenset[str] = frozenset()
PROTOCOLS = {"N": "intra", "Y": "inter"}


@dataclass(frozen=True)
class Settings(ae.Settings):
    """The autoencoders of DDAD and their training."""

    networks: int = setting(3, "networks of each module, K, which differ in their seeds", 2)


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Train module B on T_n and, where there is a T_u, module A on both."""
    from amae.comparators import _autoencoder

    return _autoencoder.fit_modules(data, settings, seed, resume, uncertain=False)


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Means over pixels of rec (x - mu_B)^2, intra (standard deviation over B) and inter |mu_A - mu_B|."""
    from amae.comparators import _autoencoder

    return _autoencoder.discrepancies(state, data.images, settings, uncertain=False)
