"""MAE multi-reconstruction, a baseline of the paper's Fig. 3a: an autoencoder adapted to T_n, its mean map's error.

Trained as Mask Rec. is, but without T_u; the score takes the mean over the masks first and the error afterwards.
"""

import torch
from torch import Tensor

from amae.comparators.interface import Scores, TestData
from amae.comparators.mask_rec import fit, reconstructions
from amae.comparators.settings import MaskRecSettings

__all__ = ["fit", "score"]


def score(state: dict[str, Tensor], data: TestData, settings: MaskRecSettings) -> Scores:
    """Mean of (mu - x)^2 over the pixels that a mask has hidden, intensities in [0, 1]: float32 `(N,)`.

    mu is the mean reconstruction over L masks seeded by (seed, image_id).
    """
    parts = reconstructions(state, data, settings)
    errors = [(mu - images.cpu().float() / 255).square().flatten(1).nanmean(1) for images, mu, _ in parts]
    return {"score": torch.cat(errors)}
