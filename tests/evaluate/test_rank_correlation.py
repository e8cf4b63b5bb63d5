"""Spearman's correlation over settings and seeds: the value by hand, the interval by enumeration and by coverage."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from bench.evaluate import rank_correlation as module
from bench.evaluate.rank_correlation import rank_correlation

BETAS = [0.03, 0.1, 0.3, 1, 3]


def test_the_value_is_the_average_over_seeds():
    falling, swapped = [9.0, 7, 5, 3, 1], [7.0, 9, 5, 3, 1]  # one swap of neighbours: sum d^2 of -y is 2
    found = rank_correlation([(BETAS, falling), (BETAS, swapped)])
    assert found.value == pytest.approx((-1 + -(1 - 6 * 2 / (5 * 24))) / 2)
    assert found.n == 10


def test_perfect_order_is_no_certainty():
    """Three points of one seed in perfect order are one of 3! orders; five of three seeds say much more."""
    few = rank_correlation([([1, 2, 3], [3.0, 2, 1])])
    assert (few.low, few.value) == (-1, -1)
    assert few.high > 0  # without any correlation it comes up once in six times, far above 2.5 %
    assert rank_correlation([(BETAS, [5.0, 4, 3, 2, 1])] * 3).high < -0.6


def test_its_upper_end_is_the_correlation_that_gives_such_an_order_in_one_of_forty():
    """Five points in perfect order: P(order) by independent simulation at the upper end."""
    high = rank_correlation([(BETAS, [5.0, 4, 3, 2, 1])]).high
    r = 2 * math.sin(math.pi * high / 6)
    rng = np.random.default_rng(1)
    x, noise = rng.standard_normal((2, 40_000, 5))
    y = r * x + math.sqrt(1 - r * r) * noise
    perfect = [(np.argsort(a) == np.argsort(-b)).all() for a, b in zip(x, y, strict=True)]
    assert np.mean(perfect) == pytest.approx(0.025, abs=0.006)


def test_no_correlation_is_rejected_as_often_as_enumeration_says():
    """Without correlation every order of four is as likely, the most extreme one 1 / 24 = 4.2 %: 0 is always inside."""
    for order in permutations(range(4)):
        found = rank_correlation([(range(4), [float(i) for i in order])])
        assert found.low < 0 < found.high


@pytest.mark.slow
@pytest.mark.parametrize("rho", [-0.9, 0.0])
def test_the_interval_covers(rho: float):
    rng = np.random.default_rng(7)
    r = 2 * math.sin(math.pi * rho / 6)
    covered = 0
    for _ in range(60):
        x, noise = rng.standard_normal((2, 2, 5))
        found = rank_correlation([(a, r * a + math.sqrt(1 - r * r) * b) for a, b in zip(x, noise, strict=True)])
        covered += found.low <= rho <= found.high
    assert stats.binomtest(covered, 60, 0.95, alternative="less").pvalue > 0.001


def test_too_few_settings():
    assert rank_correlation([([1, 2], [1.0, 2])]).reason
    assert rank_correlation([]).reason


def test_a_result_that_never_varies_has_no_correlation():
    found = rank_correlation([([1, 2, 3], [1.0, 1.0, 1.0])], 0)
    assert found.reason is not None and found.n == 0


def test_its_ends_are_spearmans(monkeypatch: pytest.MonkeyPatch):
    """Of a Pearson's r of 0.5, 6 arcsin(0.25) / pi = 0.48258."""
    monkeypatch.setattr(module, "_root", lambda f: 0.5)
    assert rank_correlation([(range(5), [2.0, 1, 3, 5, 4])]).high == pytest.approx(0.48258, abs=1e-5)
