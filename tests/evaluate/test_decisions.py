"""A decision takes the interval and the exact test; what either alone would say is in `bench.evaluate.simulation`."""

import pytest

from bench.evaluate.decisions import decide, judged_counts
from bench.evaluate.statistics import Counts, estimate, holm, proportion_interval, share_test

OPEN = "not decided at this n"


@pytest.mark.parametrize(
    ("low", "high", "p", "decision"),
    [
        (0.51, 0.6, 0.01, "supported"),
        (0.4, 0.49, 0.01, "contradicted"),
        (0.4, 0.6, 0.01, OPEN),
        (0.5, 0.6, 0.01, OPEN),
        (0.4, 0.5, 0.01, OPEN),
        (0.51, 0.6, 0.05, OPEN),
        (0.4, 0.49, 0.2, OPEN),
        (0.51, 0.6, None, OPEN),
    ],
)
def test_interval_and_test_have_to_agree(low, high, p, decision):
    assert decide({"value": 0.5, "ci95": [low, high], "n": 10}, 0.5, p) == decision


def test_an_estimate_without_an_interval_decides_nothing():
    assert decide({"value": 0.9, "ci95": None, "n": 1}, 0.5, 0.01) == OPEN
    assert decide(None, 0.5, 0.01) == OPEN


@pytest.mark.parametrize(("n", "decision"), [(4, OPEN), (5, OPEN), (6, "supported")])
def test_it_takes_six_of_a_kind(n, decision):
    """The interval of n wins of n is above one half from n = 4 on; a fair coin does it in 2 of 2^n."""
    found = estimate(proportion_interval([1.0] * n, seed=0))
    assert found["ci95"][0] > 0.5
    p = share_test(Counts(n, 0, n))
    assert p == 2 / 2**n
    assert decide(found, 0.5, p) == decision


def test_in_a_family_it_takes_more():
    found, p = estimate(proportion_interval([1.0] * 6, seed=0)), share_test(Counts(6, 0, 6))
    assert decide(found, 0.5, holm({"this": p, "that": 0.5})["this"]) == OPEN


def test_counts_behind_a_judged_estimate():
    # 7 wins, 2 losses, 4 ties of 13.
    assert judged_counts({"value": 9 / 13, "n": 13, "ties": 4}) == Counts(7, 2, 13)
