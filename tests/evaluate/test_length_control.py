import math

import numpy as np
import pytest
from scipy.special import expit

from bench.errors import DataError
from bench.evaluate.length_control import Sized, length_controlled_win_rates, win_rate_by_length


def arm(points, lengths, opponent=None):
    """Prompt -> verdict and lengths; the opponent writes 30 tokens where nothing else is said."""
    opponent = [30.0] * len(lengths) if opponent is None else opponent
    return {str(i): Sized(*row) for i, row in enumerate(zip(points, lengths, opponent, strict=True))}


def judged(n, quality, liking, median, seed, difficulty=0.0):
    """An arm of about `median` tokens whose log-odds of a win are quality + liking tanh(d / sd(d)) - difficulty g."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n)
    opponent, lengths = np.round(30 * np.exp(0.3 * common)), np.round(median * np.exp(0.3 * rng.normal(size=n)))
    d = lengths - opponent
    won = rng.random(n) < expit(quality + liking * np.tanh(d / d.std()) - difficulty * common)
    return arm(won.astype(float), lengths, opponent)


def alone(rows, one_opponent=True):
    return length_controlled_win_rates({"x": rows}, one_opponent)["x"]


def width(found):
    return found["ci95"][1] - found["ci95"][0]


def test_arms_that_differ_in_length_alone_are_even_at_equal_length():
    rows = judged(2000, 0.0, 1.5, 40, seed=1)
    found = alone(rows)
    assert np.mean([row.points for row in rows.values()]) > 0.6
    low, high = found["ci95"]
    assert low < 0.5 < high and width(found) < 0.1
    assert found["length_effect"] == pytest.approx(1.5, abs=0.3)
    assert (found["n"], found["reason"], found["flag"]) == (2000, None, None)


def test_without_a_length_effect_it_is_the_raw_win_rate():
    # At d = -1 and d = +1 alike 3 of 4 are won: no slope, and theta is the log-odds of 3/4.
    found = alone(arm([1, 1, 1, 0] * 2, [29] * 4 + [31] * 4), one_opponent=False)
    assert found["value"] == pytest.approx(0.75)
    assert found["length_effect"] == pytest.approx(0, abs=1e-6)


def test_many_verdicts_outweigh_the_penalty():
    # Two lengths, two parameters: unpenalised, the fit meets both shares, 1/4 at d = -1 and 7/8 at d = +1.
    points = [0.0] * 7500 + [1.0] * 2500 + [1.0] * 8750 + [0.0] * 1250
    found = alone(arm(points, [29] * 10_000 + [31] * 10_000), one_opponent=False)
    logits = math.log(1 / 3), math.log(7)
    assert found["value"] == pytest.approx(expit(sum(logits) / 2), abs=1e-3)
    assert found["length_effect"] * math.tanh(1) == pytest.approx((logits[1] - logits[0]) / 2, abs=1e-2)


def test_an_easy_prompt_on_which_the_opponent_is_brief_is_not_taken_for_a_reward_of_length():
    # Length does nothing here, but the arm is the longer one where the opponent is brief and the prompt easy.
    rows = judged(3000, -0.5, 0.0, 30, seed=2, difficulty=1.0)
    blind = alone(rows, one_opponent=False)["length_effect"]
    assert blind > 0.7 and abs(alone(rows)["length_effect"]) < 0.3


def test_an_arm_that_is_seldom_as_long_leans_on_the_others():
    others = {name: judged(400, 0.0, 1.5, 30, seed=seed) for seed, name in enumerate("abc", start=3)}
    brief = judged(400, 0.0, 1.5, 17, seed=6)
    together = length_controlled_win_rates({**others, "brief": brief}, one_opponent=True)["brief"]
    by_itself = alone(brief)
    assert width(together) < 0.75 * width(by_itself)
    assert together["ci95"][0] < 0.5 < together["ci95"][1]  # the truth
    assert np.mean([row.points for row in brief.values()]) < 0.3


def test_the_interval_grows_with_the_way_to_equal_length():
    arms = {median: judged(400, 0.0, 1.0, median, seed=7) for median in (30, 24, 18)}
    near, further, far = length_controlled_win_rates(arms, one_opponent=True).values()
    assert width(near) < width(further) < width(far)


def test_swapping_the_sides_of_duels_without_a_common_opponent_gives_one_minus_the_win_rates():
    duels = {name: judged(300, 0.4, 1.0, median, seed=9) for name, median in (("a", 28), ("b", 40))}
    swapped = {
        name: {p: Sized(1 - row.points, row.opponent_length, row.length) for p, row in rows.items()}
        for name, rows in duels.items()
    }
    there, back = (length_controlled_win_rates(one, one_opponent=False) for one in (duels, swapped))
    for name in duels:
        assert there[name]["value"] == pytest.approx(1 - back[name]["value"], abs=1e-5)
        assert there[name]["ci95"] == pytest.approx([1 - end for end in reversed(back[name]["ci95"])], abs=1e-4)
        assert there[name]["length_effect"] == pytest.approx(back[name]["length_effect"], abs=1e-3)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (arm([1, 0], [33, 28]), "2 parsed verdicts"),
        ({}, "0 parsed verdicts"),
        (arm([1, 1, 1, 1], [33, 28, 31, 30]), "every verdict is the same"),
        (arm([0.5, 0.5, 0.5], [33, 28, 31]), "every verdict is the same"),
        (arm([1, 0, 1, 0], [30, 30, 30, 30]), "every length difference is the same"),
        (arm([1, 0, 1, 0], [33, 32, 31, 31]), "every summary is longer"),
        (arm([1, 0, 1, 0], [27, 28, 29, 29]), "every summary is shorter"),
        (arm([1, 1, 0, 0], [33, 32, 29, 28]), "length alone separates"),
        (arm([0, 0, 1, 1], [33, 32, 29, 28]), "length alone separates"),
        (arm([1, 1, 0.5, 0], [33, 32, 29, 28]), "length alone separates"),  # the tie is half a loss, left of every win
        (arm([1, 0] * 10, [90] * 19 + [61]), "lengths are within a factor of two on 0.0% of prompts (less than 10%)"),
        (arm([1, 0] * 10, [61, 62, 63] * 6 + [30, 29]), None),  # 2 of 20 are 10 %
        (arm([1, 0, 0, 1] * 5, [30] * 20, range(21, 41)), "most of its summaries are equally long"),
    ],
)  # fmt: skip
def test_where_a_lone_arm_has_no_answer_it_says_why(rows, reason):
    found = alone(rows)
    if reason is None:
        assert found["reason"] is None and found["value"] is not None
        return
    assert found["reason"].startswith(reason)
    assert [found[name] for name in ("value", "ci95", "length_effect", "flag")] == [None] * 4
    assert found["n"] == len(rows)


def test_a_tie_is_half_a_loss_and_can_be_the_overlap():
    found = alone(arm([1, 1, 0.5, 0], [33, 32, 35, 28]))
    assert found["reason"] is None and 0 < found["value"] < 1


def test_beside_others_less_overlap_is_enough_and_a_refused_arm_changes_no_other():
    arms = {name: judged(200, 0.0, 1.0, 30, seed=seed) for name, seed in (("a", 10), ("b", 11))}
    opponent = [row.opponent_length for row in arms["a"].values()]

    def of(similar):
        """An arm that writes three times as much as the opponent, and nearly the same on `similar` of 200 prompts."""
        lengths = [o + 1 + i % 5 if i < similar else 3 * o + i % 7 for i, o in enumerate(opponent)]
        return arm([float(i % 3 > 0) for i in range(200)], lengths, opponent)

    alone_with = {n: length_controlled_win_rates({**arms, "long": of(n)}, one_opponent=True) for n in (9, 12, 24)}
    assert "on 4.5% of prompts (less than 5%)" in alone_with[9]["long"]["reason"]
    assert alone_with[12]["long"]["flag"] == "lengths are within a factor of two on only 6.0% of prompts: extrapolated"
    assert (alone_with[24]["long"]["flag"], alone_with[24]["long"]["overlap"]) == (None, 0.12)
    without = length_controlled_win_rates(arms, one_opponent=True)
    assert {name: alone_with[9][name] for name in arms} == without


def test_an_arm_whose_wins_length_separates_takes_no_other_arms_number_away():
    """Far shorter than its opponent and lost below a certain length: no maximum, alone or beside another arm."""
    rng = np.random.default_rng(0)
    n = 256
    opponent = rng.integers(20, 90, n).astype(float)

    def rows(length: np.ndarray, won: np.ndarray) -> dict[str, Sized]:
        return {str(i): Sized(float(won[i]), float(length[i]), float(opponent[i])) for i in range(n)}

    plain = rows(np.maximum(opponent + rng.normal(0, 40, n), 3), rng.random(n) < 0.6)
    short = np.maximum(opponent - rng.uniform(5, 70, n), 3)
    cut = {"cut": rows(short, short - opponent > -30)}
    alone = length_controlled_win_rates({"plain": plain}, one_opponent=True)
    beside = length_controlled_win_rates({"plain": plain, **cut, "twice": cut["cut"]}, one_opponent=True)
    assert beside["plain"]["value"] == pytest.approx(alone["plain"]["value"])
    for name in ("cut", "twice"):
        assert beside[name]["value"] is None and beside[name]["reason"].startswith("length all but separates")


def test_an_arm_whose_length_never_changes_is_flagged():
    arms = {name: judged(200, 0.0, 1.0, 30, seed=seed) for name, seed in (("a", 12), ("b", 13))}
    cut_off = {p: Sized(row.points, min(row.length, 20.0), row.opponent_length) for p, row in arms["b"].items()}
    found = length_controlled_win_rates({**arms, "cut off": cut_off}, one_opponent=True)
    assert found["cut off"]["flag"].startswith("most of its summaries are equally long") and found["a"]["flag"] is None
    assert length_controlled_win_rates({**arms, "cut off": cut_off}, one_opponent=False)["cut off"]["flag"] is None


def test_preferences_between_win_and_loss_count_as_they_are():
    rows = judged(400, 0.3, 1.0, 36, seed=14)
    soft = {p: row._replace(points=0.1 + 0.8 * row.points) for p, row in rows.items()}
    found = alone(soft)
    assert 0.5 < found["value"] < alone(rows)["value"]
    assert width(found) < width(alone(rows))  # they vary less


def test_every_verdict_needs_a_length():
    with pytest.raises(DataError, match="got 2 for 3"):
        win_rate_by_length([1, 0, 1], [1, 2], [1, 2, 3], seed=0)


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
