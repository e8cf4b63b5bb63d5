import math

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit, logit

from bench.errors import DataError
from bench.evaluate.length_control import length_controlled_win_rate, win_rate_by_length


def judged(n, theta, phi, mean_difference, seed, ties=0.0):
    """Verdicts whose log-odds of a win are theta + phi tanh(d / sd(d)); a share of them ties."""
    rng = np.random.default_rng(seed)
    differences = np.round(rng.normal(mean_difference, 8, n))
    won = rng.random(n) < expit(theta + phi * np.tanh(differences / differences.std()))
    return np.where(rng.random(n) < ties, 0.5, won).tolist(), differences.tolist()


def test_it_maximises_the_likelihood_of_the_model_with_ties_as_half_wins():
    points, differences = judged(300, 0.4, 1.2, 6, seed=0, ties=0.2)
    y, x = np.array(points), np.tanh(np.array(differences) / np.std(differences))

    def loss(parameters):
        p = expit(parameters[0] + parameters[1] * x)
        return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum()

    theta, phi = optimize.minimize(loss, [0.0, 0.0], tol=1e-10).x
    found = length_controlled_win_rate(points, differences)
    assert found["value"] == pytest.approx(expit(theta), abs=1e-5)
    assert found["length_effect"] == pytest.approx(phi, abs=1e-4)
    assert (found["n"], found["reason"]) == (300, None)

    # The sandwich (X' W X)^-1 X' diag(e^2) X (X' W X)^-1, by hand.
    design = np.column_stack([np.ones_like(x), x])
    p = expit(theta + phi * x)
    bread = np.linalg.inv(design.T @ ((p * (1 - p))[:, None] * design))
    meat = design.T @ ((y - p)[:, None] ** 2 * design)
    half = 1.9680 * math.sqrt((bread @ meat @ bread)[0, 0])  # t with 298 degrees of freedom
    assert found["ci95"] == [pytest.approx(expit(theta - half), abs=1e-4), pytest.approx(expit(theta + half), abs=1e-4)]


def test_arms_that_differ_in_length_alone_are_even_at_equal_length():
    points, differences = judged(2000, 0.0, 1.5, 8, seed=1)
    found = length_controlled_win_rate(points, differences)
    assert np.mean(points) > 0.65
    low, high = found["ci95"]
    assert low < 0.5 < high and high - low < 0.1


def test_without_a_length_effect_it_is_the_raw_win_rate():
    # At d = -1 and d = +1 alike 3 of 4 are won: no slope, and theta is the log-odds of 3/4.
    found = length_controlled_win_rate([1, 1, 1, 0] * 2, [-1] * 4 + [1] * 4)
    assert found["value"] == pytest.approx(0.75)
    assert found["length_effect"] == pytest.approx(0, abs=1e-9)


def test_the_odds_at_equal_length_lie_halfway_between_symmetric_lengths():
    # Two lengths, two parameters: the fit meets both shares, 1/4 at d = -1 and 7/8 at d = +1.
    found = length_controlled_win_rate([0, 0, 0, 1] * 2 + [1] * 7 + [0], [-1] * 8 + [1] * 8)
    assert logit(found["value"]) == pytest.approx((logit(1 / 4) + logit(7 / 8)) / 2)
    assert found["length_effect"] * math.tanh(1) == pytest.approx((logit(7 / 8) - logit(1 / 4)) / 2)


@pytest.mark.parametrize(
    ("points", "differences", "reason"),
    [
        ([1, 0], [3, -2], "2 parsed verdicts"),
        ([1, 1, 1, 1], [3, -2, 1, 0], "every verdict is the same"),
        ([0.5, 0.5, 0.5, 0.5], [3, -2, 1, 0], "every verdict is the same"),
        ([1, 0, 1, 0], [0, 0, 0, 0], "every length difference is the same"),
        ([1, 0, 1, 0], [3, 2, 1, 1], "every summary is longer"),
        ([1, 0, 1, 0], [-3, -2, -1, -1], "every summary is shorter"),
        ([1, 1, 0, 0], [3, 2, -1, -2], "length alone separates"),
        ([0, 0, 1, 1], [3, 2, -1, -2], "length alone separates"),
        ([1, 1, 0.5, 0], [3, 2, -1, -2], "length alone separates"),  # the tie is half a loss, left of every win
        ([1] + [0] + [1] * 22, [-14, -13, *range(-11, 11)], "length all but separates"),
    ],
)
def test_where_there_is_no_answer_it_says_why(points, differences, reason):
    found = length_controlled_win_rate(points, differences)
    assert found["reason"].startswith(reason)
    assert (found["value"], found["ci95"], found["length_effect"]) == (None, None, None)
    assert found["n"] == len(points)


def test_a_tie_is_half_a_loss_and_can_be_the_overlap():
    found = length_controlled_win_rate([1, 1, 0.5, 0], [3, 2, 5, -2])
    assert found["reason"] is None and 0 < found["value"] < 1


def test_every_verdict_needs_a_length():
    with pytest.raises(DataError, match="got 2 for 3"):
        length_controlled_win_rate([1, 0, 1], [1, 2])


def test_bins_of_the_length_ratio():
    lengths = [4, 5, 8, 10, 12.4, 12.5, 19, 20, 100]
    points = [0, 1, 1, 0.5, 0, 1, 0, 1, 1]
    bins = win_rate_by_length(points, lengths, [10] * 9, seed=0)
    assert [(b["length_ratio"], b["n"], b["value"]) for b in bins] == [
        ([0.0, 0.5], 1, 0),
        ([0.5, 0.8], 1, 1),
        ([0.8, 1.25], 3, pytest.approx(1.5 / 3)),
        ([1.25, 2.0], 2, 0.5),
        ([2.0, None], 2, 1),
    ]
    assert all(b["ci95"][0] <= b["value"] <= b["ci95"][1] for b in bins)


def test_an_empty_bin_says_so():
    assert win_rate_by_length([1], [10], [10], seed=0)[0] == {
        "length_ratio": [0.0, 0.5],
        "value": None,
        "ci95": None,
        "n": 0,
    }
