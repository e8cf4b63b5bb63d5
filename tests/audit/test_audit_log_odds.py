import math

import numpy as np
import pytest

from bench.audit.log_odds import fitted_offset, log_odds_numbers


def test_the_three_ways_by_hand():
    """Nats with a first, with b first, and the label; .4 nats go to whatever is shown first.

    As shown the verdicts are tie (a first: a; b first: b), tie, a, b; free of position a, b, a, b.
    """
    first, second = [0.5, 0.3, 2.4, -1.6], [0.3, 0.5, -1.6, 2.4]
    numbers = log_odds_numbers(first, second, [["a"], ["b"], ["a"], ["a", "b"]], seed=0)

    assert numbers["lean_to_first"]["value"] == pytest.approx(0.4)
    assert numbers["accuracy"]["as_shown"]["value"] == pytest.approx((0.5 + 0.5 + 1 + 0.5) / 4)
    assert numbers["accuracy"]["position_free"]["value"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert numbers["minus_as_shown"]["position_free"]["value"] == pytest.approx((0.5 + 0.5) / 4)
    assert numbers["offset"] is None and "offset" not in numbers["accuracy"]  # four pairs fit none
    assert numbers["better"] == "not decided at this n"


def always_first(n: int, lean: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds of a judge that leans to what is shown first, with labels drawn from its other half."""
    rng = np.random.default_rng(0)
    merit = rng.normal(0, 1, n)
    chosen = (rng.random(n) < 1 / (1 + np.exp(-2 * merit))).astype(float)
    return merit + lean, lean - merit, chosen


def test_a_judge_that_always_says_a_is_better_free_of_position():
    first, second, chosen = always_first(400, lean=6.0)
    numbers = log_odds_numbers(first.tolist(), second.tolist(), [["a" if c else "b"] for c in chosen], seed=0)

    assert numbers["accuracy"]["as_shown"]["value"] == 0.5  # every pair a tie
    right = np.mean((first > second) == (chosen == 1))
    assert numbers["accuracy"]["position_free"]["value"] == pytest.approx(right) and right > 0.7
    assert numbers["better"] in ("position_free", "offset")
    assert numbers["offset"] == pytest.approx(6.0, abs=0.2)
    assert numbers["lean_to_first"]["value"] == pytest.approx(6.0)


def test_the_offset_is_the_logistic_regressions():
    """Where the labels' odds are e**(s (d - o)), the likelihood's score is 0 at intercept -s o and slope s."""
    odds = np.linspace(-3, 5, 41)
    share = 1 / (1 + np.exp(-0.7 * (odds - 1.5)))
    # of the second order the share counts for b: both orders follow one curve
    assert fitted_offset(odds, odds[::-1], share) is not None
    second = 3.0 - odds  # d - o mirrored: the same curve read from the other side
    assert fitted_offset(odds, second, share) == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize("sign", [-1, 0])
def test_labels_that_do_not_rise_with_the_log_odds_fit_no_offset(sign: int):
    first, second, chosen = always_first(200, lean=0.0)

    assert fitted_offset(sign * first, sign * second, chosen) is None


def test_swapping_a_and_b_changes_nothing():
    first, second, chosen = always_first(100, lean=1.0)
    labels = ["a" if c else "b" for c in chosen]
    one = log_odds_numbers(first.tolist(), second.tolist(), [[label] for label in labels], seed=0)  # pyright: ignore[reportArgumentType]
    swapped = [["b" if label == "a" else "a"] for label in labels]
    other = log_odds_numbers(second.tolist(), first.tolist(), swapped, seed=0)  # pyright: ignore[reportArgumentType]

    for way, estimate in one["accuracy"].items():
        assert other["accuracy"][way]["value"] == pytest.approx(estimate["value"])
    assert math.isclose(one["offset"], other["offset"], rel_tol=1e-9)


def test_whole_posts_are_resampled():
    """Every pair four times, of one post: four times the pairs, and intervals as wide as without the copies."""
    first, second, chosen = always_first(60, lean=1.0)
    labels = [["a" if c else "b"] for c in chosen]
    once = log_odds_numbers(first.tolist(), second.tolist(), labels, seed=0)  # pyright: ignore[reportArgumentType]
    fourfold = first.repeat(4).tolist(), second.repeat(4).tolist(), [label for label in labels for _ in range(4)]
    found = log_odds_numbers(*fourfold, seed=0, posts=np.arange(60).repeat(4).tolist())  # pyright: ignore[reportArgumentType]

    assert found["lean_to_first"]["n"] == 240
    assert found["lean_to_first"]["ci95"] == pytest.approx(once["lean_to_first"]["ci95"])
    for way in ("as_shown", "position_free"):
        (low, high), (l0, h0) = found["accuracy"][way]["ci95"], once["accuracy"][way]["ci95"]
        assert high - low == pytest.approx(h0 - l0, rel=0.05)  # Student's t of 60 posts is 2 % wider
    lead, alone = found["minus_as_shown"]["position_free"], once["minus_as_shown"]["position_free"]
    assert lead["value"] == pytest.approx(alone["value"]) and lead["p_value"] == pytest.approx(
        alone["p_value"], rel=0.3
    )
    assert found["accuracy"]["offset"]["value"] == pytest.approx(once["accuracy"]["offset"]["value"])  # the same folds


def test_a_pair_alone_has_no_spread():
    numbers = log_odds_numbers([0.5], [0.3], [["a"]], seed=0)

    assert numbers["lean_to_first"]["ci95"] is None
