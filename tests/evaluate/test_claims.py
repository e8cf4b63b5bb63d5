import copy

import pytest

from bench.evaluate.claims import verdicts_on_claims
from bench.evaluate.statistics import estimate, proportion_interval, sign_test


def judged(low, value, high):
    return {"value": value, "ci95": [low, high], "n": 256, "ties": 3, "unparsed": 0, "flip_rate": 0.0}


def counted(wins, losses, ties=0):
    n = wins + losses + ties
    found = estimate(proportion_interval([1.0] * wins + [0.0] * losses + [0.5] * ties, seed=0))
    return found | {"n": n, "ties": ties, "unparsed": 0, "flip_rate": 0.0}


METRICS = {
    "arms": {
        "ppo": {
            "cost": {"device_hours": 0.6, "peak_memory_gib": 3.0, "models_resident": 4},
            "kl_ref": {"value": 7.5, "ci95": [7.0, 8.0], "n": 256, "estimator": "exact"},
        },
        "dpo": {
            "cost": {"device_hours": 0.2, "peak_memory_gib": 2.0, "models_resident": 2},
            "kl_ref": {"value": 5.0, "ci95": [4.5, 5.5], "n": 256, "estimator": "exact"},
        },
    },
    "head_to_head": {
        "dpo_vs_ppo": {
            "win_rate": {"gold": judged(0.51, 0.57, 0.63), "reward_model": judged(0.3, 0.36, 0.42)},
            "p_value": {"gold": 0.02, "reward_model": 0.0001},
        }
    },
    "implicit_reward": {
        "minus_reward_model": {
            "value": -0.04,
            "ci95": [-0.0647, -0.0153],
            "n": 1000,
            "counts": {"wins": 60, "losses": 100, "n": 1000},
        }
    },
}


PPO_COST = ("arms", "ppo", "cost")


def claim(number, metrics=METRICS, **options):
    claims = verdicts_on_claims(metrics, **options)
    assert [entry["claim"] for entry in claims] == [1, 2, 3, 4, 5]
    assert all(set(e) == {"claim", "statement", "measure", "estimate", "verdict"} for e in claims)
    return claims[number - 1]


def changed(value, *path):
    metrics = copy.deepcopy(METRICS)
    node = metrics
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return metrics


def test_cost_is_a_ratio_measured_once():
    assert claim(1)["estimate"] == {"value": pytest.approx(3.0), "ci95": None, "n": 1}
    assert claim(2)["estimate"] == {
        "value": pytest.approx(1.5),
        "ci95": None,
        "n": 1,
        "models_resident": {"ppo": 4, "dpo": 2},
    }


@pytest.mark.parametrize(("number", "field"), [(1, "device_hours"), (2, "peak_memory_gib")])
@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.3, "supported"),
        (1.2, "not decided at this n"),
        (1.0, "not decided at this n"),
        (0.81, "not decided at this n"),
        (0.79, "contradicted"),
    ],
)
def test_cost_has_to_exceed_the_tolerance(number, field, ratio, verdict):
    dpo = METRICS["arms"]["dpo"]["cost"][field]
    metrics = changed(ratio * dpo, "arms", "ppo", "cost", field)
    assert claim(number, metrics, cost_tolerance=0.25)["verdict"] == verdict


def busy(flops, cpu_s, **ppo):
    """PPO's cost on a busy machine; DPO took 100 of each."""
    metrics = changed({"device_hours": 0.01, "flops": flops, "cpu_s": cpu_s, "busy": ["ppo"], **ppo}, *PPO_COST)
    metrics["arms"]["dpo"]["cost"] |= {"flops": 100, "cpu_s": 100.0, "busy": []}
    return metrics


@pytest.mark.parametrize(
    ("flops", "cpu_s", "verdict"),
    [
        (300, 200.0, "supported"),
        (50, 60.0, "contradicted"),
        (300, 105.0, "not decided at this n"),  # they do not agree
        (300, 50.0, "not decided at this n"),
        (300, None, "not decided at this n"),  # as in a run of before CPU time was measured
    ],
)
def test_on_a_busy_machine_speed_rests_on_flops_and_cpu_time(flops, cpu_s, verdict):
    found = claim(1, busy(flops, cpu_s))
    assert found["verdict"] == verdict
    assert found["estimate"]["value"] == pytest.approx(0.01 / 0.2)  # the wall time is told, and decides nothing
    assert found["estimate"]["busy_stages"] == ["ppo"]
    assert found["estimate"]["ratio_of"] == {"flops": flops / 100, "cpu_s": cpu_s and cpu_s / 100}


def test_what_was_measured_again_decides():
    metrics = busy(300, 50.0, remeasured={"device_hours": 0.3})
    metrics["arms"]["dpo"]["cost"]["remeasured"] = {"device_hours": 0.2}
    found = claim(1, metrics)
    assert (found["verdict"], found["estimate"]["value"]) == ("supported", pytest.approx(1.5))
    metrics["arms"]["dpo"]["cost"]["remeasured"] = None  # one arm alone is no comparison
    assert claim(1, metrics)["verdict"] == "not decided at this n"


@pytest.mark.parametrize(
    ("ppo", "verdict"),
    [
        ([0.3, 0.4, 0.35], "supported"),
        ([0.1, 0.1, 0.1], "contradicted"),
        ([0.3, 0.4, 0.15], "not decided at this n"),  # the rounds do not agree
        ([0.3, 0.4, 0.21], "not decided at this n"),  # within 10 % of 1
    ],
)
def test_every_round_of_what_was_measured_again_has_to_say_the_same(ppo, verdict):
    metrics = busy(300, 50.0, remeasured={"device_hours": sorted(ppo)[1], "rounds": ppo})
    metrics["arms"]["dpo"]["cost"]["remeasured"] = {"device_hours": 0.2, "rounds": [0.2, 0.2, 0.2]}
    found = claim(1, metrics)
    assert found["verdict"] == verdict
    assert found["estimate"]["measured_again"] == pytest.approx([hours / 0.2 for hours in ppo])


def test_one_run_does_not_decide_simplicity():
    assert (claim(3)["verdict"], claim(3)["estimate"]["value"]) == ("not decided at this n", None)


def test_quality_is_asked_of_the_gold_judge_where_there_is_one():
    found = claim(4)
    assert found["verdict"] == "supported"
    assert found["estimate"] == {
        "value": 0.57,
        "ci95": [0.51, 0.63],
        "n": 256,
        "p_value": pytest.approx(sign_test(144, 109)),  # 0.57 of 256 is 144 wins, 3 ties and 109 losses
        "judge": "gold",
        "kl_ref": {"dpo": 5.0, "ppo": 7.5},
        "prompts_needed": None,
    }
    without_gold = changed({"reward_model": judged(0.3, 0.36, 0.42)}, "head_to_head", "dpo_vs_ppo", "win_rate")
    assert claim(4, without_gold)["verdict"] == "contradicted"
    assert claim(4, without_gold)["estimate"]["judge"] == "reward_model"


def test_people_are_asked_before_models():
    rates = {name: judged(0.51, 0.57, 0.63) for name in ("reward_model", "local_llm", "openai", "human")}
    for best in ("human", "openai", "local_llm", "reward_model"):
        metrics = changed(rates, "head_to_head", "dpo_vs_ppo", "win_rate")
        assert claim(4, metrics)["estimate"]["judge"] == best
        del rates[best]


def test_judges_with_names_of_their_own_are_what_their_kind_is():
    rates = {name: judged(0.51, 0.57, 0.63) for name in ("reward_model", "small", "concise", "panel", "readers")}
    kinds = {"small": "local_llm", "concise": "openai", "panel": "panel", "readers": "human"}
    for best in ("readers", "panel", "concise", "small", "reward_model"):
        metrics = changed(rates, "head_to_head", "dpo_vs_ppo", "win_rate")
        metrics["judges"] = {name: {"kind": kind} for name, kind in kinds.items()}
        assert claim(4, metrics)["estimate"]["judge"] == best
        del rates[best]


@pytest.mark.parametrize(("value", "needed"), [(judged(0.48, 0.52, 0.56), 4000), (judged(0.51, 0.57, 0.63), None)])
def test_what_it_would_take_is_said_where_it_is_not_decided(value, needed):
    metrics = changed(value, "head_to_head", "dpo_vs_ppo", "win_rate", "gold")
    metrics["head_to_head"]["dpo_vs_ppo"]["prompts_needed"] = {"gold": 4000}
    assert claim(4, metrics)["estimate"]["prompts_needed"] == needed


@pytest.mark.parametrize(
    ("wins", "margin", "verdict"),
    [
        (510, 0.0, "not decided at this n"),
        (510, 0.05, "supported"),
        (440, 0.0, "contradicted"),
        (440, 0.05, "not decided at this n"),
    ],
)
def test_margin_says_how_far_behind_is_still_as_good(wins, margin, verdict):
    metrics = changed(counted(wins, 1000 - wins), "head_to_head", "dpo_vs_ppo", "win_rate", "gold")
    assert claim(4, metrics, noninferiority_margin=margin)["verdict"] == verdict


@pytest.mark.parametrize(("losses", "verdict"), [(4, "not decided at this n"), (6, "contradicted")])
def test_four_posts_decide_nothing_whatever_their_interval(losses, verdict):
    """None of 4 is [0 %, 49 %] by the score interval, and p = 2 / 2^4."""
    rate = counted(0, losses)
    assert rate["ci95"][1] < 0.5
    found = claim(4, changed(rate, "head_to_head", "dpo_vs_ppo", "win_rate", "gold"))
    assert (found["verdict"], found["estimate"]["p_value"]) == (verdict, 2 / 2**losses)


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [(0.0, "contradicted"), (0.03, "not decided at this n"), (0.07, "supported")],
)
def test_implicit_reward_is_compared_on_the_same_pairs(margin, verdict):
    found = claim(5, noninferiority_margin=margin)
    assert found["verdict"] == verdict
    assert found["estimate"] | {"p_value": 0} == {"value": -0.04, "ci95": [-0.0647, -0.0153], "n": 1000, "p_value": 0}
    if margin == 0:
        assert found["estimate"]["p_value"] == pytest.approx(sign_test(60, 100))


def test_implicit_reward_needs_the_exact_test_too():
    few = {"value": 1.0, "ci95": [0.2, 1.0], "n": 5, "counts": {"wins": 5, "losses": 0, "n": 5}}
    assert claim(5, changed(few, "implicit_reward", "minus_reward_model"))["verdict"] == "not decided at this n"


@pytest.mark.parametrize("metrics", [{}, {"arms": {"dpo": METRICS["arms"]["dpo"]}}])
def test_what_was_not_measured_is_not_decided(metrics):
    for number in range(1, 6):
        found = claim(number, metrics)
        assert found["verdict"] == "not decided at this n"
        assert (found["estimate"]["value"], found["estimate"]["n"]) == (None, 0)


def test_unbounded_interval_decides_nothing():
    one_prompt = judged(0, 1.0, 1) | {"ci95": None, "n": 1}
    metrics = changed(one_prompt, "head_to_head", "dpo_vs_ppo", "win_rate", "gold")
    assert (claim(4, metrics)["verdict"], claim(4, metrics)["estimate"]["value"]) == (
        "not decided at this n",
        1.0,
    )
