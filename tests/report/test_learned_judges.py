"""A learned judge's number carries its own accuracy, where the number is."""

import copy
from pathlib import Path
from typing import Any

import pytest

from bench.report.load import Run
from bench.report.sections.answer import answer
from bench.report.sections.judges import caveats


def rate(low: float, value: float, high: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high], "n": 256, **more}


METRICS: dict[str, Any] = {
    "arms": {
        "ppo": {"win_rate": {"gold": rate(0.01, 0.02, 0.04), "reward_model": rate(0.88, 0.91, 0.94)}},
        "dpo": {"win_rate": {"gold": rate(0.6, 0.66, 0.72), "reward_model": rate(0.65, 0.71, 0.77)}},
        "sft": {"win_rate": {"gold": rate(0.4, 0.46, 0.5), "reward_model": rate(0.51, 0.57, 0.63)}},
    },
    "judges": {"gold": {"kind": "gold"}, "reward_model": {"kind": "reward_model"}},
    "judge_reward_model": {"accuracy": rate(0.702, 0.731, 0.758) | {"n": 1000}},
    "judge_agreement": [{"judges": ["gold", "reward_model"], "agreement": rate(0.5, 0.55, 0.6)}],
}


def run(**changes: Any) -> Run:
    return Run(Path("run"), {}, copy.deepcopy(METRICS) | changes)


def test_accuracy_agreement_and_where_they_part():
    """PPO by the learned judge 91 %, by the truth 2 %: of the arms on which they part (SFT too) the furthest off."""
    assert caveats(run()) == [
        "Read the reward-model judge with care: it is right on 73.1 % [70.2, 75.8] of 1,000 held-out pairs."
        " It says what the gold judge says of 55.0 % [50.0, 60.0] of pairs."
        " On RLHF (PPO) it says 91.0 % [88.0, 94.0], the gold judge 2.0 % [1.0, 4.0]."
    ]


def test_judges_that_agree_on_every_arm_part_nowhere():
    arms = {"dpo": METRICS["arms"]["dpo"]}
    assert caveats(run(arms=arms))[0].endswith("of pairs.")


def test_without_the_truth_its_accuracy_is_what_is_known():
    arms = {"ppo": {"win_rate": {"reward_model": rate(0.88, 0.91, 0.94)}}}
    assert caveats(run(arms=arms, judge_agreement=[])) == [
        "Read the reward-model judge with care: it is right on 73.1 % [70.2, 75.8] of 1,000 held-out pairs."
    ]


def test_a_judge_whose_accuracy_nobody_measured_says_so():
    arms = {"ppo": {"win_rate": {"strict": rate(0.88, 0.91, 0.94)}}}
    found = caveats(run(arms=arms, judges={"strict": {"kind": "openai"}}, judge_agreement=[]))
    assert found == [
        "Read the judge strict with care: it was not measured against labels here"
        " (python -m bench.judge_audit does that)."
    ]


def test_labels_tell_how_often_a_judge_is_right():
    arms = {"ppo": {"win_rate": {"strict": rate(0.88, 0.91, 0.94)}}}
    labels = {"sensitivity": rate(0.7, 0.8, 0.9), "specificity": rate(0.5, 0.6, 0.7)}
    judges = {"strict": {"kind": "openai", "labels": labels}}
    assert caveats(run(arms=arms, judges=judges, judge_agreement=[])) == [
        "Read the judge strict with care: it is right on 80.0 % [70.0, 90.0] of labelled wins"
        " and 60.0 % [50.0, 70.0] of losses."
    ]


@pytest.mark.parametrize("judge", ["gold", "human"])
def test_the_truth_has_no_caveat(judge: str):
    arms = {"ppo": {"win_rate": {judge: rate(0.88, 0.91, 0.94)}}}
    assert caveats(run(arms=arms, judges={judge: {"kind": judge}})) == []


def test_it_stands_among_the_first_lines_of_the_report():
    found = run(head_to_head={"dpo_vs_ppo": {"win_rate": {"reward_model": rate(0.1, 0.2, 0.3)}, "p_value": {}}})
    assert caveats(found)[0] in answer(found)[:3]
