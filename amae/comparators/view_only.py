"""View only: the score is the projection alone, without a look at the image.

Bedridden patients are X-rayed from front to back (AP), so on some benchmarks the view nearly gives the label away. A
reference that the paper does not report.
"""

import sys

import torch
from torch import Tensor

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import NoSettings
from amae.comparators.shared import no_history
from amae.data.manifest import VIEWS
from amae.method.training import Resume

UNKNOWN = 0.5  # any value between the two ranks as the mean of the known views would


def fit(data: TrainingData, settings: NoSettings, seed: int, resume: Resume) -> Fitted:
    """Nothing is learned; the state is the table of values."""

    return {"values": torch.tensor([VIEWS["PA"], UNKNOWN, VIEWS["AP"]])}, no_history()


def score(state: dict[str, Tensor], data: TestData, settings: NoSettings) -> Scores:
    """1 for AP, 0 for PA, in between for any other view or none: float32 `(N,)`.

    Where no view is known all images score alike: AUC 0.5.
    """
    if not VIEWS.keys() & set(data.views):
        print(
            f"view_only: no test image has the view AP or PA in the manifest's column view; all score {UNKNOWN}",
            file=sys.stderr,
        )
    return {"score": torch.tensor([VIEWS.get(view, UNKNOWN) for view in data.views])}
