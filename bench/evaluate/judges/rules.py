"""Judges that need nothing but the texts: trivial rules, which others are held against."""

from collections.abc import Mapping, Sequence

from bench.evaluate.judges.base import ScoringJudge, Summary
from bench.evaluate.rouge import rouge_scores
from bench.evaluate.rules import post_title


class LongerJudge(ScoringJudge):
    """The summary with more characters wins."""

    def __init__(self) -> None:
        super().__init__("longer")

    def score(self, summaries: Sequence[Summary]) -> list[float]:
        return [float(length(completion)) for _, _, completion in summaries]


class TitleOverlapJudge(ScoringJudge):
    """The summary with the higher ROUGE-1 F1 to the post's title wins."""

    def __init__(self) -> None:
        super().__init__("title_overlap")

    def score(self, summaries: Sequence[Summary]) -> list[float]:
        texts = [completion for _, _, completion in summaries]
        titles = [post_title(prompt) for _, prompt, _ in summaries]
        return rouge_scores(texts, titles, rouge_types=("rouge1",))["rouge1"]


class RougeJudge(ScoringJudge):
    """The summary with the higher ROUGE-L F1 to the reference summary wins."""

    def __init__(self, references: Mapping[str, str]) -> None:
        """`references`: prompt_id -> reference summary, of every prompt that is asked about."""
        super().__init__("rouge")
        self._references = references

    def score(self, summaries: Sequence[Summary]) -> list[float]:
        texts = [completion for _, _, completion in summaries]
        references = [self._references[prompt_id] for prompt_id, _, _ in summaries]
        return rouge_scores(texts, references, rouge_types=("rougeL",))["rougeL"]


def length(summary: str) -> int:
    """The length that biases are measured in: characters.

    What is read is characters, they tie rarely (8 of the 570 TL;DR pairs; words tie in 25), and published length
    biases of these labels are in them: the longer wins 68 % in characters, 66 % in words.
    """
    return len(summary)
