"""Whether one number falls or rises with another: Spearman's rank correlation over a few settings and seeds."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from bench.evaluate.statistics import ALPHA, Interval, no_interval

DRAWS = 4000
"""Simulated samples for every correlation that is tried."""


def rank_correlation(seeds: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int = 0) -> Interval:
    """Spearman's rho of y with x within each seed, averaged over the seeds, with a 95 % interval; n is the points.

    Of points in perfect order neither Fisher's transformation nor a bootstrap knows anything: both claim certainty.
    So the interval inverts a test, which is exact for normal x and y: it holds every correlation under which an
    average as small, and one as large, as what was seen comes up with a chance of 2.5 % or more (drawn `DRAWS`
    times each, the same normal numbers for all). Its ends are Spearman's, of Pearson's by 6 arcsin(r / 2) / pi
    (Pearson 1907).

    Args:
        seeds: x and y of each seed's settings; seeds may have different ones.
        seed: of the draws.
    """
    of_seeds = [(np.asarray(x, float), np.asarray(y, float)) for x, y in seeds if min(len(set(x)), len(set(y))) > 1]
    n = sum(len(x) for x, _ in of_seeds)
    if not of_seeds or min(len(x) for x, _ in of_seeds) < 3:
        return no_interval(float("nan"), n, "a rank correlation needs three settings or more")
    value = float(np.mean([np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1] for x, y in of_seeds]))
    rng = np.random.default_rng(seed)
    normals = [rng.standard_normal((2, DRAWS, len(x))) for x, _ in of_seeds]

    def tail(r: float, side: int) -> float:
        """Chance of an average at least as far to the `side` (1: as large) as what was seen, less 2.5 %."""
        averages = np.mean([_spearman(a, r * a + np.sqrt(1 - r * r) * b) for a, b in normals], axis=0)
        return float((side * averages >= side * value - 1e-9).mean()) - ALPHA / 2

    low = -1.0 if tail(-1 + 1e-9, 1) >= 0 else _root(lambda r: tail(r, 1))
    high = 1.0 if tail(1 - 1e-9, -1) >= 0 else _root(lambda r: tail(r, -1))
    return Interval(value, *(float(6 / np.pi * np.arcsin(r / 2)) for r in (low, high)), n=n)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rho of every row: 1 - 6 sum d^2 / (k (k^2 - 1)), exact without ties."""
    k = x.shape[1]
    d = x.argsort(axis=1).argsort(axis=1) - y.argsort(axis=1).argsort(axis=1)
    return 1 - 6 * (d**2).sum(axis=1) / (k * (k**2 - 1))


def _root(f: Callable[[float], float]) -> float:
    """Where a falling or rising step function of the correlation crosses 0, to a thousandth."""
    return cast(float, optimize.bisect(f, -1 + 1e-9, 1 - 1e-9, xtol=1e-3))
