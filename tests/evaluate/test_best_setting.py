"""The best of a sweep and what is level with it, from numbers whose differences are known."""

import math

import pytest

from bench.errors import DataError
from bench.evaluate.best_setting import Result, beside_the_best

T2 = {0.05: 4.302653, 0.025: 6.205347}
"""Two-sided points of Student's t with 2 degrees of freedom."""


def rate(value: float) -> Result:
    return Result({"value": value, "ci95": [value - 0.05, value + 0.05], "n": 100})


def logit_low(mean: float, sd: float, alpha: float) -> float:
    """Lower end of a mean of three differences, on the logit scale of (1 + mean) / 2."""
    share = (1 + mean) / 2
    half = T2[alpha] * sd / math.sqrt(3) / 2 / (share * (1 - share))
    return 2 / (1 + math.exp(half) * (1 - share) / share) - 1


def test_seeds_tell_a_setting_apart_at_the_level_over_the_others():
    """Three settings: 5 % over two others. Differences 0.10, 0.12, 0.14 (sd 0.02) and 0.07, 0.10, 0.13 (sd 0.03)."""
    found = beside_the_best(
        {
            "best": {0: rate(0.80), 1: rate(0.84), 2: rate(0.88)},
            "worse": {0: rate(0.70), 1: rate(0.72), 2: rate(0.74)},
            "level": {0: rate(0.73), 1: rate(0.74), 2: rate(0.75)},
        }
    )

    assert [found[name]["verdict"] for name in ("best", "worse", "level")] == ["best", "worse", "not told apart"]
    assert found["best"]["behind"] is None
    assert found["worse"]["behind"]["value"] == pytest.approx(0.12)
    assert found["worse"]["behind"]["ci95"][0] == pytest.approx(logit_low(0.12, 0.02, 0.05), rel=1e-5)
    assert logit_low(0.12, 0.02, 0.025) > 0
    # An ordinary interval would have called this one worse.
    assert found["level"]["behind"]["ci95"][0] == pytest.approx(logit_low(0.10, 0.03, 0.05), rel=1e-5)
    assert logit_low(0.10, 0.03, 0.05) > 0 > logit_low(0.10, 0.03, 0.025)


def points(wins: int, n: int = 20) -> Result:
    return Result({"value": wins / n, "ci95": [0, 1], "n": n}, {f"p{i}": float(i < wins) for i in range(n)})


def test_one_seed_goes_by_the_exact_sign_test_over_its_posts():
    """Of k posts that only the best wins, 2 / 2^k: 6 of them are 0.031, 7 are 0.016, against 0.05 / 2."""
    found = beside_the_best({"best": {0: points(15)}, "six": {0: points(9)}, "seven": {0: points(8)}})

    assert (found["six"]["verdict"], found["seven"]["verdict"]) == ("not told apart", "worse")
    assert found["seven"]["behind"]["value"] == pytest.approx(7 / 20)
    assert beside_the_best({"best": {0: points(15)}, "six": {0: points(9)}})["six"]["verdict"] == "worse"


def test_two_seeds_and_seeds_without_verdicts_tell_nothing_apart():
    two = beside_the_best({"best": {0: rate(0.9), 1: rate(0.9)}, "other": {0: rate(0.1), 1: rate(0.2)}})
    one = beside_the_best({"best": {0: rate(0.9)}, "other": {0: rate(0.1)}})

    assert two["other"]["verdict"] == one["other"]["verdict"] == "not told apart"
    assert two["other"]["behind"]["value"] == pytest.approx(0.75)


def test_posts_that_seeds_share_are_crossed_with_them():
    """Every seed says the same of every post: all variance is the posts', whose seven differences decide or not."""
    same = {seed: points(15) for seed in range(3)}, {seed: points(8) for seed in range(3)}
    shared = beside_the_best({"best": same[0], "other": same[1]}, shared_prompts=True)

    # 7 of 20 posts differ by 1: variance of the mean 0.35 x 0.65 / 19; t of 19 degrees of freedom is 2.093.
    share = 1.35 / 2
    half = 2.093024 * math.sqrt(0.35 * 0.65 / 19) / 2 / (share * (1 - share))
    low = 2 / (1 + math.exp(half) * (1 - share) / share) - 1
    assert shared["other"]["behind"]["ci95"][0] == pytest.approx(low, rel=1e-5)
    assert shared["other"]["verdict"] == "worse"


def test_seeds_that_not_all_settings_have_are_left_out():
    found = beside_the_best({"a": {0: points(10), 1: points(20)}, "b": {0: points(11)}})

    assert found["b"]["verdict"] == "best" and found["a"]["rate"]["seeds"] == 1
    with pytest.raises(DataError, match="a seed in common"):
        beside_the_best({"a": {0: points(10)}, "b": {1: points(11)}})
    with pytest.raises(DataError, match="two settings"):
        beside_the_best({"a": {0: points(10)}})
