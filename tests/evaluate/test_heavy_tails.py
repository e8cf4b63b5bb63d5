import math

import numpy as np
import pytest
from scipy import optimize, stats

from bench.errors import DataError
from bench.evaluate.heavy_tails import mean_with_tail, median_interval


def test_interval_is_where_halls_transformation_of_t_is_an_ordinary_t():
    """Hall 1992: g(T) = T + a T^2 / 3 + a^2 T^3 / 27 + a / 6 with a = skewness / sqrt(n) is symmetric."""
    x = np.random.default_rng(1).lognormal(0, 1, 240)
    found = mean_with_tail(x.tolist())
    a = float(((x - x.mean()) ** 3).mean() / x.std() ** 3) / math.sqrt(240)

    def gap(mu, quantile):
        t = (x.mean() - mu) / (x.std(ddof=1) / math.sqrt(240))
        return t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6 - quantile

    quantile = stats.t.isf(0.025, 239)
    for end, side in zip(found["ci95"], (quantile, -quantile), strict=True):
        assert end == pytest.approx(optimize.brentq(gap, x.mean() - 3, x.mean() + 3, args=(side,)), rel=1e-9)
    low, high = found["ci95"]
    assert high - found["value"] > 1.2 * (found["value"] - low)  # the tail is above


def test_symmetric_values_have_students_interval():
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # t with 4 degrees of freedom
    assert mean_with_tail(x)["ci95"] == pytest.approx([3 - half, 3 + half], rel=1e-5)


def test_median_has_the_order_statistics_that_a_fair_coin_leaves():
    # Of 10 values at most 1 is below the median in 11 / 1024 of cases, at most 2 in 56 / 1024, too many for 2.5 %.
    found = median_interval([float(i) for i in range(1, 11)])
    assert (found.value, found.low, found.high) == (5.5, 2.0, 9.0)
    # Of 6 none is below in 1 / 64 of cases; of 5 in 1 / 32.
    assert (median_interval([1, 2, 3, 4, 5, 9]).low, median_interval([1, 2, 3, 4, 5, 9]).high) == (1, 9)
    assert median_interval([1, 2, 3, 4, 5]).reason == "5 values are too few for an interval of the median"


def test_a_mean_that_few_completions_carry_says_so():
    """297 completions at 1 nat and three at 100: the top 1 % has 300 of 597 nats."""
    found = mean_with_tail([1.0, 1.2, 0.8] * 99 + [100.0] * 3)
    assert found["top_share"] == pytest.approx(300 / 597)
    assert found["limit"].startswith("the largest 3 of 300 carry 50 % of the mean")
    assert found["median"]["value"] == 1.0 and found["median"]["ci95"] == [1.0, 1.0]


def test_few_completions_say_what_they_cannot_have_seen():
    calm = np.random.default_rng(0).normal(5, 1, 400).tolist()
    assert mean_with_tail(calm)["limit"] is None
    # With 100 completions a kind that makes up 3 % is missed in 0.97^100 = 4.8 % of cases.
    assert mean_with_tail(calm[:100])["limit"].startswith("100 completions may have missed what fewer than 3.0 %")


@pytest.mark.parametrize("n", [1, 300])
def test_equal_values_have_no_interval_and_no_limit(n):
    found = mean_with_tail([0.0] * n)
    assert (found["value"], found["ci95"], found["limit"], found["top_share"]) == (0.0, None, None, None)
    assert found["reason"] == ("one value has no spread" if n == 1 else "all 300 values are equal")
    assert found["median"]["ci95"] is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_what_cannot_be_averaged_is_refused(values):
    with pytest.raises(DataError, match="cannot average"):
        mean_with_tail(values)
