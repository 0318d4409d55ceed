"""Sum of the detector's logit and the two-distribution error ratio, each in units of its spread over T_u.

This project's own. Centre and scale are those of the training images, so a score depends on no other test image.
"""

import pandas as pd
import torch
from torch import Tensor

from amae.comparators import detector, two_distributions
from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import SumSettings, TwoDistributionSettings, check_ratio_masks
from amae.method.training import Resume, resume_of
from amae.runtime.tensors import prefixed, under


def fit(data: TrainingData, settings: SumSettings, seed: int, resume: Resume) -> Fitted:
    """Train both methods as their own rows do.

    State: that of each, and `scale`, mean and standard deviation over T_u of the logit out of fold and of the ratio,
    float64 `(2, 2)`. Raises InputError as `two_distributions.fit`, before any training.
    """
    check_ratio_masks(data.encoder.architecture)
    modules = TwoDistributionSettings(settings.modules)
    logits, first = detector.fit(data, settings.detector, seed, resume_of(resume, "detector"))
    errors, second = two_distributions.fit(data, modules, seed, resume)
    ids = [f"unlabeled {row}" for row in range(len(data.unlabeled))]  # their masks
    unlabeled = TestData(data.unlabeled, encoder=data.encoder, ids=ids, seed=seed)
    ratios = two_distributions.score(errors, unlabeled, modules)["score"]
    scale = torch.stack([torch.stack([each.mean(), each.std()]) for each in (logits["unlabeled"], ratios.double())])
    history = pd.concat([first, second], ignore_index=True)
    return prefixed(logits, "detector") | prefixed(errors, "modules") | {"scale": scale}, history


def score(state: dict[str, Tensor], data: TestData, settings: SumSettings) -> Scores:
    """Sum of both scores after scaling, float64 `(N,)`."""
    logits = detector.score(under(state, "detector"), data, settings.detector)["score"]
    modules = TwoDistributionSettings(settings.modules)
    ratios = two_distributions.score(under(state, "modules"), data, modules)["score"]
    found = torch.stack([logits.double().cpu(), ratios.double().cpu()])
    mean, spread = state["scale"].cpu().T[..., None]
    return {"score": ((found - mean) / spread).sum(0)}
