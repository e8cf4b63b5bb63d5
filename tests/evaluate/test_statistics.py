import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import ndtr, ndtri
from statsmodels.stats.multitest import multipletests

from bench.errors import DataError
from bench.evaluate import statistics
from bench.evaluate.statistics import (
    Counts,
    bootstrap_mean,
    effective_counts,
    estimate,
    holm,
    mcnemar_test,
    paired_difference,
    proportion_interval,
    ratio_of_means,
    score_interval,
    share_test,
    sign_test,
)


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
    for size in ("BATCH_ELEMENTS", "_IN_CACHE"):
        monkeypatch.setattr(statistics, size, 50 * 7)
        statistics._resample_counts.cache_clear()
        found = bootstrap_mean(values, seed=5)
        assert (found.low, found.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


@pytest.mark.parametrize("n", [12, 50, 256])  # of fewer, resamples are equal to the value but for rounding
def test_intervals_of_means_are_those_of_scipys_bootstrap(n: int):
    """scipy draws the same resamples, averages each as it stands, and leaves each prompt out in n^2 steps."""
    rng = np.random.default_rng(n)
    x, y = rng.exponential(size=n) ** 2, rng.normal(5, 1, size=n)

    def plain(samples, statistic) -> tuple[float, float]:
        return stats.bootstrap(
            samples, statistic, paired=True, n_resamples=500, method="BCa", rng=np.random.default_rng(7)
        ).confidence_interval

    mean, ratio = bootstrap_mean(x.tolist(), 7, 500), ratio_of_means(x, y, 7, 500)
    assert (mean.low, mean.high) == pytest.approx(plain((x,), np.mean), abs=1e-9)
    assert (ratio.low, ratio.high) == pytest.approx(
        plain((x, y), lambda a, b, axis=-1: a.mean(axis) / b.mean(axis)), abs=1e-9
    )


def test_means_over_the_same_prompts_draw_once(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        np.random, "default_rng", lambda seed, make=np.random.default_rng: drawn.append(0) or make(seed)
    )
    statistics._resample_counts.cache_clear()
    for shift in range(5):
        bootstrap_mean([0.0 + shift, 1.0, 3.0], seed=1)
    assert len(drawn) == 1


def test_ends_do_not_hang_on_rounding():
    """Of four values 9 % of resamples are a permutation: as large as the mean, or a last digit from it, by rounding."""
    values = np.array([0.1, 0.7, 0.2, 1.3])
    ends = {
        (round(interval.low, 6), round(interval.high, 6))
        for shift in np.linspace(0, 1e-8, 20)
        for interval in [bootstrap_mean(values * (1 + shift), seed=0)]
    }
    assert len(ends) == 1
    ratios = {
        (round(interval.low, 6), round(interval.high, 6))
        for shift in np.linspace(0, 1e-8, 20)
        for interval in [ratio_of_means(values * (1 + shift), values[::-1] + 1, seed=0)]
    }
    assert len(ratios) == 1


def test_equal_values_have_no_interval_and_say_so():
    for values in ([3.5] * 4, [0.1 + 0.2, 0.3, 0.3, 0.3]):
        found = estimate(bootstrap_mean(values, seed=0))
        assert found == {"value": pytest.approx(values[1]), "ci95": None, "n": 4, "reason": "all 4 values are equal"}


def test_one_value_says_nothing_of_the_spread():
    found = bootstrap_mean([2.0], seed=0)
    assert estimate(found) == {"value": 2.0, "ci95": None, "n": 1, "reason": "one value has no spread"}


@pytest.mark.parametrize("values", [[0.0] * 9, [1.0] * 9, [0.5] * 9])
def test_no_share_is_certain(values):
    low, high = estimate(proportion_interval(values, seed=0))["ci95"]
    assert high - low > 0.2


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
    assert paired.low > 0
    assert bootstrap_mean(a.tolist(), seed=0).low < bootstrap_mean(b.tolist(), seed=0).high


def test_difference_of_two_scores_is_a_share_on_another_scale():
    # Three wins of three: Wilson's low end is 3 / (3 + z^2), and a difference is twice a share, less 1.
    found = paired_difference([1.0] * 3, [0.0] * 3, seed=0, bounds=(-1, 1))
    assert (found.value, found.high, found.n) == (1.0, 1.0, 3)
    assert found.low == pytest.approx(2 * 3 / (3 + 1.959964**2) - 1)


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


def test_holm_equals_the_library():
    p_values = np.random.default_rng(0).beta(0.5, 2.0, 40).round(2)  # with ties
    adjusted = holm({str(i): p for i, p in enumerate(p_values)})
    assert list(adjusted.values()) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_counts_of_wins_ties_and_losses_are_their_counts():
    assert effective_counts([1.0] * 7 + [0.5] * 4 + [0.0] * 2) == pytest.approx((7, 2, 13))
    # Mean and variance are kept: 0.75 and 0.25 twice have mean 0.5 and variance 1/16, a quarter of a fair coin's.
    assert effective_counts([0.75, 0.25, 0.75, 0.25]) == pytest.approx((0.5, 0.5, 4))


def test_values_of_one_post_count_as_their_design_effect_says():
    """Ten posts of four pairs each, alike within a post: forty values that say no more than ten."""
    posts = [post for post in range(10) for _ in range(4)]
    alike = [float(post < 7) for post in posts]
    # Variance of the mean between posts: 10/9 * sum over posts of (4 (x - 0.7))^2 / 40^2, which is 0.21 / 9; were the
    # values independent it would be 0.21 / 40. Design effect 40/9, so n = 9, times (1.960 / 2.262)^2 for ten posts.
    n = 9 * (1.959964 / 2.262157) ** 2
    assert effective_counts(alike, posts) == pytest.approx((0.7 * n, 0.3 * n, n), rel=1e-5)
    mixed = [1.0, 1.0, 1.0, 0.0] * 10  # no post differs from another: fewer than independent values cannot be
    assert effective_counts(mixed, posts).n == pytest.approx(40 * (1.959964 / 2.262157) ** 2, rel=1e-5)
    assert effective_counts([1.0] * 40, posts).n == pytest.approx(10 * (1.959964 / 2.262157) ** 2, rel=1e-5)


def test_the_interval_of_values_in_between_has_their_variance():
    """Mean 0.2, sd 0.1 on 400 values: standard error 0.1 / 20; wins and losses of that mean would have 0.2 / 20."""
    found = proportion_interval([0.1, 0.3] * 200, seed=0, posts=list(range(400)))
    assert (found.low, found.high) == (
        pytest.approx(0.2 - 1.96 * 0.005, abs=4e-4),
        pytest.approx(0.2 + 1.96 * 0.005, abs=4e-4),
    )
    # By post, two alike each: the design effect 2 widens it by its root, Student's t of 200 posts by 1 %.
    by_post = proportion_interval([0.1, 0.1, 0.3, 0.3] * 100, seed=0, posts=[i // 2 for i in range(400)])
    assert by_post.high - by_post.low == pytest.approx(2**0.5 * 1.006 * (found.high - found.low), rel=0.01)
    assert proportion_interval([0.5] * 9 + [1.0], seed=0, posts=list(range(10))) == proportion_interval(
        [0.5] * 9 + [1.0], seed=0
    )


def test_weighted_values_count_as_their_weights():
    """Half a win, and as much of a tie and a loss: 1.5 prompts of mean one half and variance (0.5^2 2 / 3)."""
    variance = 1 / 6
    assert effective_counts([1.0, 0.5, 0.0], weights=[0.5] * 3) == pytest.approx((2 * variance * 1.5,) * 2 + (1.5,))
    # Two labels of each pair, half a pair each, by post: as the pairs themselves.
    values, posts = [1.0, 1.0, 0.0, 1.0], [0, 0, 1, 2]
    halves = effective_counts(np.repeat(values, 2).tolist(), np.repeat(posts, 2).tolist(), [0.5] * 8)
    assert halves == pytest.approx(effective_counts(values, posts))


def test_posts_of_one_pair_change_nothing():
    values = [1.0, 0.0, 0.5, 1.0, 1.0]
    assert proportion_interval(values, seed=0, posts=list("abcde")) == proportion_interval(values, seed=0)
    assert proportion_interval(values, seed=0, posts=list("aabbc")).low < proportion_interval(values, seed=0).low


def test_one_post_says_nothing_of_others():
    found = estimate(proportion_interval([1.0, 0.0, 1.0], seed=0, posts=["a"] * 3))
    assert (found["ci95"], found["reason"]) == (None, "all 3 values are of one post")
    with pytest.raises(DataError, match="2 posts for 3 values"):
        effective_counts([1.0, 0.0, 1.0], ["a", "b"])
    with pytest.raises(DataError, match="between 0 and 1"):
        effective_counts([1.5])


@pytest.mark.parametrize(("wins", "losses"), [(4, 0), (0, 4), (9, 3), (6, 6), (0, 0)])
def test_share_of_one_half_is_the_sign_test(wins, losses):
    assert share_test(Counts(wins, losses, wins + losses + 5)) == pytest.approx(sign_test(wins, losses))


@pytest.mark.parametrize("share", [0.45, 0.3, 0.55])
@pytest.mark.parametrize("ties", [0.0, 0.3, 0.6])
def test_other_shares_are_rejected_by_chance_in_at_most_one_of_twenty(share, ties):
    """By enumeration of all outcomes of 12 prompts whose true win rate is `share`; and it can reject."""
    n, ties = 12, min(ties, 2 * min(share, 1 - share))
    win = share - ties / 2
    outcomes = [(w, b) for w in range(n + 1) for b in range(n + 1 - w)]
    chance = {o: stats.multinomial.pmf([*o, n - sum(o)], n, [win, 1 - win - ties, ties]) for o in outcomes}
    rejected = [o for o in outcomes if share_test(Counts(*o, n), share) < 0.05]
    assert (rejected or share == 0.3) and sum(chance[o] for o in rejected) <= 0.05


def test_lead_against_a_share_is_enumerated_at_the_worst_number_of_ties():
    # 6 wins of 6. Without ties each is won with 0.45, more likely than with any: 0.45^6, twice; BEYOND_TIES is added.
    assert share_test(Counts(6, 0, 6), 0.45) == pytest.approx(2 * (0.45**6 + 1e-4))
    # 2 wins, 1 tie of 3: the true share of ties may be next to nothing (1 - q^3 = 1e-4 / 2) or next to everything.
    found = share_test(Counts(2, 0, 3), 0.4)

    def chance(ties):
        ties = min(ties, 0.8)  # more would not leave a share of 0.4
        w = 0.4 - ties / 2
        return w**3 + 3 * w**2 * ties  # a lead of 2 or 3: three wins, or two and a tie

    most = stats.beta(2, 2).isf(1e-4 / 2)
    assert found == pytest.approx(2 * (max(chance(t) for t in np.linspace(1.7e-5, most, 25)) + 1e-4), rel=1e-3)


def test_a_non_inferiority_margin_can_be_met():
    # 60 wins, 100 losses, 840 ties: a lead of -0.04 with a standard error of 0.0126, 2.4 of them above -0.07.
    assert 0.01 < share_test(Counts(60, 100, 1000), 0.465) < 0.05
    assert share_test(Counts(60, 100, 1000), 0.485) > 0.05


def test_a_ratio_of_means_is_resampled_by_prompt():
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 3, 300)
    above = 0.5 * below + rng.normal(0, 0.1, 300)
    found = ratio_of_means(above, below, seed=0)
    residual = above - found.value * below  # the ratio's error is that of its mean over the mean of `below` (delta)
    half = 1.96 * residual.std(ddof=1) / math.sqrt(300) / below.mean()
    assert found.value == pytest.approx(above.mean() / below.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.15 * half)
    assert estimate(ratio_of_means(below, 2 * below, seed=0))["reason"] == "the ratio is the same on all 300 prompts"
