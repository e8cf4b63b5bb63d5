"""Ways in which a completion can be no summary at all, found in its text alone.

ROUGE can rise by copying and a reward can rise on loops; these shares tell. Words are those of
`words.py`. The thresholds are this project's; the quantities under them are the field's.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from bench.data.prompts import split_prompt
from bench.evaluate.rules import TITLE
from bench.evaluate.statistics import estimate, proportion_interval
from bench.evaluate.words import spelt, words

COPIED_SHARE = 0.8
"""Of the completion's words, in one verbatim run. (Fragments shared with the source: Grusky et al. 2018, Newsroom.)"""
COPIED_TITLE_WORDS, COPIED_POST_WORDS = 3, 5
"""Shorter runs are shared by chance; a title is short."""
REPEATED_SHARE = 0.2
"""Of its 4-grams, seen before in it: seq-rep-4, near 0 in human text (Welleck et al. 2020)."""
LABEL = re.compile(r"^[^\s:]+:", re.MULTILINE)


@dataclass(frozen=True)
class Sampled:
    """A completion behind its prompt; `finished` is None for a human summary, which no model had to end."""

    prompt: str
    completion: str
    finished: bool | None = None


def is_empty(row: Sampled) -> bool:
    """No words."""
    return not words(row.completion)


def copies_title(row: Sampled) -> bool | None:
    """A verbatim run from the title makes up most of the completion; None where the prompt has no title."""
    title = TITLE.search(row.prompt)
    return None if title is None else _copies(row.completion, title[1], COPIED_TITLE_WORDS)


def copies_post(row: Sampled) -> bool:
    """A verbatim run from the post makes up most of the completion, as a sentence lifted whole does."""
    return _copies(row.completion, split_prompt(row.prompt).post, COPIED_POST_WORDS)


def repeats_itself(row: Sampled) -> bool:
    """Many 4-grams of the completion are there before."""
    return repeated_share(words(row.completion)) >= REPEATED_SHARE


def echoes_prompt(row: Sampled) -> bool:
    """A label of the prompt's format ("POST:", "TL;DR:") comes back: the model goes on writing prompts."""
    parts = split_prompt(row.prompt)
    return any(label in row.completion for label in LABEL.findall(parts.head + parts.tail))


def has_no_eos(row: Sampled) -> bool | None:
    """The token limit cut it off."""
    return None if row.finished is None else not row.finished


DETECTORS: dict[str, Callable[[Sampled], bool | None]] = {
    "empty": is_empty,
    "title_copy": copies_title,
    "post_copy": copies_post,
    "repetition": repeats_itself,
    "prompt_echo": echoes_prompt,
    "no_eos": has_no_eos,
}


@lru_cache(maxsize=2**17)  # asked for an arm's shares, and again for its rows
def detected(row: Sampled) -> dict[str, bool | None]:
    """Detector -> whether it finds the completion, None where it does not apply."""
    return {name: detect(row) for name, detect in DETECTORS.items()}


def degeneration(rows: Sequence[Sampled], seed: int) -> dict[str, dict[str, Any]]:
    """Detector -> estimate of the share of completions that it finds, and "any" of them.

    Rows that a detector does not apply to leave its n; with none left its value is None.
    """
    table = [detected(row) for row in rows]
    found = {name: [hit for row in table if (hit := row[name]) is not None] for name in DETECTORS}
    found["any"] = [any(row.values()) for row in table]
    return {
        name: estimate(proportion_interval([float(hit) for hit in hits], seed))
        if hits
        else {"value": None, "ci95": None, "n": 0}
        for name, hits in found.items()
    }


def longest_shared_run(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest run of words that stands in both, verbatim."""
    return SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size


def shares_run(a: Sequence[str], b: Sequence[str], length: int) -> bool:
    """Whether some run of `length` words of a, at least 1, stands in b, verbatim."""
    text = f" {' '.join(b)} "  # no word has a space in it

    def is_there(run: Sequence[str]) -> bool:
        return f" {' '.join(run)} " in text

    in_each = in_every_run(a, length)
    if len(a) < length or (in_each and not is_there(in_each)):
        return False
    return any(is_there(a[i : i + length]) for i in range(len(a) - length + 1))


def in_every_run(words: Sequence[str], length: int) -> Sequence[str]:
    """The words that all runs of this length have: those in the middle."""
    return words[max(0, len(words) - length) : length]


def repeated_share(tokens: Sequence[str], n: int = 4) -> float:
    """1 - distinct / all n-grams, in [0, 1); 0 for a text too short to have any."""
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _copies(completion: str, source: str, at_least: int) -> bool:
    own = words(completion)
    length = max(at_least, math.ceil(COPIED_SHARE * len(own)))
    spelling = spelt(source)
    if not all(word in spelling for word in in_every_run(own, length)):  # mostly so, and sooner known than its words
        return False
    return shares_run(own, words(source), length)
