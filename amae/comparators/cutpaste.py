"""CutPaste, trained end to end: a network segments rectangles that were cut out of an image and pasted back elsewhere.

Not the two-stage method of Li et al. 2021 but the baseline that the paper's table holds, "CutPaste-e2e", as in Schlüter
et al. 2022, "Natural synthetic anomalies for self-supervised anomaly detection and localization" (NSA), with NSA's
sampler of patches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amae.runtime.errors import InputError
from amae.settings import Checked, setting

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "CutPaste-e2e"
NEEDS: frozenset[str] = frozenset()
PROTOCOLS = {"N": "score", "Y": "score"}


@dataclass(frozen=True)
class Settings(Checked):
    """NSA's network and its training."""

    image_size: int = setting(
        224, "side of the network's input in pixels, a multiple of 32; it is cut from an image 8/7 as large", 64
    )
    epochs: int = setting(240, "passes over the images", 1)
    batch_size: int = setting(64, "images in a step", 1)
    lr: float = setting(1e-3, "peak learning rate of Adam, with a cosine to 1e-6", 0)

    def __post_init__(self) -> None:
        """Also refuse sizes that five halvings do not divide."""
        super().__post_init__()
        if self.image_size % 32:
            raise InputError(f"image_size: found {self.image_size}, expected a multiple of 32")


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Train the network on T_n, and T_u where there is one."""
    from amae.comparators import _nsa
    from amae.comparators._cutpaste import cut_and_paste

    return _nsa.fit(data.pooled, cut_and_paste, settings, seed, resume)


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Mean over pixels of the predicted probability of a paste, float32 `(N,)`."""
    from amae.comparators import _nsa

    return {"score": _nsa.score(state, data.images, settings)}
