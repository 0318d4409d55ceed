"""AnatPaste: a network learns to tell normal images from pasted anomalies; the score is how rare its features are.

Source: Sato et al. 2022, "Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", which
follows Li et al. 2021 (CutPaste, two stages). The published code keeps the checkpoint of the best AUC on labelled
images; here it is the last epoch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amae.settings import Checked, setting

if TYPE_CHECKING:
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "AnatPaste"
NEEDS = frozenset({"lungs"})
PROTOCOLS = {"N": "score", "Y": "score"}


@dataclass(frozen=True)
class Settings(Checked):
    """AnatPaste's detector and its training."""

    image_size: int = setting(256, "side of the network's input, in pixels", 32)
    epochs: int = setting(256, "epochs, each of `updates` steps whatever the number of images", 1)
    updates: int = setting(256, "steps of an epoch", 1)
    batch_size: int = setting(64, "images in a step; each brings its synthetic twin", 1)
    lr: float = setting(0.03, "learning rate of SGD, with a cosine to 0", 0)
    weight_decay: float = setting(3e-5, "L2 penalty", 0)


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Train the detector on T_n, and T_u where there is one; keep the features of these images beside it."""
    from amae.comparators import _anatpaste

    return _anatpaste.fit(data.pooled, data.pooled_lungs, settings, seed, resume)


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Negative log density of an image's features under those of the training images, float64 `(N,)`."""
    from amae.comparators import _anatpaste

    return {"score": _anatpaste.score(state, data.images, settings)}
