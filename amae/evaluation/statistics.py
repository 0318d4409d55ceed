"""Replicates: their mean and spread, and whether two methods differ."""

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
