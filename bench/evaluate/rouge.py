"""ROUGE against the reference summary, as an `evaluate.Metric` that needs no hub.

`evaluate.load("rouge")` downloads a script; this module holds the metric itself, around the same
`rouge-score` package.
"""

import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import datasets
import evaluate
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from bench.errors import DataError
from bench.evaluate.statistics import RESAMPLES, estimate, proportion_interval
from bench.evaluate.words import words

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Also of Arabic, Urdu and Hindi; and those of Chinese and Japanese, which no space follows.
SENTENCE_END = re.compile("(?<=[.!?\u061f\u06d4\u0964])\\s+|(?<=[\u3002\uff01\uff1f])\\s*")


# A word comes again and again, and stemming it is four fifths of a score's time.
_stem = lru_cache(100_000)(PorterStemmer().stem)


class Words(Tokenizer):
    """`words`, those of ASCII stemmed as rouge-score does it: texts in ASCII score as published numbers do."""

    def __init__(self, use_stemmer: bool) -> None:
        self._stems = use_stemmer

    def tokenize(self, text: str) -> list[str]:
        found = words(text)
        if not self._stems:
            return found
        return [_stem(word) if len(word) > 3 and word.isascii() else word for word in found]


class Rouge(evaluate.Metric):
    """F1 of each prediction against its reference, 0 to 1: one list per ROUGE type (Lin 2004).

    Tokens are `words`, so that every script has some, in ASCII those of rouge-score. rougeLsum compares sentence
    by sentence and takes one sentence per line, as in the common practice; lines are made here, after
    each sentence's end.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="ROUGE-1, -2, -L and -Lsum F1 per example, from the rouge-score package.",
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            inputs_description="predictions, references: one text each per example.",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride] (evaluate passes features by name)
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        use_stemmer: bool = True,
        rouge_types: Sequence[str] = ROUGE_TYPES,
    ) -> dict[str, list[float]]:
        scorer = RougeScorer(list(rouge_types), tokenizer=Words(use_stemmer))
        scores = [
            scorer.score(one_sentence_per_line(reference), one_sentence_per_line(prediction))
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {name: [float(score[name].fmeasure) for score in scores] for name in rouge_types}


def one_sentence_per_line(text: str) -> str:
    """`text` with a line break after each sentence; ROUGE types other than Lsum ignore white space."""
    return SENTENCE_END.sub("\n", text.strip())


def rouge_scores(
    predictions: Sequence[str],
    references: Sequence[str],
    use_stemmer: bool = True,
    rouge_types: Sequence[str] = ROUGE_TYPES,
) -> dict[str, list[float]]:
    """F1 per example for each of `rouge_types`, in the order given.

    Raises:
        DataError: no texts, or not one reference per prediction.
    """
    if not predictions or len(predictions) != len(references):
        raise DataError(
            f"ROUGE needs one reference per prediction, got {len(predictions)} predictions and "
            f"{len(references)} references"
        )
    with tempfile.TemporaryDirectory() as scratch:  # evaluate makes a cache folder even if it keeps to memory
        scores = Rouge(keep_in_memory=True, cache_dir=scratch).compute(
            predictions=list(predictions),
            references=list(references),
            use_stemmer=use_stemmer,
            rouge_types=list(rouge_types),
        )
    assert scores is not None  # None is for the followers of a distributed metric
    return scores


def rouge_estimates(
    predictions: Sequence[str],
    references: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
    use_stemmer: bool = True,
) -> dict[str, dict[str, Any]]:
    """ROUGE type -> estimate of the mean F1, with its interval by bootstrap over prompts."""
    scores = rouge_scores(predictions, references, use_stemmer)
    return {name: estimate(proportion_interval(values, seed, resamples)) for name, values in scores.items()}
