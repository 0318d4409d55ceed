"""Checks of the setting that need no label: do T_n and T_u suit each other, and how much of T_u is abnormal?

All start from scores of images that their network was not trained on: of normal images, and of T_u out of fold, higher
for T_u. Where T_u is a mixture of normal images like T_n's and of abnormal ones, with a share AR of the latter, the AUC
of T_u against normal images (AUCp) is (1 - AR) / 2 + AR * AUC, AUC being that of abnormal against normal images. So
AUCp orders scores as their AUC does (Mohammad et al. 2026), and beyond (1 + AR) / 2 the sets differ by more than
disease.
"""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from amae.evaluation.audit import age_in_years
from amae.evaluation.metrics import auc, bootstrap_interval
from amae.method.mixture import estimated_ratio
from amae.runtime.errors import InputError

RESAMPLES = 500
MOST_ABNORMAL = 0.9  # an estimated ratio whose interval is beyond: no folder of mixed images
FEW_ABNORMAL = 60  # images of T_u; with fewer the detector's AUC swings by up to 0.3 (docs/robustness.md)
ACCEPT = "accept_differences"  # the key of a data set, and the option, with which a person goes on


def auc_of_unlabeled(normal: np.ndarray, unlabeled: np.ndarray) -> float:
    """AUCp: probability that an image of T_u scores higher than a normal one, in [0, 1]. Scores `(N,)` and `(M,)`."""
    return auc(np.repeat([0, 1], [len(normal), len(unlabeled)]), np.concatenate([normal, unlabeled]))


def implied_auc(auc_p: float, ratio: float) -> float:
    """AUC of abnormal against normal images that an AUCp implies at an anomaly ratio in (0, 1]; it may pass 1."""
    return (auc_p - (1 - ratio) / 2) / ratio


def implied_by_estimate(auc_p: float, estimated: tuple[float, float, float]) -> float | None:
    """`implied_auc` at an estimated ratio, given with its interval, in [0, 1]; None where the interval contains 0.

    The estimate is mostly too low, and the implied AUC then too high (`estimated_ratio`).
    """
    return _clipped(auc_p, estimated[0]) if estimated[1] > 0 else None


def implied_with_interval(
    normal: np.ndarray, unlabeled: np.ndarray, estimated: tuple[float, float, float]
) -> tuple[float | None, float | None, float | None]:
    """`implied_by_estimate` of scores `(N,)` and `(M,)`, with its 95 % bootstrap interval over images, in [0, 1].

    Each resample gives AUCp and the ratio, whose error is thus part of the interval.
    """
    value = implied_by_estimate(auc_of_unlabeled(normal, unlabeled), estimated)
    if value is None:
        return None, None, None
    drawn = [_clipped(auc_of_unlabeled(*pair), estimated_ratio(*pair)) for pair in _resampled(normal, unlabeled)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value, float(low), float(high)


def _clipped(auc_p: float, ratio: float) -> float:
    """`implied_auc` in [0, 1], at a ratio of 0 its limit."""
    return float(np.clip(implied_auc(auc_p, max(ratio, 1e-9)), 0, 1))


def greatest_auc_p(ratio: float) -> float:
    """AUCp of a perfect score, (1 + AR) / 2, where T_u differs from normal images by abnormality alone."""
    return (1 + ratio) / 2


def differences(known: pd.DataFrame, unlabeled: np.ndarray) -> dict[str, float]:
    """AUC of T_u against T_n by each column of what is known of the images, the greatest first; 0.5 to 1.

    `unlabeled` bool `(N,)`. Numbers, ages in years, are taken as they are, in the better of both directions; the
    values of other columns are ordered by the share of T_u among their images. Rows without a value are left out of
    their column, and columns without two values in each set out of the result.
    """
    found = {}
    for name, values in known.items():
        number = values.map(age_in_years) if name == "age" else pd.to_numeric(values, errors="coerce")
        is_number = name == "age" or number.notna().sum() >= (values != "").sum() / 2
        used = number.notna() if is_number else values != ""
        of_unlabeled = unlabeled[used]
        if min(of_unlabeled.sum(), (~of_unlabeled).sum()) < 2:
            continue
        score = (
            number[used] if is_number else pd.Series(of_unlabeled).groupby(values[used].to_numpy()).transform("mean")
        )
        area = auc(of_unlabeled.astype(int), score.to_numpy())
        found[str(name)] = max(area, 1 - area)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def anomaly_ratio(normal: np.ndarray, unlabeled: np.ndarray) -> tuple[float, float, float]:
    """Estimate of the anomaly ratio of T_u, with a 95 % bootstrap interval over images; each in [0, 1].

    The estimate is that of `estimated_ratio`, from scores `(N,)` and `(M,)`.

    The interval is the percentile one, whose lower end is moved out to the basic one's: resampling makes the least of
    many ratios smaller, and would exclude a ratio of 0.
    """
    drawn = [estimated_ratio(*pair) for pair in _resampled(normal, unlabeled)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    estimate = estimated_ratio(normal, unlabeled)
    return estimate, max(0.0, min(float(low), 2 * estimate - float(high))), float(high)


def _resampled(normal: np.ndarray, unlabeled: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """RESAMPLES times as many images of each set as it has, drawn from it; the same ones in each call."""
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield rng.choice(normal, len(normal)), rng.choice(unlabeled, len(unlabeled))


def auc_p_interval(normal: np.ndarray, unlabeled: np.ndarray) -> tuple[float, float, float]:
    """AUCp with its 95 % bootstrap interval over images."""
    labels = np.repeat([0, 1], [len(normal), len(unlabeled)])
    low, high = bootstrap_interval(labels, np.concatenate([normal, unlabeled]), auc)
    return auc_of_unlabeled(normal, unlabeled), low, high


def fault(
    auc_p: tuple[float, float, float],
    estimated: tuple[float, float, float],
    stated: float | None,
    apart: dict[str, float],
) -> tuple[str, bool]:
    """What speaks against T_n and T_u, as a sentence, "" for nothing; and whether it does by a wide margin.

    `auc_p` and `estimated`, the ratio, with their intervals; `stated`: the ratio that a person states; `apart` as
    `differences` returns it. Wide: with a stated ratio the interval of AUCp is in the upper half of what is beyond
    (1 + AR) / 2; without one, the estimate's is beyond MOST_ABNORMAL.
    """
    ratio = estimated[0] if stated is None else stated
    most, low = greatest_auc_p(ratio), auc_p[1]
    columns = ", ".join(f"{name} {value:.2f}" for name, value in list(apart.items())[:3])
    known = f": the sets differ by more than disease; what is known of the images separates them by {columns}"
    if stated is None and estimated[1] > MOST_ABNORMAL:
        found = f"and by that {estimated[1]:.0%} of T_u or more are abnormal, with no anomaly ratio stated"
    elif low > most:
        found = f"and an anomaly ratio of {ratio:g} explains at most {most:.3f}"
    else:
        return "", False
    wide = estimated[1] > MOST_ABNORMAL if stated is None else low > (1 + most) / 2
    return f"the detector separates T_u from T_n with an AUC of {auc_p[0]:.3f}, {found}{known}", wide


def report_fault(found: tuple[str, bool], accepted: bool) -> None:
    """Raise InputError for a wide fault that nobody accepts; any other goes to stderr as a warning."""
    message, wide = found
    if wide and not accepted:
        raise InputError(
            f"{message}. Take T_n from the devices and kind of patients of T_u; to go on all the same, set "
            f"{ACCEPT}: true for the data set (--{ACCEPT.replace('_', '-')})"
        )
    if message:
        print(f"warning: {message}", file=sys.stderr)


def warn_of_few(ratio: float, images: int) -> None:
    """Print a warning if T_u, of so many images, contains fewer abnormal ones at this ratio than a detector needs."""
    if (abnormal := round(ratio * images)) < FEW_ABNORMAL:
        print(
            f"warning: some {abnormal} of the {images} images of T_u are abnormal (anomaly ratio {ratio:.2g}); with "
            f"fewer than {FEW_ABNORMAL} the detector's ranking depends on which these are: add unlabeled images, or "
            "compare it with gaussian_ratio (target table2)",
            file=sys.stderr,
        )
