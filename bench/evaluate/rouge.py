"""ROUGE against the reference summary, as an `evaluate.Metric` that needs no hub.

`evaluate.load("rouge")` downloads a script; this module holds the metric itself. Its scores are those of the package
rouge-score to the last bit (tests hold them together), in a tenth of the time.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import datasets
import evaluate
from nltk.stem.porter import PorterStemmer
from rouge_score.scoring import fmeasure

from bench.errors import DataError
from bench.evaluate.lcs import common_indices, common_length, places_of
from bench.evaluate.statistics import RESAMPLES, estimate, proportion_interval
from bench.evaluate.words import words

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Also of Arabic, Urdu and Hindi; and those of Chinese and Japanese, which no space follows.
SENTENCE_END = re.compile("(?<=[.!?\u061f\u06d4\u0964])\\s+|(?<=[\u3002\uff01\uff1f])\\s*")


_STEMMER = PorterStemmer()


@lru_cache(100_000)  # a word comes again and again, and stemming it takes longer than all else
def _stem(word: str) -> str:
    return _STEMMER.stem(word) if len(word) > 3 and word.isascii() else word


class Tokens(NamedTuple):
    """A text's tokens: all of them, how often each is there, and sentence by sentence."""

    all: Sequence[str]
    counts: Counter[str]
    sentences: Sequence[Sequence[str]]


@lru_cache(4096)  # a reference summary is read for every arm
def tokens(text: str, use_stemmer: bool) -> Tokens:
    """The `words` of a text, those of ASCII stemmed as rouge-score does it: they score as published numbers do."""
    sentences: list[Sequence[str]] = [words(sentence) for sentence in one_sentence_per_line(text).split("\n")]
    if use_stemmer:
        sentences = [[*map(_stem, sentence)] for sentence in sentences]
    every = list(chain.from_iterable(sentences))
    return Tokens(every, Counter(every), sentences)


class Rouge(evaluate.Metric):
    """F1 of each prediction against its reference, 0 to 1: one list per ROUGE type (Lin 2004).

    Tokens are `words`, so that every script has some, in ASCII those of rouge-score. rougeLsum compares sentence
    by sentence and takes one sentence per line, as in the common practice; lines are made here, after
    each sentence's end.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="ROUGE-1, -2, -L and -Lsum F1 per example, as the package rouge-score has them.",
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
        scores: dict[str, list[float]] = {name: [] for name in rouge_types}
        for prediction, reference in zip(predictions, references, strict=True):
            pair = tokens(reference, use_stemmer), tokens(prediction, use_stemmer)
            for name, found in scores.items():
                found.append(_score(name, *pair))
        return scores


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


def _score(rouge_type: str, reference: Tokens, prediction: Tokens) -> float:
    if rouge_type == "rougeL":
        common = common_length(reference.all, places_of(prediction.all), len(prediction.all))
        return _f1(common, len(prediction.all), len(reference.all))
    if rouge_type == "rougeLsum":
        return _f1(_union_of_sentences(reference, prediction), len(prediction.all), len(reference.all))
    n = int(rouge_type.removeprefix("rouge"))
    theirs, ours = (_ngrams(text, n) for text in (reference, prediction))
    common = sum(min(count, ours[gram]) for gram, count in theirs.items() if gram in ours)
    return _f1(common, ours.total(), theirs.total())


def _f1(common: int, predicted: int, referenced: int) -> float:
    return float(fmeasure(common / max(predicted, 1), common / max(referenced, 1)))


def _ngrams(text: Tokens, n: int) -> Counter[Any]:
    return text.counts if n == 1 else Counter(zip(*(text.all[i:] for i in range(n)), strict=False))


def _union_of_sentences(reference: Tokens, prediction: Tokens) -> int:
    """Words of the reference, sentence by sentence, that stand in a longest common subsequence with any sentence of the
    prediction, each counted at most as often as the prediction has it (Lin 2004, section 3.2, as rouge-score)."""
    sentences = [(places_of(sentence), len(sentence)) for sentence in prediction.sentences if sentence]
    left, hits = Counter(prediction.counts), 0
    for sentence in reference.sentences:
        near = [(places, length) for places, length in sentences if not places.keys().isdisjoint(sentence)]
        shared = {i for places, length in near for i in common_indices(sentence, places, length)}
        for i in shared:
            if left[sentence[i]] > 0:
                left[sentence[i]] -= 1
                hits += 1
    return hits
