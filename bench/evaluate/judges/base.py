"""What every judge is, and what the judges that score one summary at a time share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from bench.records import VerdictLabel

Summary = tuple[str, str, str]
"""(prompt_id, prompt, completion)."""

ROUNDING = 1e-9
"""Scores closer than this are equal: the same facts added up in another order."""


@dataclass(frozen=True)
class JudgeItem:
    """One question to a judge: two summaries of a prompt, in the order in which they are shown."""

    prompt_id: str
    prompt: str
    first: str
    second: str


def mirror(item: JudgeItem) -> JudgeItem:
    """The same question with the summaries in the other order."""
    return replace(item, first=item.second, second=item.first)


class Judge(Protocol):
    """Says which of two summaries is better.

    Attributes:
        name: the judge's id in verdicts and metrics.
        prompt_hash: hash of its prompt template; "" for judges without one.
    """

    @property
    def name(self) -> str: ...

    @property
    def prompt_hash(self) -> str: ...

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        """One verdict per item: "a" means the first shown is better, "b" the second."""
        ...


class ScoringJudge(ABC):
    """A judge that scores each summary by itself: the higher score wins, by more than `margin`.

    Scores are kept per prompt and completion for the life of the judge, so the other order, and an arm
    that meets several others, cost no second scoring. A score that is not a number makes the verdict
    `unparsed`.
    """

    prompt_hash = ""

    def __init__(self, name: str, margin: float = 0.0) -> None:
        self.name = name
        self.margin = margin
        self._scores: dict[Summary, float] = {}

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        shown = [
            tuple((item.prompt_id, item.prompt, completion) for completion in (item.first, item.second))
            for item in items
        ]
        new = [summary for summary in dict.fromkeys(chain(*shown)) if summary not in self._scores]
        if new:
            self._scores.update(zip(new, self.score(new), strict=True))
        return [self._verdict(self._scores[first], self._scores[second]) for first, second in shown]

    @abstractmethod
    def score(self, summaries: Sequence[Summary]) -> Sequence[float]:
        """One score per summary, higher is better."""

    def _verdict(self, first: float, second: float) -> VerdictLabel:
        difference = first - second
        if math.isnan(difference):
            return "unparsed"
        if abs(difference) <= max(self.margin, ROUNDING):
            return "tie"
        return "a" if difference > 0 else "b"
