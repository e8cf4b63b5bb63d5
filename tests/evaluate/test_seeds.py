import math
import subprocess
import sys

import pytest
from scipy import stats

from bench.errors import DataError
from bench.evaluate.seeds import across_seeds, duels_across_seeds, is_collapsed, mean_over_seeds


def rate(value, low=None, high=None, n=256):
    return {"value": value, "ci95": None if low is None else [low, high], "n": n, "ties": 0}


def run(seed, ppo, sft=0.4):
    rates = {"ppo": ppo, "sft": sft}
    return {
        "seed": seed,
        "arms": {arm: {"win_rate": {"gold": rate(x, x - 0.05, x + 0.05)}} for arm, x in rates.items()},
    }


def test_mean_and_spread_of_every_seed_the_collapsed_ones_too():
    # The 1B PPO policies of Huang et al. 2024, with an SFT model at 0.33.
    found = across_seeds(
        [run(seed, x, 0.33) for seed, x in ((3, 0.62), (0, 0.54), (1, 0.22), (2, 0.20))], "ppo", "gold"
    )
    values = [0.54, 0.22, 0.20, 0.62]
    mean = sum(values) / 4
    sd = math.sqrt(sum((x - mean) ** 2 for x in values) / 3)
    assert [row["seed"] for row in found["seeds"]] == [0, 1, 2, 3]
    assert [row["value"] for row in found["seeds"]] == values
    assert [row["collapsed"] for row in found["seeds"]] == [False, True, True, False]
    assert found["seeds"][0]["ci95"] == [pytest.approx(0.49), pytest.approx(0.59)]
    assert (found["mean"], found["sd"], found["n"], found["collapsed"]) == (
        pytest.approx(mean),
        pytest.approx(sd),
        4,
        2,
    )
    # Student's t with 3 degrees of freedom, on the logit scale at the mean (delta method).
    half = 3.1824 * sd / 2 / (mean * (1 - mean))
    ends = [1 / (1 + (1 - mean) / mean * math.exp(side * half)) for side in (1, -1)]
    assert found["ci95"] == [pytest.approx(end, abs=1e-4) for end in ends]


def test_an_interval_of_shares_stays_among_shares_and_takes_three_seeds():
    two = across_seeds([run(0, 0.9), run(1, 0.97)], "ppo", "gold")
    assert (two["mean"], two["ci95"], two["reason"]) == (pytest.approx(0.935), None, "2 seeds: an interval needs three")
    three = across_seeds([run(0, 0.9), run(1, 0.97), run(2, 0.99)], "ppo", "gold")
    low, high = three["ci95"]
    assert 0 < low < 0.9 and 0.97 < high < 1
    assert across_seeds([run(s, 0.8) for s in range(3)], "ppo", "gold")["reason"] == "all 3 seeds are equal"


def test_one_seed_has_no_spread():
    found = across_seeds([run(0, 0.6)], "ppo", "gold")
    assert (found["mean"], found["sd"], found["ci95"], found["n"]) == (0.6, None, None, 1)


def test_seeds_and_prompts_are_told_apart_where_both_vary():
    """3 seeds by 4 prompts, worked by hand: seed means 3/4, 2/4, 1/4; prompt means 1, 1/3, 2/3, 0; mean 1/2."""
    table = [[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    points = [dict(zip("abcd", row, strict=True)) for row in table]
    # Sums of squares: 12 cells of 1/4 are 3; seeds 4 * (1/16 + 0 + 1/16) = 1/2; prompts 3 * (1/4 + 1/36) * 2 = 5/3;
    # the rest 3 - 1/2 - 5/3 = 5/6. Mean squares over 2, 3 and 6: 1/4, 5/9, 5/36.
    seeds, prompts, rest = 1 / 4, 5 / 9, 5 / 36
    total = seeds + prompts - rest
    freedom = total**2 / (seeds**2 / 2 + prompts**2 / 3 + rest**2 / 6)
    half = stats.t.isf(0.025, freedom) * math.sqrt(total / 12) / (0.5 * 0.5)
    found = mean_over_seeds([rate(x, 0, 1, n=4) for x in (0.75, 0.5, 0.25)], (0, 1), points)
    assert found["ci95"] == pytest.approx([1 / (1 + math.exp(half)), 1 / (1 + math.exp(-half))])
    assert found["prompts"] == 4


def test_prompts_that_not_every_seed_has_are_left_out():
    points = [{"a": 1.0, "b": 0.0, "c": 1.0}, {"a": 0.0, "b": 0.0, "c": 1.0}, {"b": 1.0, "a": 0.0}]
    assert mean_over_seeds([rate(0.5, 0, 1)] * 3, (0, 1), points)["prompts"] == 2


def test_shared_prompts_without_verdicts_count_whole():
    """Seeds at 0.5 +- 0.1 with intervals of +- 0.1: variances 0.01 / 3 over seeds and (0.1 / 1.96)^2 of the prompts."""
    rates = [rate(x, x - 0.1, x + 0.1) for x in (0.4, 0.5, 0.6)]
    own, shared = (mean_over_seeds(rates, (0, 1), shared_prompts=is_shared) for is_shared in (False, True))
    parts = (0.01 / 3, (0.1 / 1.959964) ** 2)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 255)
    half = stats.t.isf(0.025, freedom) * math.sqrt(sum(parts)) / 0.25
    assert shared["ci95"][1] == pytest.approx(1 / (1 + math.exp(-half)))
    assert own["ci95"][1] == pytest.approx(1 / (1 + math.exp(-stats.t.isf(0.025, 2) * math.sqrt(parts[0]) / 0.25)))


def duel(value, difference):
    return {
        "win_rate": {"gold": rate(value, value - 0.1, value + 0.1)},
        "mcnemar": {"gold": {"difference": rate(difference, difference - 0.1, difference + 0.1), "p_value": 0.5}},
    }


def test_duels_have_their_own_mean_and_difference():
    runs = [
        {"seed": s, "arms": {}, "head_to_head": {"dpo_vs_ppo": duel(x, d)}}
        for s, x, d in ((2, 0.8, 0.3), (0, 0.6, 0.1), (1, 0.7, -0.1))
    ]
    found = duels_across_seeds(runs, "dpo_vs_ppo", "gold")
    assert found["win_rate"]["mean"] == pytest.approx(0.7) and found["difference"]["mean"] == pytest.approx(0.1)
    low, high = found["difference"]["ci95"]
    # A difference d is the share (1 + d) / 2: 0.55 with half the spread, 0.2 / 2, of three seeds.
    half = stats.t.isf(0.025, 2) * 0.1 / math.sqrt(3) / (0.55 * 0.45)
    assert (low, high) == pytest.approx([2 / (1 + 0.45 / 0.55 * math.exp(side * half)) - 1 for side in (1, -1)])
    points = {s: ({"p": 1.0, "q": 0.0, "r": float(s == 0)}, {"p": 1.0, "q": -1.0, "r": 0.0}) for s in range(3)}
    assert duels_across_seeds(runs, "dpo_vs_ppo", "gold", points)["win_rate"]["prompts"] == 3
    assert duels_across_seeds(runs, "dpo_vs_sft", "gold") == {"win_rate": None, "difference": None}


@pytest.mark.parametrize(
    ("arm", "pair", "difference", "p", "collapsed"),
    [
        ("ppo", "ppo_vs_sft", (-0.2, -0.3, -0.1), 0.001, True),
        ("ppo", "ppo_vs_sft", (-0.2, -0.3, -0.1), 0.125, False),  # four prompts, whatever their interval
        ("ppo", "ppo_vs_sft", (0.2, 0.1, 0.3), 0.001, False),
        ("tuned", "sft_vs_tuned", (0.2, 0.1, 0.3), 0.001, True),  # the SFT model comes first, and is better
        ("tuned", "sft_vs_tuned", (0.1, -0.1, 0.3), 0.001, False),
    ],
)
def test_collapsed_is_decided_on_the_same_prompts(arm, pair, difference, p, collapsed):
    paired = {"difference": rate(*difference), "p_value": p}
    one = {"seed": 0, "arms": {}, "head_to_head": {pair: {"mcnemar": {"gold": paired}}}}
    assert is_collapsed(one, arm, "gold") == collapsed


def test_without_pairs_collapsed_is_below_the_sft_models_value_by_more_than_chance():
    def at(low, high, n):
        rates = {"ppo": rate(0.25, low, high, n), "sft": rate(0.5, 0.4, 0.6, n)}
        return {"seed": 0, "arms": {arm: {"win_rate": {"gold": of}} for arm, of in rates.items()}}

    assert is_collapsed(at(0.2, 0.31, 256), "ppo", "gold")
    assert not is_collapsed(at(0.2, 0.51, 256), "ppo", "gold")
    assert not is_collapsed(at(0.1, 0.49, 4), "ppo", "gold")  # 1 of 4 where 2 were to be expected


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "there are no runs"),
        ([run(1, 0.5), run(1, 0.6)], "seed 1 is there twice"),
        ([run(1, 0.5), {"seed": 2, "arms": {}}], "seed 2 has no win rate of ppo by judge gold"),
    ],
)
def test_runs_that_cannot_be_summarized(runs, message):
    with pytest.raises(DataError, match=message):
        across_seeds(runs, "ppo", "gold")


@pytest.mark.slow
def test_a_report_may_import_it_without_torch():
    code = "import sys, bench.evaluate.seeds; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
