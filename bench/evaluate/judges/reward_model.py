"""The judge for data whose truth is not known: a reward model trained on a split that no arm saw."""

from collections.abc import Callable, Sequence

from bench.evaluate.judges.base import ScoringJudge, Summary

Score = Callable[[list[tuple[str, str]]], Sequence[float]]
"""(prompt, completion) pairs -> reward-model scores. Batching is the scorer's business."""


class RewardModelJudge(ScoringJudge):
    """The summary with the higher reward-model score wins; equal scores tie."""

    def __init__(self, score: Score) -> None:
        super().__init__("reward_model")
        self._score = score

    def score(self, summaries: Sequence[Summary]) -> Sequence[float]:
        return self._score([(prompt, completion) for _, prompt, completion in summaries])
