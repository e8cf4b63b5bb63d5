"""What no judge may prefer to the human summary."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from bench.evaluate.judge_checks import judge_checks, shuffled
from bench.evaluate.judges.base import JudgeItem
from bench.records import EvalPrompt, VerdictLabel

PROMPTS = [
    EvalPrompt(f"p{i}", f"SUBREDDIT: r/x\n\nTITLE: title {i}\n\nPOST: a post\n\nTL;DR:", f"one two three {i}")
    for i in range(8)
]


class Preferring:
    """Prefers the summary of which `score` is higher, as shown."""

    name, prompt_hash = "preferring", ""

    def __init__(self, score: Callable[[str], float]):
        self.score = score

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        scores = [(self.score(item.first), self.score(item.second)) for item in items]
        return ["a" if first > second else "b" if second > first else "tie" for first, second in scores]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda text: -len(text), {"empty": 1.0, "title": 1.0, "shuffled": 0.5}),  # the shorter one
        (lambda text: text.startswith("one two three"), {"empty": 0.0, "title": 0.0, "shuffled": None}),
        (lambda text: "title" in text, {"empty": 0.5, "title": 1.0, "shuffled": 0.5}),
    ],
)
def test_each_check_counts_how_often_its_text_is_preferred(score, expected):
    found = judge_checks(Preferring(score), PROMPTS, seed=0, resamples=100)
    kept = sum(shuffled(p.reference, 0, p.id).startswith("one two three") for p in PROMPTS)
    for check, value in expected.items():
        # Where the order that was drawn begins as the summary does the two tie, else the summary wins.
        assert found[check]["value"] == (kept / 2 / 8 if value is None else value)
        assert found[check]["n"] == 8


def test_the_words_stay_and_their_order_is_drawn_by_seed_and_prompt():
    text = "a b c d e f g h"
    drawn = [shuffled(text, seed, name) for seed, name in ((0, "p"), (0, "q"), (1, "p"))]
    assert all(Counter(words.split()) == Counter(text.split()) for words in drawn)
    assert len({text, *drawn}) == 4 and shuffled(text, 0, "p") == drawn[0]
