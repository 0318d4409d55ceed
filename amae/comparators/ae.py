"""AE: a convolutional autoencoder of normal images; the score is its mean squared error.

Source: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest X-rays" (DDAD), whose AE this is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amae.runtime.errors import InputError
from amae.settings import Checked, setting

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "AE"
NEEDS: frozenset[str] = frozenset()
PROTOCOLS = {"N": "score", "Y": "score"}


@dataclass(frozen=True)
class Settings(Checked):
    """The autoencoder of DDAD and its training."""

    image_size: int = setting(64, "side of the network's input in pixels, a multiple of 16", 16)
    epochs: int = setting(250, "passes over the images", 1)
    batch_size: int = setting(64, "images in a step", 2)
    lr: float = setting(5e-4, "learning rate of Adam, constant", 0)

    def __post_init__(self) -> None:
        """Also refuse sizes that four halvings do not divide."""
        super().__post_init__()
        if self.image_size % 16:
            raise InputError(f"image_size: found {self.image_size}, expected a multiple of 16")


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Train the autoencoder on T_n, and T_u where there is one."""
    from amae.comparators import _autoencoder

    return _autoencoder.fit(data.pooled, settings, seed, resume, uncertain=False)


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Mean squared error of the reconstruction, on intensities in [-1, 1]."""
    from amae.comparators import _autoencoder

    return {"score": _autoencoder.error(state, data.images, settings, uncertain=False)}
