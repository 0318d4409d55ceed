"""AE-U: the autoencoder that also predicts how uncertain it is at each pixel, which discounts its errors there.

Source: Mao et al. 2020, "Abnormality detection in chest X-ray images using uncertainty prediction autoencoders".
"""

from typing import TYPE_CHECKING

from amae.comparators.ae import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "AE-U"
NEEDS: frozenset[str] = frozenset()
PROTOCOLS = {"N": "score", "Y": "score"}


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Train the autoencoder on T_n, and T_u where there is one."""
    from amae.comparators import _autoencoder

    return _autoencoder.fit(data.pooled, settings, seed, resume, uncertain=True)


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Mean over pixels of the squared error divided by the predicted variance, on intensities in [-1, 1]."""
    from amae.comparators import _autoencoder

    return {"score": _autoencoder.error(state, data.images, settings, uncertain=True)}
