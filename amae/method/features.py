"""A Gaussian of frozen features."""

import numpy as np
from sklearn.covariance import LedoitWolf


def fit_gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `(D,)` and Ledoit-Wolf precision `(D, D)` of features `(N, D)`, float64 (Ledoit and Wolf 2004)."""
    estimate = LedoitWolf().fit(features)
    return estimate.location_, estimate.precision_
