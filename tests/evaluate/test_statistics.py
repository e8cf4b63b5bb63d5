import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import ndtr, ndtri

from bench.errors import DataError
from bench.evaluate.statistics import (
    bootstrap_mean,
    decide,
    decide_estimate,
    estimate,
    holm,
    mcnemar_test,
    paired_difference,
    proportion_interval,
    score_interval,
    sign_test,
)
from bench.records import Interval


def test_interval_is_bca_over_all_resamples():
    # Six values have 6^6 resamples: all of them give the interval that random resampling approaches.
    values = np.array([0.0, 0.1, 0.3, 0.4, 1.1, 4.0])
    n = len(values)
    means = np.sort([np.mean(resample) for resample in itertools.product(values, repeat=n)])
    mean = values.mean()
    bias = ndtri(((means < mean - 1e-9).mean() + (means <= mean + 1e-9).mean()) / 2)
    without_one = np.array([np.delete(values, i).mean() for i in range(n)])
    pull = without_one.mean() - without_one
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    low, high = (
        np.quantile(means, ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))
        for z in (ndtri(0.025), ndtri(0.975))
    )

    found = bootstrap_mean(values.tolist(), seed=0, resamples=20_000)

    assert found.value == pytest.approx(mean)
    assert found.n == n
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.06)
    percentile_high = np.quantile(means, 0.975)
    assert abs(found.high - percentile_high) > 0.2  # a plain percentile interval would not do


def test_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(3).normal(5.0, 2.0, size=400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    found = bootstrap_mean(values.tolist(), seed=0)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_is_a_function_of_the_seed_and_seed_0_is_a_seed():
    values = [0.0, 1.0, 1.0, 0.3, 0.8, 0.1, 0.0, 0.9]
    assert bootstrap_mean(values, seed=0) == bootstrap_mean(values, seed=0)
    assert bootstrap_mean(values, seed=0) != bootstrap_mean(values, seed=1)


def test_batches_of_resamples_do_not_change_the_interval(monkeypatch):
    values = np.random.default_rng(0).normal(size=50).tolist()
    whole = bootstrap_mean(values, seed=5)
    monkeypatch.setattr("bench.evaluate.statistics.BATCH_ELEMENTS", 50 * 7)
    assert bootstrap_mean(values, seed=5) == whole


def test_equal_values_have_an_interval_of_no_width():
    assert bootstrap_mean([3.5] * 4, seed=0) == Interval(3.5, 3.5, 3.5, 4)
    almost = bootstrap_mean([0.1 + 0.2, 0.3, 0.3], seed=0)
    assert (almost.low, almost.high) == (almost.value, almost.value)


def test_one_value_says_nothing_of_the_spread():
    found = bootstrap_mean([2.0], seed=0)
    assert estimate(found) == {"value": 2.0, "ci95": None, "n": 1}
    assert decide(found, 0.0) == "not decided at this n"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_values_at_a_bound_are_clopper_pearson(value):
    exact = stats.binomtest(20 * int(value), 20).proportion_ci(0.95, method="exact")
    found = bootstrap_mean([value] * 20, seed=0, bounds=(0, 1))
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


@pytest.mark.parametrize("wins", [0, 1, 13, 20])
def test_wins_without_ties_have_wilsons_interval(wins):
    wilson = stats.binomtest(wins, 20).proportion_ci(0.95, method="wilson")
    found = proportion_interval([1.0] * wins + [0.0] * (20 - wins), seed=0)
    assert (found.value, found.n) == (wins / 20, 20)
    assert (found.low, found.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))


@pytest.mark.parametrize(("wins", "losses", "ties"), [(9, 4, 7), (12, 0, 8), (0, 3, 17), (1, 1, 30)])
def test_interval_with_ties_holds_the_differences_that_a_score_test_accepts(wins, losses, ties):
    """The variance under the hypothesis from a numeric maximum of the likelihood of (wins, losses, ties)."""
    n = wins + losses + ties

    def score(difference):
        least, most = max(0.0, -difference), (1 - difference) / 2  # shares of losses that leave room for the rest

        def deviance(lost):
            return -sum(
                count * math.log(max(share, 1e-300))
                for count, share in ((wins, lost + difference), (losses, lost), (ties, 1 - 2 * lost - difference))
                if count
            )

        best = optimize.minimize_scalar(deviance, bounds=(least, most), method="bounded", options={"xatol": 1e-12})
        lost = best.x  # pyright: ignore[reportAttributeAccessIssue]
        return ((wins - losses) / n - difference) / math.sqrt((2 * lost + difference - difference**2) / n)

    found = proportion_interval([1.0] * wins + [0.5] * ties + [0.0] * losses, seed=0)

    assert found.value == pytest.approx((wins + ties / 2) / n)
    assert score(2 * found.low - 1) == pytest.approx(1.96, abs=1e-3)
    assert score(2 * found.high - 1) == pytest.approx(-1.96, abs=1e-3)


def test_all_tied_is_not_certain_either():
    # One discordant share q, all of it won: z^2 = n q^2 / (q - q^2), so q = z^2 / (n + z^2).
    q = 1.959964**2 / (20 + 1.959964**2)
    found = proportion_interval([0.5] * 20, seed=0)
    assert (found.low, found.high) == (pytest.approx(0.5 - q / 2), pytest.approx(0.5 + q / 2))


def exact_coverage(n, win, tie):
    """Chance that the interval of n prompts holds the true win rate, summed over all outcomes."""
    wins, losses = (grid.ravel() for grid in np.mgrid[: n + 1, : n + 1])
    possible = wins + losses <= n if tie else wins + losses == n
    wins, losses = wins[possible], losses[possible]
    outcomes = np.stack([wins, losses, n - wins - losses], axis=-1)
    low, high = score_interval(wins, losses, n)
    covered = (low - 1e-9 <= win + tie / 2) & (win + tie / 2 <= high + 1e-9)
    return stats.multinomial.pmf(outcomes, n, [win, 1 - win - tie, tie])[covered].sum()


@pytest.mark.parametrize("tie", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("rate", [0.5, 0.6, 0.75, 0.9, 0.95])
@pytest.mark.parametrize(("n", "tolerance"), [(32, 0.03), (128, 0.015), (256, 0.015)])
def test_shares_cover_at_95_percent_by_enumeration(n, tolerance, rate, tie):
    tie = min(tie, 2 * (1 - rate) * 0.9)  # a rate near 1 leaves little room for ties
    assert exact_coverage(n, rate - tie / 2, tie) == pytest.approx(0.95, abs=tolerance)


def test_shares_in_between_are_bootstrapped():
    f1 = [0.1, 0.4, 0.35, 0.8, 0.25, 0.0, 1.0]
    assert proportion_interval(f1, seed=0) == bootstrap_mean(f1, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "no values"), ([1.0, math.nan, math.inf], "2 of 3 values are not finite")],
)
def test_what_cannot_be_averaged_is_refused(values, message):
    with pytest.raises(DataError, match=message):
        bootstrap_mean(values, seed=0)


def test_pairing_shows_a_difference_that_the_spread_over_prompts_hides():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 5, size=100)
    b = difficulty + rng.normal(0, 0.1, size=100)
    a = difficulty + 0.2 + rng.normal(0, 0.1, size=100)
    paired = paired_difference(a.tolist(), b.tolist(), seed=0)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert decide(paired, 0.0) == "supported"
    assert bootstrap_mean(a.tolist(), seed=0).low < bootstrap_mean(b.tolist(), seed=0).high


def test_three_equal_differences_do_not_decide():
    found = paired_difference([1.0] * 3, [0.0] * 3, seed=0, bounds=(-1, 1))
    differing = 1 - 0.025 ** (1 / 3)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 2 * differing)  # that share may be -1 instead of 1
    assert decide(found, 0.0) == "not decided at this n"


def test_pairs_need_both_sides():
    with pytest.raises(DataError, match="2 values with 1"):
        paired_difference([1.0, 2.0], [1.0], seed=0)


def test_sign_test_adds_up_both_tails():
    # 8 of 10 or more, twice: (C(10,8) + C(10,9) + C(10,10)) / 2^10
    expected = 2 * sum(math.comb(10, k) for k in (8, 9, 10)) / 2**10
    assert sign_test(8, 2) == pytest.approx(expected)
    assert sign_test(2, 8) == pytest.approx(expected)
    assert sign_test(0, 0) == 1.0


def test_mcnemar_is_a_fair_coin_on_the_discordant_prompts():
    # 7 of 8 or more, twice: (C(8,7) + C(8,8)) / 2^8
    assert mcnemar_test(7, 1) == mcnemar_test(1, 7) == pytest.approx(2 * 9 / 256)
    assert mcnemar_test(0, 0) == 1.0


def test_holm_steps_down_and_never_falls():
    # In order 0.01, 0.02, 0.025, 0.6: times 4, 3, 2, 1 gives 0.04, 0.06, 0.05, 0.6, and no value below one before it.
    adjusted = holm({"c": 0.025, "a": 0.01, "d": 0.6, "b": 0.02})
    assert adjusted == {name: pytest.approx(p) for name, p in {"c": 0.06, "a": 0.04, "d": 0.6, "b": 0.06}.items()}
    assert holm({"x": 0.7, "y": 0.8}) == {"x": pytest.approx(1.0), "y": pytest.approx(1.0)}  # no probability above 1
    assert holm({}) == {}


def test_an_estimate_without_an_interval_decides_nothing():
    assert decide_estimate({"value": 0.9, "ci95": [0.8, 0.95], "n": 9}, 0.5) == "supported"
    assert decide_estimate({"value": 0.9, "ci95": None, "n": 1}, 0.5) == "not decided at this n"
    assert decide_estimate(None, 0.5) == "not decided at this n"


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.51, 0.6, "supported"),
        (0.4, 0.49, "contradicted"),
        (0.4, 0.6, "not decided at this n"),
        (0.5, 0.6, "not decided at this n"),
        (0.4, 0.5, "not decided at this n"),
    ],
)
def test_decision_needs_the_whole_interval_on_one_side(low, high, decision):
    assert decide(Interval(0.5, low, high, 10), 0.5) == decision
