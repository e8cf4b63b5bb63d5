"""Means with 95 % intervals, paired comparisons, and the tests that a decision needs (`bench.evaluate.decisions`).

What is resampled is what was drawn: the prompt, or the post where several preference pairs share one.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar

from bench.errors import DataError

RESAMPLES = 2000
ALPHA = 0.05
Z = float(stats.norm.isf(ALPHA / 2))
BATCH_ELEMENTS = 2**22
"""Resampled values held at once (32 MiB), so that memory does not grow with n."""
_IN_CACHE = 2**18
"""Numbers that stay in a processor's cache while they are multiplied."""
BEYOND_TIES = 1e-4
"""Chance that the true share of ties lies outside the range over which `share_test` takes the largest p-value."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval over n prompts; infinite ends, and a reason, where the data give none."""

    value: float
    low: float
    high: float
    n: int
    reason: str | None = None


def bootstrap_mean(
    values: Sequence[float],
    seed: int,
    resamples: int = RESAMPLES,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Mean of `values` with its BCa bootstrap interval (Efron 1987), a function of the values and the seed.

    Where all values are equal a bootstrap has nothing to resample and would claim certainty. `bounds`, the
    range that a value can take, gives an honest interval instead: with 97.5 % confidence at most a share
    1 - 0.025^(1/n) of the population differs from the value seen (Clopper & Pearson 1934, none of n), and
    that share may lie anywhere within the bounds. For n wins of n this is the Clopper-Pearson interval.
    Without bounds there is no such thing: the interval is infinite, and its `reason` says why.

    Raises:
        DataError: no values, or one that is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise DataError("cannot average: no values (no prompt was scored)")
    if not np.isfinite(x).all():
        raise DataError(f"cannot average: {int((~np.isfinite(x)).sum())} of {x.size} values are not finite")
    mean = float(x.mean())
    if np.ptp(x) <= 1e-12 * np.abs(x).max():  # equal but for rounding, which BCa would take for variation
        if bounds is None:
            reason = "one value has no spread" if x.size == 1 else f"all {x.size} values are equal"
            return no_interval(mean, x.size, reason)
        differing = 1 - (ALPHA / 2) ** (1 / x.size)
        low, high = (mean + differing * (bound - mean) for bound in bounds)
        return Interval(mean, low, high, x.size)
    return bca_interval((x,), lambda means: means, mean, 1e-9 * float(np.ptp(x)), seed, resamples)


def ratio_of_means(above: ArrayLike, below: ArrayLike, seed: int, resamples: int = RESAMPLES) -> Interval:
    """mean(above) / mean(below) with its BCa interval, the two being of the same prompts, which are resampled."""
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    value = float(a.mean() / b.mean())
    if np.ptp(a - value * b) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return no_interval(value, a.size, f"the ratio is the same on all {a.size} prompts")
    return bca_interval((a, b), np.divide, value, 1e-9 * abs(value), seed, resamples)


def bca_interval(
    samples: tuple[np.ndarray, ...],
    of_means: Callable[..., np.ndarray],
    value: float,
    equal_within: float,
    seed: int,
    resamples: int,
) -> Interval:
    """A function of the means of samples paired by prompt, `value` as they stand, with its BCa interval (Efron 1987).

    BCa counts the resamples below the value, and those equal to it by half. Of four values 9 % of the resamples are
    the values in another order: equal, but for rounding, which would count them by chance, so that the same values
    in another process had other ends. What lies within `equal_within` of the value is therefore counted as equal.

    It is that of `scipy.stats.bootstrap`, whose jackknife takes n^2 steps where means need n.

    Args:
        of_means: the samples' means, an array each -> the statistic of each.
    """
    n = samples[0].size
    drawn = of_means(*_resampled_means(samples, seed, resamples))
    drawn = np.where(np.abs(drawn - value) <= equal_within, value, drawn)
    without = of_means(*((x.sum() - x) / (n - 1) for x in samples))
    low, high = bca_ends(drawn, without, value)
    if not (math.isfinite(low) and math.isfinite(high)):
        return no_interval(value, n, "all resamples lie on one side of it")
    return Interval(value, low, high, n)


def bca_ends(drawn: np.ndarray, without: np.ndarray, value: float) -> tuple[float, float]:
    """Low and high end of the BCa interval (Efron 1987, Eq. 6.3 to 6.6); NaN where there is none.

    Args:
        drawn: the statistic of each resample.
        without: the statistic without each prompt in turn.
        value: the statistic of all.
    """
    bias = special.ndtri(((drawn < value).mean() + (drawn <= value).mean()) / 2)
    pull = without.mean() - without
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 where no prompt pulls
        acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
        z = bias + np.array([-Z, Z])
        shares = special.ndtr(bias + z / (1 - acceleration * z))
    if not np.isfinite(shares).all():
        return math.nan, math.nan
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)


def _resampled_means(samples: tuple[np.ndarray, ...], seed: int, resamples: int) -> np.ndarray:
    """(samples, resamples): the samples' means in each bootstrap resample of their prompts."""
    return resampled_sums(np.stack(samples, axis=1), seed, resamples).T / samples[0].size


def resampled_sums(values: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """(resamples, K): the sums of `values` (n, K) over each bootstrap resample of the n prompts."""
    counts = _resample_counts(len(values), seed, resamples)
    batch = max(1, _IN_CACHE // len(values))
    parts = [counts[start : start + batch].astype(np.float64) @ values for start in range(0, resamples, batch)]
    return np.concatenate(parts)


@lru_cache(maxsize=2)  # an evaluation has dozens of means over the same prompts
def _resample_counts(n: int, seed: int, resamples: int) -> np.ndarray:
    """(resamples, n): how often each of n prompts is in each bootstrap resample.

    A byte holds them: there are at most n, and more than 255 of one prompt have a chance of 1 in 256!.
    """
    rng, batch, counts = np.random.default_rng(seed), max(1, BATCH_ELEMENTS // n), []
    for start in range(0, resamples, batch):
        drawn = rng.integers(0, n, (min(batch, resamples - start), n))
        places = drawn + n * np.arange(len(drawn))[:, None]
        counts.append(np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.uint8))
    return np.concatenate(counts)


def proportion_interval(
    values: Sequence[float], seed: int, resamples: int = RESAMPLES, posts: Sequence[Hashable] | None = None
) -> Interval:
    """Share with its interval, from values in [0, 1]: one per prompt, or several of one post where `posts` names it.

    Wins, ties and losses (1, 0.5, 0) get the score interval, which needs no random numbers and covers closer to 95 %
    than BCa, whose resampled shares are as coarse as the data: by enumeration, for true rates from 0.5 to 0.95
    without ties, 94.5 to 95.6 % at 256 prompts and 93.7 to 98.0 % at 32, where BCa has 93.9 to 95.9 % and 92.2 to
    98.8 %. So do quarters, which differences of such values are made of, and all values that share posts, by way of
    `effective_counts`. Other values, such as F1 scores, are bootstrapped.

    Raises:
        DataError: as `bootstrap_mean`; or not one post per value.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0 or (posts is None and not np.isin(x, (0, 0.25, 0.5, 0.75, 1)).all()):
        return bootstrap_mean(values, seed, resamples, bounds=(0.0, 1.0))
    wins, losses, n = effective_counts(values, posts)
    if n == 0:
        return no_interval(float(x.mean()), x.size, f"all {x.size} values are of one post")
    # Values in between may vary less than any wins, ties and losses of their mean: more of these say as much.
    theirs, ours = float(x.var()), ((wins + losses) / n - ((wins - losses) / n) ** 2) / 4
    more = max(1.0, ours / theirs) if theirs > 1e-12 else 1.0
    low, high = score_interval(more * wins, more * losses, more * n)
    return Interval(float(x.mean()), float(low), float(high), x.size)


class Counts(NamedTuple):
    """Wins and losses among n independent prompts, the rest ties; not whole numbers where they stand for others."""

    wins: float
    losses: float
    n: float


def effective_counts(
    values: Sequence[float], posts: Sequence[Hashable] | None = None, weights: Sequence[float] | None = None
) -> Counts:
    """The wins, ties and losses of independent prompts that say as much as these values in [0, 1] do.

    They have the mean and the variance of the values; for wins, ties and losses (1, 0.5, 0) they are their counts.
    Values of one post depend on one another: n is then divided by the design effect, the variance of the mean between
    posts over what it were if values were independent (Kish 1965), at least 1, and by the square of Student's t over
    the normal quantile, because so many posts tell that variance (Korn & Graubard 1998, Survey Methodology 24:193).
    Where all values are equal, a post counts as one. n is 0 where they are of one post.

    Args:
        weights: of each value, where several are shares of one prompt: n is their sum.

    Raises:
        DataError: a value outside [0, 1], or not one post per value.
    """
    x = np.asarray(values, dtype=np.float64)
    if not ((x >= 0) & (x <= 1)).all():
        raise DataError("a share needs values between 0 and 1")
    w = np.ones(x.size) if weights is None else np.asarray(weights, dtype=np.float64)
    n, mean = float(w.sum()), np.average(x, weights=w)
    variance = np.average((x - mean) ** 2, weights=w)
    if posts is not None and len(posts) != x.size:
        raise DataError(f"{len(posts)} posts for {x.size} values: give one each")
    if posts is not None and (clusters := len(set(posts))) < x.size:
        if clusters == 1:
            return Counts(0.0, 0.0, 0.0)
        code = {post: i for i, post in enumerate(dict.fromkeys(posts))}
        sums = np.bincount([code[post] for post in posts], w * (x - mean))
        between = clusters / (clusters - 1) * (sums**2).sum() / n**2
        design_effect = max(1.0, between / (variance / n) if variance > 0 else n / clusters)
        n *= (Z / stats.t.isf(ALPHA / 2, clusters - 1)) ** 2 / design_effect
    lead = 2 * mean - 1
    untied = max(4 * variance + lead**2, abs(lead))  # a mean this far from one half takes so many
    return Counts(float(n * (untied + lead) / 2), float(n * (untied - lead) / 2), float(n))


def score_interval(wins: ArrayLike, losses: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """95 % score interval of (wins + ties / 2) / n, elementwise: low and high ends, in the shape of the arguments.

    A win rate with ties is half of one plus the difference between the shares of wins and losses, and these are
    the two discordant cells of a paired table: the interval is Tango's for that difference (1998, Statistics in
    Medicine 17:891). Without ties it is Wilson's (1927).
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(count, dtype=np.float64) for count in (wins, losses, n)))

    def rejected(difference: np.ndarray) -> np.ndarray:
        """Whether the score test rejects that the shares of wins and of losses differ by `difference`."""
        linear = -b - c + (2 * n - b + c) * difference
        root = np.sqrt(np.maximum(linear**2 + 8 * n * c * difference * (1 - difference), 0))
        lost = (root - linear) / (4 * n)  # the likeliest share of losses, given the difference
        variance = n * (2 * lost + difference * (1 - difference))
        return (b - c - n * difference) ** 2 > Z**2 * variance

    ends = []
    for limit in (-1.0, 1.0):
        inside, outside = (b - c) / n, np.full(n.shape, limit)
        for _ in range(50):  # halves the bracket each time: exact to rounding
            middle = (inside + outside) / 2
            out = rejected(middle)
            inside, outside = np.where(out, inside, middle), np.where(out, middle, outside)
        ends.append((1 + inside) / 2)
    return ends[0], ends[1]


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    seed: int,
    resamples: int = RESAMPLES,
    bounds: tuple[float, float] | None = None,
    posts: Sequence[Hashable] | None = None,
) -> Interval:
    """Mean of a - b with its interval, where a[i] and b[i] belong to one prompt; `bounds` are those of a - b.

    For two scores in [0, 1], as of two rules on the same preference pairs, the bounds are (-1, 1), and the interval is
    that of the share (1 + a - b) / 2 (`proportion_interval`; `posts` as there).
    """
    if len(a) != len(b):
        raise DataError(f"cannot pair {len(a)} values with {len(b)}: both sides need the same prompts")
    differences = np.subtract(a, b)
    if bounds != (-1, 1):
        return bootstrap_mean(differences.tolist(), seed, resamples, bounds)
    share = proportion_interval(((1 + differences) / 2).tolist(), seed, resamples, posts)
    return Interval(float(differences.mean()), 2 * share.low - 1, 2 * share.high - 1, share.n, share.reason)


def share_test(counts: Counts, share: float = 0.5) -> float:
    """Two-sided exact p-value that wins plus half the ties are a `share` of all prompts.

    For one half it is the sign test over the untied prompts; counts that are not whole enter its binomial tails as
    they are (Korn & Graubard 1998). For another share the lead, wins minus losses, is held against its distribution
    under that share, which depends on how many ties there truly are: the p-value is the largest over the range that
    holds this with all but `BEYOND_TIES` of certainty, which is added (Berger & Boos 1994, JASA 89:1012). Either way
    it is below 0.05 by chance in at most 5 % of cases, at any n.
    """
    wins, losses, n = counts
    if share == 0.5:
        more, fewer = max(wins, losses), min(wins, losses)
        return min(1.0, 2 * float(special.betainc(more, fewer + 1, 0.5))) if more > 0 else 1.0
    ties = max(n - wins - losses, 0.0)
    fewest = special.betaincinv(ties, n - ties + 1, BEYOND_TIES / 2) if ties > 0 else 0.0
    most = special.betaincinv(ties + 1, n - ties, 1 - BEYOND_TIES / 2) if ties < n else 1.0
    whole = max(1, math.floor(n))
    tails = [_lead_tails(whole, (wins - losses) * whole / n, share, t) for t in np.linspace(fewest, most, 25)]
    return min(1.0, 2 * (min(max(above) for above in zip(*tails, strict=True)) + BEYOND_TIES))


def _lead_tails(n: int, lead: float, share: float, ties: float) -> tuple[float, float]:
    """P(wins - losses >= `lead`) and P(<= `lead`) on n prompts won or tied as `share` and the share of `ties` say."""
    win = min(max(share, ties / 2), 1 - ties / 2) - ties / 2
    turn = np.exp(-2j * np.pi * np.arange(2 * n + 1) / (2 * n + 1))
    # The characteristic function of one prompt's lead to the power of n is that of all; its transform is their law.
    law = np.fft.fftshift(np.fft.ifft((win * turn + ties + (1 - ties - win) / turn) ** n).real)  # -n, ..., n
    at = lead + n
    return float(law[math.floor(at + 1e-9) :].sum()), float(law[: math.ceil(at - 1e-9) + 1].sum())


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of `wins` against `losses` under a fair coin; ties are left out by the caller."""
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)


def mcnemar_test(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value that two arms succeed equally often, from the prompts on which just one does.

    McNemar 1947 in its exact (binomial) form, which holds at any n; 1 where there are no such prompts.
    """
    return float(mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values of one family of tests: below 0.05 means significant with all of them taken together.

    Holm 1979: the chance of any false rejection in the family stays below the level, however they depend. statsmodels
    has the same and collects garbage at each call: 0.07 to 0.3 s beside loaded models, where this takes none.
    """
    ascending = sorted(p_values, key=lambda name: p_values[name])
    adjusted = np.maximum.accumulate([p_values[name] * (len(p_values) - i) for i, name in enumerate(ascending)])
    of = dict(zip(ascending, np.minimum(adjusted, 1.0).tolist(), strict=True))
    return {name: of[name] for name in p_values}


def no_interval(value: float, n: int, reason: str) -> Interval:
    return Interval(value, -math.inf, math.inf, n, reason)


def estimate(interval: Interval) -> dict[str, Any]:
    """The `{"value", "ci95", "n"}` of metrics.json; without an interval `ci95` is None and a `reason` says why."""
    if math.isfinite(interval.low) and math.isfinite(interval.high):
        return {"value": interval.value, "ci95": [interval.low, interval.high], "n": interval.n}
    return {"value": interval.value, "ci95": None, "n": interval.n, "reason": interval.reason}
