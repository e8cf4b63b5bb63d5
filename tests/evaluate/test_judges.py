import math

import pytest

from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.gold import GoldJudge
from bench.evaluate.judges.reward_model import RewardModelJudge
from bench.records import one_by_one

GOLD = {"good": 0.9, "fair": 0.5, "also fair": 0.5, "broken": math.nan, "rounded": 0.1 + 0.2, "exact": 0.3}
KNOWN = one_by_one(lambda prompt_id, completion: GOLD[completion])


def item(first: str, second: str, prompt_id: str = "p") -> JudgeItem:
    return JudgeItem(prompt_id, "a post", first, second)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("good", "fair", "a"),
        ("fair", "good", "b"),
        ("fair", "also fair", "tie"),
        ("rounded", "exact", "tie"),
        ("good", "broken", "unparsed"),
    ],
)
def test_higher_gold_wins(first, second, verdict):
    assert GoldJudge(KNOWN).judge([item(first, second)]) == [verdict]


@pytest.mark.parametrize(("margin", "verdict"), [(0.39, "a"), (0.41, "tie")])
def test_gold_within_the_margin_is_a_tie(margin, verdict):
    judge = GoldJudge(KNOWN, margin=margin)
    assert judge.judge([item("good", "fair")]) == [verdict]


def test_gold_is_asked_about_the_right_post():
    judge = GoldJudge(one_by_one(lambda prompt_id, completion: float(completion == prompt_id)))
    assert judge.judge([item("p", "q", "p"), item("p", "q", "q")]) == ["a", "b"]


def test_reward_model_scores_each_summary_of_a_prompt_once():
    batches = []

    def score(pairs):
        batches.append(pairs)
        return [float(len(completion)) for _, completion in pairs]

    judge = RewardModelJudge(score)
    assert judge.judge([item("long one", "short"), item("short", "long one")]) == ["a", "b"]
    assert judge.judge([item("short", "short"), item("short", "new")]) == ["tie", "a"]
    assert batches == [[("a post", "long one"), ("a post", "short")], [("a post", "new")]]


def test_scorer_that_loses_a_summary_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        RewardModelJudge(lambda pairs: [0.0]).judge([item("one", "two")])
