import pytest

from bench.evaluate.world import headroom, world_numbers
from bench.records import EvalPrompt, one_by_one


def test_room_is_a_share_of_what_lies_between_the_best_and_the_worst():
    best, policy = [1.0, 0.9, 1.0, 0.8], [0.7, 0.5, 0.6, 0.8]
    trivial = {"empty": [0.0, 0.1, 0.0, 0.0], "title": [0.2, -0.4, 0.0, 0.1], "longest": [0.6, 0.5, 0.6, 0.4]}
    found = headroom(best, policy, trivial, seed=0, resamples=1000)
    # Means: best 3.7 / 4, policy 2.6 / 4; the worst is the title, -0.1 / 4, and empty is 0.1 / 4.
    assert found["headroom"] == pytest.approx(1.1 / 3.8)
    assert found["headroom_from_empty"] == pytest.approx(1.1 / 3.6)
    for name in ("headroom", "headroom_from_empty"):
        low, high = found[f"{name}_ci95"]
        assert 0 <= low < found[name] < high < 0.5


def test_a_perfect_policy_has_no_room_and_no_interval_of_no_width():
    found = headroom([1.0, 0.9], [1.0, 0.9], {"empty": [0.0, 0.0]}, seed=0, resamples=1000)
    assert (found["headroom"], found["headroom_ci95"]) == (0.0, None)


def test_the_prompts_that_are_judged_are_those_that_count():
    """The world has three posts, a small budget judges the first two; a summary's reward is its length."""
    names, prompts = ("p0", "p1", "p2"), [EvalPrompt(name, "post", "human") for name in ("p0", "p1")]
    texts = {"best": ("1234", "123456", "1"), "longest": ("12", "1", "123"), "empty": ("", "", "")}
    policies = {policy: dict(zip(names, of_policy, strict=True)) for policy, of_policy in texts.items()}
    sft = {"p0": "123", "p1": "123"}
    gold = one_by_one(lambda prompt_id, text: float(len(text)))
    found = world_numbers(policies, sft, prompts, gold, seed=0, resamples=200)

    assert found["best_attainable"] == (4 + 6) / 2
    assert found["trivial"]["longest"]["gold"]["value"] == (2 + 1) / 2
    assert found["trivial"]["longest"]["win_rate_vs_sft"]["value"] == 0
    assert found["headroom_from_empty"] == pytest.approx((5 - 3) / (5 - 0))
