"""What no judge may prefer to the human summary: nothing, the title, or the summary's own words in a drawn order."""

import random
from collections.abc import Sequence
from typing import Any

from bench.arms import REFERENCE
from bench.evaluate.judges.base import Judge
from bench.evaluate.rules import post_title
from bench.evaluate.win_rate import compare, win_rate
from bench.records import EvalPrompt

EMPTY, TITLE, SHUFFLED = "empty", "title", "shuffled"


def judge_checks(judge: Judge, prompts: Sequence[EvalPrompt], seed: int, resamples: int) -> dict[str, dict[str, Any]]:
    """Check -> how often the judge prefers its text to the reference summary, a judged estimate over the prompts.

    A judge that looks at what is said stays below a half in each.
    """
    texts = {
        EMPTY: {prompt.id: "" for prompt in prompts},
        TITLE: {prompt.id: post_title(prompt.prompt) for prompt in prompts},
        SHUFFLED: {prompt.id: shuffled(prompt.reference, seed, prompt.id) for prompt in prompts},
    }
    references = {prompt.id: prompt.reference for prompt in prompts}
    return {
        check: win_rate(compare(check, REFERENCE, of_check, references, prompts, judge, seed, "one"), seed, resamples)
        for check, of_check in texts.items()
    }


def shuffled(text: str, seed: int, prompt_id: str) -> str:
    """Its words in an order drawn by seed and prompt."""
    words = text.split()
    random.Random(repr((seed, prompt_id))).shuffle(words)
    return " ".join(words)
