"""Means that a few values may carry, such as the KL of completions: with median, tail, and what the interval is worth.

A KL per completion has a heavy tail: a policy that falls into one strange completion in a hundred can owe a third of
its mean KL to it. No interval made of the sample alone can cover a tail that the sample has not seen.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from bench.errors import DataError
from bench.evaluate.statistics import ALPHA, Interval, estimate, no_interval

TOP = 0.01
"""Of the values, the largest, whose share of the sum is told."""
CARRIED = 0.1
"""Share of the sum that the top may have before the mean counts as carried by it: it is 2 to 3 % for the normal
distributions that KLs have, 5 % for an exponential one, 9 % for exp(normal(0, 1))."""
ENOUGH = 200
"""Values: so many hold, with 95 % confidence, one of any group that is at least 3 / 200 = 1.5 % of all completions."""


def mean_with_tail(values: Sequence[float]) -> dict[str, Any]:
    """Estimate of the mean of values that have no bound, and how far it can be trusted.

    The interval is Student's t with skewness removed by Hall's cubic transformation (1992, JRSS B 54:221), which needs
    no random numbers. It covers as the bootstrap-t does, at a fraction of its width where the tail is heavy; see
    `bench.evaluate.simulation`.

    Returns:
        "value", "ci95", "n"; "median" (estimate, its interval from order statistics, which covers whatever the tail);
        "top_share": share of the sum that the largest 1 % of the values have (at least one value; None where the sum
        is not above 0); "limit": None, or why the interval is no 95 % interval: too few values to have seen the tail,
        or a mean that a few of them carry. What compares means at a `limit` compares medians too.

    Raises:
        DataError: no values, or one that is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0 or not np.isfinite(x).all():
        raise DataError(f"cannot average {x.size} values" + (", some are not finite" if x.size else ""))
    top, total = math.ceil(TOP * x.size), float(x.sum())
    share = float(np.sort(x)[-top:].sum()) / total if total > 0 else None
    mean = _skewed_mean(x)
    return {
        **estimate(mean),
        "median": estimate(median_interval(values)),
        "top_share": share,
        "limit": None if mean.reason else _limit(x.size, top, share),
    }


def median_interval(values: Sequence[float]) -> Interval:
    """Median with its distribution-free interval: from order statistics, what a sign test does not reject.

    Fewer than six values have none: all of them lie on one side of the median in more than 5 % of cases.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    median = float(np.median(x))
    if x.size > 1 and x[0] == x[-1]:
        return no_interval(median, x.size, f"all {x.size} values are equal")
    below = int(stats.binom(x.size, 0.5).ppf(ALPHA / 2))  # fewer than this lie below the median in 2.5 % of cases
    if below == 0:
        return no_interval(median, x.size, f"{x.size} values are too few for an interval of the median")
    return Interval(median, float(x[below - 1]), float(x[x.size - below]), x.size)


def _skewed_mean(x: np.ndarray) -> Interval:
    mean, n = float(x.mean()), x.size
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        return no_interval(mean, n, "one value has no spread" if n == 1 else f"all {n} values are equal")
    error = float(x.std(ddof=1)) / math.sqrt(n)
    lean = float(stats.skew(x)) / math.sqrt(n)
    t = float(stats.t.isf(ALPHA / 2, n - 1))

    def studentised(normal: float) -> float:
        """The t statistic that Hall's transformation takes to `normal`."""
        if abs(lean) < 1e-6:  # then it takes a number to itself, and the formula to 0 / 0
            return normal
        return 3 / lean * (float(np.cbrt(1 + lean * (normal - lean / 6))) - 1)

    return Interval(mean, mean - error * studentised(t), mean - error * studentised(-t), n)


def _limit(n: int, top: int, share: float | None) -> str | None:
    if n < ENOUGH:
        return (
            f"{n} completions may have missed what fewer than {100 * min(1, 3 / n):.1f} % of all are like; take the"
            f" median, or at least {ENOUGH} completions"
        )
    if share is not None and share > CARRIED:
        largest = "the largest one carries" if top == 1 else f"the largest {top} of {n} carry"
        return f"{largest} {100 * share:.0f} % of the mean, whose interval covers 90 to 97 % then; see the median"
    return None
