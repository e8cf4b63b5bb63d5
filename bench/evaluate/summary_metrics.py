"""What is measured of summaries beside ROUGE: one table, from which `evaluation.metrics` chooses by name.

To add a metric, write its function and add its row: the run measures it of every arm, and the report shows it by the
row's words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.data.prompts import split_prompt
from bench.evaluate import extractive, faithfulness
from bench.evaluate.rouge import one_sentence_per_line
from bench.evaluate.rules import TITLE
from bench.evaluate.statistics import RESAMPLES, bootstrap_mean, estimate, proportion_interval
from bench.evaluate.words import words

if TYPE_CHECKING:
    from bench.evaluate.text_models import TextModels


@dataclass(frozen=True)
class Summary:
    """A summary and what its writer could read: the title and the post as the prompt has them, cut where it is cut."""

    text: str
    source: str

    @classmethod
    def of(cls, prompt: str, text: str) -> "Summary":
        parts = split_prompt(prompt)
        title = TITLE.search(parts.head)
        source = f"{title[1]}\n{parts.post}" if title else parts.post
        return cls(text, source if parts.post else prompt)


Values = list[float | None]
Measure = Callable[[Sequence[Summary], "TextModels"], Values]
"""One value per summary, whose mean is the metric; None where it does not apply."""


@dataclass(frozen=True)
class Each:
    """A metric that takes a summary by itself. All such metrics of a summary are measured before the next one is read:
    what is known of its post is then still at hand."""

    of: Callable[[Summary], float | None]

    def __call__(self, rows: Sequence[Summary], models: "TextModels") -> Values:
        return [self.of(row) for row in rows]


@dataclass(frozen=True)
class Metric:
    """What is measured, how, and how a reader is told.

    Attributes:
        unit: `share` for what lies between 0 and 1 and is shown in per cent.
        note: what the title leaves open.
        model: the setting (`evaluation.<model>`) that names the model it needs; such metrics are off by default.
    """

    title: str
    unit: Literal["share", "number"]
    measure: Measure
    note: str = ""
    model: str = ""


def of_words(measure: Callable[..., float | None], *args: int) -> Measure:
    """A metric of the summary's words and its source's."""
    return Each(lambda row: measure(words(row.text), words(row.source), *args))


def _has_novel_number(row: Summary) -> float:
    return float(bool(faithfulness.novel_numbers(row.text, row.source)))


def _has_novel_name(row: Summary) -> float | None:
    names = faithfulness.novel_names(row.text, row.source)
    return None if names is None else float(bool(names))


def _distinct(n: int) -> Measure:
    return lambda rows, models: extractive.distinct_ngrams([words(row.text) for row in rows], n)


def _similarity(rows: Sequence[Summary], models: "TextModels") -> Values:
    return _where_there_is_text(
        rows, lambda told: models.similarities([row.text for row in told], [row.source for row in told])
    )


def _entailed(rows: Sequence[Summary], models: "TextModels") -> Values:
    """Per summary the mean, over its sentences, of the largest probability that a sentence of the post entails it."""

    def measure(told: Sequence[Summary]) -> list[float]:
        pairs = [
            (i, j, premise, hypothesis)
            for i, row in enumerate(told)
            for j, hypothesis in enumerate(_sentences(row.text))
            for premise in _sentences(row.source)
        ]
        best: list[dict[int, float]] = [{} for _ in told]
        entailed = models.entailments([pair[2] for pair in pairs], [pair[3] for pair in pairs])
        for (i, j, _, _), probability in zip(pairs, entailed, strict=True):
            best[i][j] = max(best[i].get(j, 0.0), probability)
        return [sum(of_sentence.values()) / len(of_sentence) for of_sentence in best]

    return _where_there_is_text(rows, measure)


METRICS: dict[str, Metric] = {
    "novel_numbers": Metric(
        "names a number that the post lacks", "share", Each(_has_novel_number), "by rule, in digits or words"
    ),
    "novel_names": Metric(
        "names someone or something that the post lacks", "share", Each(_has_novel_name), "by rule: capitals"
    ),
    "coverage": Metric(
        "extractive coverage", "share", of_words(extractive.coverage), "words in runs that the post has too"
    ),
    "density": Metric(
        "extractive density", "number", of_words(extractive.density), "mean length of a word's run, in words"
    ),
    "compression": Metric(
        "compression", "number", of_words(extractive.compression), "words of the post for one of the summary"
    ),
    "novel_bigrams": Metric("novel 2-grams", "share", of_words(extractive.novel_ngrams, 2), "not in the post"),
    "novel_trigrams": Metric("novel 3-grams", "share", of_words(extractive.novel_ngrams, 3), "not in the post"),
    "distinct_1": Metric("distinct-1", "share", _distinct(1), "distinct words over words, of all summaries"),
    "distinct_2": Metric("distinct-2", "share", _distinct(2), "distinct 2-grams over words, of all summaries"),
    "embedding": Metric(
        "similarity to the post", "number", _similarity, "cosine of sentence embeddings", "embedding_model"
    ),
    "nli": Metric(
        "entailed by the post",
        "number",
        _entailed,
        "SummaC-ZS: per sentence the likeliest sentence of the post",
        "nli_model",
    ),
}
"""Sources: Grusky et al. 2018 (coverage, density, compression), See et al. 2017 (novel n-grams), Li et al. 2016
(distinct-n), Laban et al. 2022 (nli); novel numbers and names are rules of this project (`faithfulness`)."""

DEFAULT_METRICS = tuple(name for name, metric in METRICS.items() if not metric.model)


def summary_estimates(
    rows: Sequence[Summary], names: Sequence[str], models: "TextModels", seed: int, resamples: int = RESAMPLES
) -> dict[str, dict[str, Any]]:
    """Metric -> estimate over the summaries that it applies to; with none of them its value is None."""
    values = _values(names, rows, models)
    return {name: _estimate(METRICS[name], values[name], seed, resamples) for name in names}


def check_models(names: Sequence[str], models: "TextModels") -> None:
    """Find out whether the models that the metrics need are to be had; raises what `TextModels.check` does."""
    for name in names:
        if METRICS[name].model:
            models.check(METRICS[name].model)


def descriptions(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What a reader of the estimates needs to show them: metric -> title, unit, note."""
    return {name: {field: getattr(METRICS[name], field) for field in ("title", "unit", "note")} for name in names}


def _values(names: Sequence[str], rows: Sequence[Summary], models: "TextModels") -> dict[str, Values]:
    alone = {name: measure.of for name in names if isinstance(measure := METRICS[name].measure, Each)}
    table = [[of(row) for of in alone.values()] for row in rows]
    found: dict[str, Values] = {name: [row[place] for row in table] for place, name in enumerate(alone)}
    return found | {name: METRICS[name].measure(rows, models) for name in names if name not in alone}


def _estimate(metric: Metric, values: Values, seed: int, resamples: int) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    if not there:
        return {"value": None, "ci95": None, "n": 0}
    interval = proportion_interval if metric.unit == "share" else bootstrap_mean
    return estimate(interval(there, seed, resamples))


def _where_there_is_text(rows: Sequence[Summary], measure: Callable[[Sequence[Summary]], list[float]]) -> Values:
    """The values of the rows that have words; None for the others."""
    has_words = [bool(words(row.text)) for row in rows]
    values = iter(measure([row for row, has in zip(rows, has_words, strict=True) if has]))
    return [next(values) if has else None for has in has_words]


def _sentences(text: str) -> list[str]:
    return [line for line in one_sentence_per_line(text).splitlines() if line.strip()]
