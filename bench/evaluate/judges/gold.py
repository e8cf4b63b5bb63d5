"""The judge that knows the truth."""

from collections.abc import Sequence

from bench.evaluate.judges.base import ScoringJudge, Summary
from bench.records import GoldReward


class GoldJudge(ScoringJudge):
    """The summary with the higher gold reward wins; a tie where they differ by at most `margin`."""

    def __init__(self, gold: GoldReward, margin: float = 0.0) -> None:
        super().__init__("gold", margin)
        self._gold = gold

    def score(self, summaries: Sequence[Summary]) -> list[float]:
        return self._gold([(prompt_id, completion) for prompt_id, _, completion in summaries])
