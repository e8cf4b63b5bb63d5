import itertools
import math

import choix
import numpy as np
import pytest
from scipy import stats

from bench.errors import DataError
from bench.evaluate.bradley_terry import _refit, bradley_terry


def duel(wins, ties, losses):
    points = [1.0] * wins + [0.5] * ties + [0.0] * losses
    return {f"p{i}": point for i, point in enumerate(points)}


def test_two_arms_have_the_log_odds_of_their_wins():
    found = bradley_terry({("dpo", "reference"): duel(60, 10, 30)}, "reference", seed=0, resamples=100)
    assert found["reference"] == {"value": 0.0, "ci95": None, "n": 100, "reason": "the scale's zero"}
    assert found["dpo"]["value"] == pytest.approx(math.log((60 + 5 + 0.5) / (30 + 5 + 0.5)), abs=1e-6)


def test_weights_drawn_in_batches_are_those_drawn_at_once(monkeypatch):
    duels = {("dpo", "reference"): duel(6, 1, 3), ("ppo", "reference"): duel(3, 3, 4)}
    whole = bradley_terry(duels, "reference", seed=0, resamples=100)
    monkeypatch.setattr("bench.evaluate.bradley_terry.BATCH_ELEMENTS", 7 * 10)
    for arm, strength in bradley_terry(duels, "reference", seed=0, resamples=100).items():
        assert strength["ci95"] == (whole[arm]["ci95"] and pytest.approx(whole[arm]["ci95"], rel=1e-9))


def test_consistent_odds_multiply():
    # Odds of 3 against the reference and 1/2 against ppo go with odds of 6 for ppo (but for rounding and half wins).
    strong = {"dpo": math.log(3), "ppo": math.log(6), "reference": 0.0}
    duels = {}
    for a, b in itertools.combinations(sorted(strong), 2):
        wins = round(4200 / (1 + math.exp(strong[b] - strong[a])))
        duels[a, b] = duel(wins, 0, 4200 - wins)
    found = bradley_terry(duels, "reference", seed=0, resamples=20)
    assert {arm: strength["value"] for arm, strength in found.items()} == pytest.approx(strong, abs=0.003)


def test_it_is_the_maximum_of_the_likelihood():
    """Against choix's general optimiser, fed one row per half win and the prior's half wins both ways."""
    duels = {("a", "b"): duel(5, 3, 2), ("a", "c"): duel(8, 0, 2), ("b", "c"): duel(1, 4, 5)}
    rows = []
    for (first, second), points in duels.items():
        i, j = "abc".index(first), "abc".index(second)
        rows += [(i, j)] * int(2 * sum(points.values())) + [(j, i)] * int(2 * sum(1 - p for p in points.values()))
        rows += [(i, j), (j, i)]
    expected = choix.opt_pairwise(3, rows, alpha=0, tol=1e-12)
    found = bradley_terry(duels, "c", seed=0, resamples=100)
    assert [found[arm]["value"] for arm in "abc"] == pytest.approx(expected - expected[2], abs=1e-4)


def test_an_arm_that_never_won_has_a_finite_strength():
    duels = {
        ("base", "sft"): duel(0, 0, 50),
        ("base", "reference"): duel(0, 0, 50),
        ("sft", "reference"): duel(25, 0, 25),
    }
    found = bradley_terry(duels, "reference", seed=0, resamples=100)
    # Half a win of 51 against each of two equal arms: odds 1 in 101.
    assert found["base"]["value"] == pytest.approx(math.log(0.5 / 50.5), abs=1e-5)
    assert found["sft"]["value"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("wins", "losses"), [(40, 100), (1, 255), (0, 256), (256, 0), (0, 4), (3, 3)])
def test_two_arms_have_jeffreys_interval(wins, losses):
    """Gamma weights of wins and losses over their sum are Beta(wins + 1/2, losses + 1/2), whatever their number."""
    low, high = bradley_terry({("a", "c"): duel(wins, 0, losses)}, "c", seed=0, resamples=20_000)["a"]["ci95"]
    shares = stats.beta(wins + 0.5, losses + 0.5).cdf([1 / (1 + math.exp(-end)) for end in (low, high)])
    assert shares == pytest.approx([0.025, 0.975], abs=0.005)


def test_an_arm_that_never_won_may_be_as_weak_as_one_duel_allows():
    """All its duels are on the same prompts: four opponents do not make it four times as sure."""
    one = {("base", "c"): duel(0, 0, 48)}
    arms = ["base", "c", "d", "e", "f"]
    many = {(a, b): duel(0, 0, 48) if a == "base" else duel(24, 0, 24) for a, b in itertools.combinations(arms, 2)}
    low, _ = bradley_terry(one, "c", seed=0, resamples=4000)["base"]["ci95"]
    assert bradley_terry(many, "c", seed=0, resamples=4000)["base"]["ci95"][0] == pytest.approx(low, abs=0.5)
    mirrored = {pair: {p: 1 - x for p, x in points.items()} for pair, points in many.items()}
    assert bradley_terry(mirrored, "c", seed=0, resamples=4000)["base"]["ci95"][1] == pytest.approx(-low, abs=0.5)


def test_resamples_are_fitted_as_the_data_are():
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 30, (20, 4, 4)).astype(float) + 0.5
    tables[:, range(4), range(4)] = 0
    tables[0, 3, :3] = 0.5  # an arm that never won
    start = choix.ilsr_pairwise_dense(tables.mean(0))
    found = _refit(tables, start - start[1], fixed=1)
    for table, strengths in zip(tables, found, strict=True):
        expected = choix.ilsr_pairwise_dense(table)
        assert strengths == pytest.approx(expected - expected[1], abs=1e-5)


def test_prompts_are_resampled_with_all_their_verdicts():
    """Arms that win and lose on the same prompts: their strengths move together, and against each other not at all."""
    same = duel(20, 0, 20)
    even = {prompt_id: 0.5 for prompt_id in same}
    duels = {("x", "reference"): same, ("y", "reference"): same, ("x", "y"): even}
    found = bradley_terry(duels, "reference", seed=0, resamples=400)
    assert found["x"]["ci95"] == pytest.approx(found["y"]["ci95"], abs=0.05)  # but for the prior of x against y
    low, high = found["x"]["ci95"]
    # By itself a log-odds of 20:20 has a standard error of sqrt(4 / 40); y repeats what x says and adds nothing.
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(4 / 40), rel=0.2)


def test_a_missing_verdict_leaves_its_pair_alone():
    full = {("a", "c"): duel(6, 0, 4), ("b", "c"): duel(3, 0, 7), ("a", "b"): duel(7, 0, 3)}
    more = {pair: dict(points) for pair, points in full.items()}
    more["a", "c"]["p10"] = 1.0
    values = [bradley_terry(duels, "c", seed=0, resamples=100)["a"] for duels in (full, more)]
    assert [value["n"] for value in values] == [10, 11]
    assert values[1]["value"] > values[0]["value"]


def test_interval_is_a_function_of_the_seed():
    duels = {("a", "c"): duel(6, 0, 4), ("b", "c"): duel(3, 0, 7), ("a", "b"): duel(7, 0, 3)}
    first, again, other = (bradley_terry(duels, "c", seed=seed, resamples=100) for seed in (0, 0, 1))
    assert first == again != other
    assert np.isfinite([end for arm in "ab" for end in first[arm]["ci95"]]).all()


@pytest.mark.parametrize("points", [{}, {("a", "b"): duel(1, 0, 1)}, {("a", "reference"): {}}])
def test_nothing_to_measure_strength_against(points):
    with pytest.raises(DataError, match="need verdicts against 'reference'"):
        bradley_terry(points, "reference", seed=0)
