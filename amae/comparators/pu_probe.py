"""Positive-unlabeled probe: a logistic regression that separates T_u from T_n in the frozen features of f_0.

An image that looks as if it came from T_u rather than T_n is likely abnormal, as T_u differs from T_n by its abnormal
images alone. A reference that the paper does not report. Source of the idea: Elkan and Noto 2008.
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import ProbeSettings
from amae.comparators.shared import no_history
from amae.data.splits import folds_of
from amae.method.stage1 import frozen_features
from amae.method.training import Resume


def fit(data: TrainingData, settings: ProbeSettings, seed: int, resume: Resume) -> Fitted:
    """Fit the probe; nothing is random. State: mean and std of T_n, weight and bias, float64."""

    normal, unlabeled = (frozen_features(data.encoder, x).cpu().numpy() for x in (data.normal, data.unlabeled))
    scaler, probe = _fit(normal, unlabeled, settings)
    state = {"mean": scaler.mean_, "std": scaler.scale_, "weight": probe.coef_[0], "bias": probe.intercept_}
    return {name: torch.from_numpy(value).double() for name, value in state.items()}, no_history()


def score(state: dict[str, Tensor], data: TestData, settings: ProbeSettings) -> Scores:
    """Log-odds of T_u against T_n, float64 `(N,)`: they rank as the probability does, but do not saturate."""
    features = frozen_features(data.encoder, data.images).double()
    state = {name: value.to(features.device) for name, value in state.items()}
    return {"score": (features - state["mean"]) / state["std"] @ state["weight"] + state["bias"]}


def out_of_fold(
    features: np.ndarray, unlabeled: np.ndarray, patients: list[str], settings: ProbeSettings
) -> np.ndarray:
    """Probability of T_u for each image of T_u, by a probe that saw no image of its patient, float64 `(M,)`.

    `features` `(N + M, D)`: frozen, of T_n and T_u; `unlabeled`, bool `(N + M,)`: which are of T_u. Raises InputError
    for fewer patients than folds.
    """
    fold = folds_of(unlabeled, patients, settings.folds)
    probabilities = np.empty(len(features))
    for number in range(settings.folds):
        held_out = fold == number
        scaler, probe = _fit(features[~held_out & ~unlabeled], features[~held_out & unlabeled], settings)
        probabilities[held_out] = probe.predict_proba(scaler.transform(_double(features[held_out])))[:, 1]
    return probabilities[unlabeled]


def _fit(
    normal: np.ndarray, unlabeled: np.ndarray, settings: ProbeSettings
) -> tuple[StandardScaler, LogisticRegression]:
    """scikit-learn's scaler, fitted to T_n, and logistic regression of T_n (0) against T_u (1)."""
    scaler = StandardScaler().fit(_double(normal))
    features = scaler.transform(_double(np.concatenate([normal, unlabeled])))
    source = np.repeat([0, 1], [len(normal), len(unlabeled)])
    return scaler, LogisticRegression(C=settings.c, max_iter=settings.iterations).fit(features, source)


def _double(features: np.ndarray) -> np.ndarray:
    return features.astype("float64")
