"""Data that a comparator is given, and results that it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from amae.mae.weights import Encoder
from amae.runtime.errors import InputError

Fitted = tuple[dict[str, Tensor], pd.DataFrame]  # state by name, and one row for each epoch
Scores = dict[str, Tensor]  # by name, (N,) each, higher is more abnormal


@dataclass(frozen=True)
class TrainingData:
    """All that a method may learn from, on one device; what its needs do not name may be None.

    `normal` (T_n) and `unlabeled` (T_u, empty under protocol N): uint8 `(N, H, W)`. Their lung masks: bool `(N, H, W)`.
    `encoder`: f_0, for images of this size; the whole autoencoder (f_0, g_0) where that is needed. `patients`, and
    `groups`, the values of the column that the settings name, if they name one: of T_n, then of T_u.
    """

    normal: Tensor
    unlabeled: Tensor
    normal_lungs: Tensor | None = None
    unlabeled_lungs: Tensor | None = None
    encoder: Encoder | None = None
    patients: Sequence[str] = ()
    groups: Sequence[str] = ()

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


def check_fitted(found: Any) -> Fitted:
    """What a method's `fit` returned, each tensor with memory of its own.

    Raises InputError for anything but tensors by name and a history.
    """
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], dict)):
        raise InputError(f"fit returned {_kinds(found)}; expected (a dict of tensors by name, a pandas DataFrame)")
    state, history = found
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise InputError(f"fit returned a state with {name!r}: {_kinds(value)}; expected a tensor by its name")
    if not isinstance(history, pd.DataFrame):
        raise InputError(f"fit returned the history as {_kinds(history)}; expected a pandas DataFrame")
    # safetensors refuses tensors that share memory
    return {name: value.detach().clone() for name, value in state.items()}, history


def check_scores(found: Any, ids: Sequence[str], declared: str) -> Scores:
    """What a method's `score` returned for these images, without gradients.

    Raises InputError where it lacks the declared score, or a score is not `(N,)` or not finite.
    """
    if not isinstance(found, dict) or declared not in found:
        keys = f"a dict of {', '.join(map(str, found)) or 'nothing'}" if isinstance(found, dict) else _kinds(found)
        raise InputError(f"score returned {keys}; expected a dict with the score {declared!r} of its protocol")
    for name, values in found.items():
        if not isinstance(values, Tensor) or values.shape != (len(ids),):
            shape = f" {tuple(values.shape)}" if isinstance(values, Tensor) else ""
            raise InputError(
                f"score {name!r} is {_kinds(values)}{shape}; expected a Tensor ({len(ids)},), one an image"
            )
        if len(bad := (~values.isfinite()).nonzero()):
            first = bad[0, 0].item()
            raise InputError(
                f"score {name!r}: {len(bad)} of {len(ids)} values are not finite, the first is {values[first].item()} "
                f"of image {ids[first]!r}"
            )
    return {name: values.detach() for name, values in found.items()}


def _kinds(value: Any) -> str:
    """The type of a value, and of its parts where it is a tuple."""
    name = type(value).__name__
    return f"({', '.join(type(part).__name__ for part in value)})" if isinstance(value, tuple) else name
