"""The systems that the paper compares with, and simple references that it does not: one module for each.

A method is a module of this package whose name does not begin with an underscore. It holds

* `TITLE`: its name in a table of results, the paper's where it has one;
* `TAXONOMY` and `NOTE`, where the paper does not have it: what kind of method it is, and what the table says of it;
* `NEEDS`: what it cannot do without beyond the images of T_n: a frozenset of lungs, encoder;
* `PROTOCOLS`: the protocols that it can follow (N: T_n alone, Y: T_n and T_u), each with the score to report;
* `Settings`: a frozen dataclass, whose defaults are the published recipe;
* `fit(data, settings, seed, resume) -> (state, history)`: tensors by name, and one row for each epoch;
* `score(state, data, settings) -> {name: (N,)}`: scores of test images, higher is more abnormal, each independent of
  the other images.

Training is never given a label. One-class methods under protocol Y treat T_n and T_u, pooled, as normal. To read what
a method declares loads no torch: `fit` and `score` import what computes.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Optional

from amae.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from amae.mae.weights import Encoder

    Fitted = tuple[dict[str, Tensor], pd.DataFrame]
    Scores = dict[str, Tensor]

METHODS = tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


@dataclass(frozen=True)
class TrainingData:
    """What a method may learn from, on one device; what its NEEDS do not name may be None.

    `normal` (T_n) and `unlabeled` (T_u, empty under protocol N): uint8 `(N, H, W)`. Their lung masks: bool `(N, H, W)`.
    `encoder`: the frozen f_0, for images of this size.
    """

    normal: "Tensor"
    unlabeled: "Tensor"
    normal_lungs: Optional["Tensor"] = None
    unlabeled_lungs: Optional["Tensor"] = None
    encoder: Optional["Encoder"] = None

    @property
    def pooled(self) -> "Tensor":
        """T_n and T_u in one, uint8 `(N, H, W)`: what a one-class method takes for normal."""
        from torch import cat

        return cat([self.normal, self.unlabeled])

    @property
    def pooled_lungs(self) -> "Tensor":
        """Lung masks of `pooled`, bool `(N, H, W)`."""
        from torch import cat

        return cat([masks for masks in (self.normal_lungs, self.unlabeled_lungs) if masks is not None])


@dataclass(frozen=True)
class TestData:
    """What a method scores: `images` uint8 `(N, H, W)`, their views ("" where unknown), and the frozen encoder f_0."""

    __test__ = False  # not a test, whatever pytest makes of the name

    images: "Tensor"
    views: Sequence[str] | None = None
    encoder: Optional["Encoder"] = None


def load_method(name: str) -> ModuleType:
    """The module of a method; InputError that lists all of them for an unknown name."""
    if name not in METHODS:
        raise InputError(f"method {name!r}: expected one of {', '.join(METHODS)}")
    return importlib.import_module(f"{__name__}.{name}")


def column(method: str, score: str) -> str:
    """Name of a score's column in tables: the method's own for one called "score", otherwise method_score."""
    return method if score == "score" else f"{method}_{score}"
