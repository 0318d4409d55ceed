"""Whether two methods differ, over replicates or over images; mean and spread of replicates, interval of a share."""

from collections.abc import Sequence

import numpy as np

from amae.runtime.errors import InputError


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and 1.96 x sample standard deviation over replicates; one replicate has no spread (None)."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), None
    return float(values.mean()), float(1.96 * values.std(ddof=1))


def welch_test(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Two-sided Welch t-test between the replicates of two methods: (t, p), t positive where `a` is higher.

    Two deterministic methods have no spread at all: p is then 1 where they agree and 0 where they differ.
    Raises InputError where a method has fewer than two replicates.
    """
    from scipy.stats import ttest_ind_from_stats

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2:
        raise InputError(
            f"a t-test needs at least two replicates of each method, found {len(a)} and {len(b)}: add seeds"
        )
    # From means and deviations: the test on raw values warns where a method's replicates are all equal.
    mean_a, mean_b, sd_a, sd_b = a.mean(), b.mean(), a.std(ddof=1), b.std(ddof=1)
    if np.isclose(sd_a + sd_b, 0, atol=1e-12):
        return (0.0, 1.0) if np.isclose(mean_a, mean_b) else (float(np.copysign(np.inf, mean_a - mean_b)), 0.0)
    t, p = ttest_ind_from_stats(mean_a, sd_a, len(a), mean_b, sd_b, len(b), equal_var=False)
    return float(t), float(p)


def delong_test(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Two-sided test of two AUCs on the same images: (z, p), z positive where `a` has the higher AUC.

    DeLong, DeLong and Clarke-Pearson 1988; placement values by midranks (Sun and Xu 2014). labels (N,) with
    1 for abnormal; a, b: scores (N,), or (S, N) for S seeds. The AUC of a method with several seeds is their mean, and
    so are its placement values: the trained networks are taken as given, and the images as drawn. Two AUCs whose
    difference has no variance have p 1 where they agree and 0 where they differ. Raises InputError for fewer than two
    images of a class.
    """
    from scipy.stats import norm

    counts = [int((labels == label).sum()) for label in (0, 1)]
    if min(counts) < 2:
        raise InputError(
            f"a test over images needs at least two of each class, found {counts[0]} normal and {counts[1]} abnormal"
        )
    normal, abnormal = (np.subtract(*pair) for pair in zip(placements(labels, a), placements(labels, b), strict=True))
    difference = float(abnormal.mean())
    variance = normal.var(ddof=1) / len(normal) + abnormal.var(ddof=1) / len(abnormal)
    if np.isclose(variance, 0, atol=1e-15):
        return (0.0, 1.0) if np.isclose(difference, 0) else (float(np.copysign(np.inf, difference)), 0.0)
    z = difference / float(np.sqrt(variance))
    return z, float(2 * norm.sf(abs(z)))


def placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Placement values of the normal (M,) and of the abnormal images (N,), in [0, 1]; the mean of either is the AUC.

    That of an abnormal image is the share of normal images that score lower, a tie counting half; that of a normal
    image the share of abnormal images that score higher. scores (M + N,), or (S, M + N), whose mean over S is taken.
    """
    from scipy.stats import rankdata

    of_seeds = np.atleast_2d(np.asarray(scores, np.float64))
    within, among = np.empty_like(of_seeds), rankdata(of_seeds, axis=1)
    for label in (0, 1):
        within[:, labels == label] = rankdata(of_seeds[:, labels == label], axis=1)
    below = (among - within).mean(0)  # images of the other class that score lower
    normal, abnormal = below[labels == 0], below[labels == 1]
    return 1 - normal / len(abnormal), abnormal / len(normal)


def proportion_interval(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share, `count` of `total` independent images (Wilson 1927); (nan, nan) for none of none."""
    from scipy.stats import binomtest

    if total == 0:
        return float("nan"), float("nan")
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def stars(p: float) -> str:
    """A p-value as the paper prints it: ns above 0.05, ** down to 0.01, *** down to 0.001, smaller p as a number.

    A p exactly at a border belongs to the stronger class: 0.05 is **, 0.01 is ***, 0.001 is printed.
    """
    if p > 0.05:
        return "ns"
    if p > 0.01:
        return "**"
    if p > 0.001:
        return "***"
    return f"p = {p:.1e}"
