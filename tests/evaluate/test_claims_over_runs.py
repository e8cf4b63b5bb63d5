"""Claims over seeds, from runs whose numbers are known."""

import math

import pytest

from bench.evaluate.claims_over_runs import cost, own_reward_model, row


def run(seed: int, ratio: float, verdict: str = "supported") -> dict:
    claims = [{"claim": n, "estimate": {"value": ratio, "ci95": None, "n": 1}, "verdict": verdict} for n in (1, 2)]
    return {"seed": seed, "verdicts_on_claims": claims}


def test_a_cost_is_the_geometric_mean_over_seeds_with_students_t():
    found = cost([run(0, 2.0), run(1, 4.0), run(2, 8.0)], 1)

    # Logs of base 2 are 1, 2, 3: mean 2, sd 1; t of 2 degrees of freedom at 97.5 % is 4.302653.
    half = 4.302653 / math.sqrt(3)
    assert found["estimate"]["value"] == pytest.approx(4.0)
    assert found["estimate"]["ci95"] == pytest.approx([2 ** (2 - half), 2 ** (2 + half)], rel=1e-6)
    assert (found["estimate"]["seeds"], found["verdict"]) == (3, "not decided at this n")  # from 0.72


def test_a_seed_of_several_trials_counts_once():
    found = cost([run(0, 2.0), run(0, 8.0), run(1, 4.0), run(2, 4.4)], 1)

    assert found["estimate"]["value"] == pytest.approx((4.0 * 4.0 * 4.4) ** (1 / 3))
    assert (found["estimate"]["seeds"], found["estimate"]["runs"]) == (3, 4)
    assert found["verdict"] == "supported"


@pytest.mark.parametrize(
    ("ratios", "verdicts", "verdict"),
    [
        ((2.0, 2.1, 2.2), ("supported",) * 3, "supported"),
        ((2.0, 2.1, 2.2), ("supported", "contradicted", "supported"), "not decided at this n"),  # FLOPs say otherwise
        ((1.05, 1.06, 1.07), ("not decided at this n",) * 3, "not decided at this n"),  # within the tolerance
        ((0.5, 0.51, 0.52), ("contradicted",) * 3, "contradicted"),
        ((0.5, 0.51, 0.52), ("supported",) * 3, "not decided at this n"),
        ((2.0, 2.0, 2.0), ("supported",) * 3, "supported"),  # nothing varies: the runs decide
        ((2.0, 1.5), ("supported", "supported"), "supported"),
        ((2.0, 1.5), ("supported", "not decided at this n"), "not decided at this n"),
    ],
)
def test_what_decides_a_cost(ratios, verdicts, verdict):
    runs = [run(seed, ratio, said) for seed, (ratio, said) in enumerate(zip(ratios, verdicts, strict=True))]

    assert cost(runs, 2)["verdict"] == verdict


def test_runs_without_the_cost_say_why():
    found = cost([{"seed": 0}], 1)

    assert (found["verdict"], found["estimate"]["value"]) == ("not decided at this n", None)
    assert "no run holds both arms" in found["reason"]


def pairs(seed: int, value: float) -> dict:
    difference = {"value": value, "ci95": [value - 0.1, value + 0.1], "n": 100 + seed}
    return {"seed": seed, "implicit_reward": {"minus_reward_model": difference}}


def test_the_implicit_reward_over_seeds():
    found = own_reward_model([pairs(seed, value) for seed, value in enumerate((0.02, 0.03, 0.04))], shared_pairs=False)

    # Student's t on the logit scale of (1 + 0.03) / 2: half of 4.302653 x 0.01 / sqrt(3) / 2, over p (1 - p).
    share = 1.03 / 2
    half = 4.302653 * 0.01 / math.sqrt(3) / 2 / (share * (1 - share))
    low = 2 / (1 + math.exp(half) * (1 - share) / share) - 1
    assert found["estimate"]["value"] == pytest.approx(0.03)
    assert found["estimate"]["ci95"][0] == pytest.approx(low, rel=1e-5)
    assert (found["verdict"], found["estimate"]["n"], found["estimate"]["seeds"]) == ("supported", 100, 3)


def test_pairs_that_seeds_share_do_not_average_out():
    runs = [pairs(seed, value) for seed, value in enumerate((0.02, 0.03, 0.04))]

    assert own_reward_model(runs, shared_pairs=True)["verdict"] == "not decided at this n"  # +- 0.1 of the pairs


@pytest.mark.parametrize(
    ("ci95", "seeds", "verdict"),
    [
        ([0.51, 0.6], 3, "supported"),
        ([0.4, 0.49], 3, "contradicted"),
        ([0.49, 0.6], 3, "not decided at this n"),
        ([0.51, 0.6], 2, "not decided at this n"),
    ],
)
def test_an_interval_over_three_seeds_decides(ci95, seeds, verdict):
    found = row(4, "view", "", {"value": 0.5, "ci95": ci95, "seeds": seeds, "n": 256, "reason": None}, 0.5)

    assert found["verdict"] == verdict
    assert (found["reason"] is None) == (seeds == 3)


def test_what_has_a_reason_decides_nothing():
    refused = {"value": None, "ci95": None, "seeds": 3, "n": 0, "reason": "too far apart"}

    assert row(4, "view", "", refused, 0.0)["reason"] == "too far apart"
    assert row(4, "view", "", None, 0.0, "no trials")["estimate"] == {"value": None, "ci95": None, "seeds": 0}
