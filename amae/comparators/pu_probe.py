"""Positive-unlabeled probe: a logistic regression that tells T_u from T_n in the frozen features of f_0.

An image that looks as if it came from T_u rather than T_n is likely abnormal, as T_u differs from T_n by its abnormal
images alone. A reference that the paper does not report. Source of the idea: Elkan and Noto 2008.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amae.runtime.errors import InputError
from amae.settings import Checked, setting

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

    from amae.comparators import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

TITLE = "Positive-unlabeled probe"
TAXONOMY = "ours"
NOTE = "not in the paper"
NEEDS = frozenset({"encoder"})
PROTOCOLS = {"Y": "score"}


@dataclass(frozen=True)
class Settings(Checked):
    """The probe of T_n against T_u."""

    c: float = setting(1.0, "inverse strength of the L2 penalty, scikit-learn's C", 1e-9)
    iterations: int = setting(1000, "most iterations of L-BFGS", 1)
    folds: int = setting(5, "folds of the out-of-fold probabilities of T_u", 2)


def fit(data: "TrainingData", settings: Settings, seed: int, resume: "Resume") -> "Fitted":
    """Fit the probe; nothing is random. State: mean and std of T_n, weight and bias, float64."""
    import torch

    from amae.comparators._shared import no_history
    from amae.method.stage1 import frozen_features

    normal, unlabeled = (frozen_features(data.encoder, x).cpu().numpy() for x in (data.normal, data.unlabeled))
    scaler, probe = _fit(normal, unlabeled, settings)
    state = {"mean": scaler.mean_, "std": scaler.scale_, "weight": probe.coef_[0], "bias": probe.intercept_}
    return {name: torch.from_numpy(value).double() for name, value in state.items()}, no_history()


def score(state: dict[str, "Tensor"], data: "TestData", settings: Settings) -> "Scores":
    """Log-odds of T_u against T_n, float64 `(N,)`: they rank as the probability does, but do not saturate."""
    from amae.method.stage1 import frozen_features

    features = frozen_features(data.encoder, data.images).double()
    state = {name: value.to(features.device) for name, value in state.items()}
    return {"score": (features - state["mean"]) / state["std"] @ state["weight"] + state["bias"]}


def out_of_fold(features: "ndarray", unlabeled: "ndarray", patients: list[str], settings: Settings) -> "ndarray":
    """Probability that each image of T_u is told from T_n by a probe that saw no image of its patient, float64 `(M,)`.

    `features` `(N + M, D)`: frozen, of T_n and T_u; `unlabeled`, bool `(N + M,)`: which are of T_u. Raises InputError
    for fewer patients than folds.
    """
    import numpy as np

    fold = folds_of(unlabeled, patients, settings.folds)
    probabilities = np.empty(len(features))
    for number in range(settings.folds):
        held_out = fold == number
        scaler, probe = _fit(features[~held_out & ~unlabeled], features[~held_out & unlabeled], settings)
        probabilities[held_out] = probe.predict_proba(scaler.transform(_double(features[held_out])))[:, 1]
    return probabilities[unlabeled]


def folds_of(unlabeled: "ndarray", patients: list[str], folds: int) -> "ndarray":
    """Fold of each image, int `(N + M,)`: patients stay together, and T_n and T_u are shared out alike.

    Patients are taken in the order of the SHA-256 of their names. So no seed is needed, the order of the images plays
    no part, and neither does that of the names, which may spell the label.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    hashes = np.array([hashlib.sha256(name.encode()).hexdigest() for name in patients])
    normal_patients, unlabeled_patients = (len(set(hashes[part])) for part in (~unlabeled, unlabeled))
    if min(normal_patients, unlabeled_patients) < folds:
        raise InputError(f"folds: found {folds}, but T_n has {normal_patients} and T_u {unlabeled_patients} patients")
    fold = np.empty(len(hashes), int)
    for number, (_, rows) in enumerate(StratifiedGroupKFold(folds).split(hashes, unlabeled, hashes)):
        fold[rows] = number
    return fold


def _fit(normal: "ndarray", unlabeled: "ndarray", settings: Settings) -> tuple[Any, Any]:
    """scikit-learn's scaler, fitted to T_n, and logistic regression of T_n (0) against T_u (1)."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(_double(normal))
    features = scaler.transform(_double(np.concatenate([normal, unlabeled])))
    source = np.repeat([0, 1], [len(normal), len(unlabeled)])
    return scaler, LogisticRegression(C=settings.c, max_iter=settings.iterations).fit(features, source)


def _double(features: "ndarray") -> "ndarray":
    return features.astype("float64")
