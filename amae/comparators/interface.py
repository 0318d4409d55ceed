"""Data that a comparator is given, and results that it returns."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from amae.mae.weights import Encoder

Fitted = tuple[dict[str, Tensor], pd.DataFrame]  # state by name, and one row for each epoch
Scores = dict[str, Tensor]  # by name, (N,) each, higher is more abnormal


@dataclass(frozen=True)
class TrainingData:
    """All that a method may learn from, on one device; what its needs do not name may be None.

    `normal` (T_n) and `unlabeled` (T_u, empty under protocol N): uint8 `(N, H, W)`. Their lung masks: bool `(N, H, W)`.
    `encoder`: f_0, for images of this size; the whole autoencoder (f_0, g_0) where that is needed. `patients` and
    `views`: of T_n, then of T_u.
    """

    normal: Tensor
    unlabeled: Tensor
    normal_lungs: Tensor | None = None
    unlabeled_lungs: Tensor | None = None
    encoder: Encoder | None = None
    patients: Sequence[str] = ()
    views: Sequence[str] = ()

    @property
    def pooled(self) -> Tensor:
        """T_n and T_u in one, uint8 `(N, H, W)`: a one-class method takes all of it for normal."""
        return torch.cat([self.normal, self.unlabeled])

    @property
    def pooled_lungs(self) -> Tensor:
        """Lung masks of `pooled`, bool `(N, H, W)`."""
        return torch.cat([masks for masks in (self.normal_lungs, self.unlabeled_lungs) if masks is not None])


@dataclass(frozen=True)
class TestData:
    """Images to score, uint8 `(N, H, W)`, with all that a method may need beside them.

    `views`: "" where unknown. `lungs`: masks, bool `(N, H, W)`. `seed`: the run's.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    images: Tensor
    views: Sequence[str] | None = None
    encoder: Encoder | None = None
    ids: Sequence[str] = ()
    seed: int = 0
    lungs: Tensor | None = None
