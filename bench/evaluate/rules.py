"""Trivial rules on preference pairs: what a reward model has to beat to have learned more than a trick."""

import re
from collections.abc import Hashable, Sequence
from typing import Any

from bench.errors import DataError
from bench.evaluate.rouge import rouge_scores
from bench.evaluate.statistics import (
    RESAMPLES,
    effective_counts,
    estimate,
    paired_difference,
    proportion_interval,
    share_test,
)
from bench.evaluate.words import words
from bench.records import PreferencePair

TITLE = re.compile(r"^TITLE:[ \t]*(.*)$", re.MULTILINE)


def pair_scores(chosen: Sequence[float], rejected: Sequence[float]) -> list[float]:
    """Per pair 1 where the chosen summary has the higher number, 0 where the rejected has, 0.5 if equal."""
    return [0.5 if better == worse else float(better > worse) for better, worse in zip(chosen, rejected, strict=True)]


def longer_wins(pairs: Sequence[PreferencePair], lengths: Sequence[tuple[int, int]] | None = None) -> list[float]:
    """Pair scores of "the longer summary wins".

    Args:
        lengths: (chosen, rejected) lengths in the unit of choice, such as tokens; words where not given.
    """
    if lengths is None:
        lengths = [(len(words(pair.chosen)), len(words(pair.rejected))) for pair in pairs]
    if len(lengths) != len(pairs):
        raise DataError(f"longer_wins needs one pair of lengths per pair, got {len(lengths)} for {len(pairs)}")
    return pair_scores([chosen for chosen, _ in lengths], [rejected for _, rejected in lengths])


def title_overlap_wins(pairs: Sequence[PreferencePair], use_stemmer: bool = True) -> list[float]:
    """Pair scores of "the summary with the higher ROUGE-1 F1 to the post's title wins"."""
    titles = [post_title(pair.prompt) for pair in pairs]

    def overlap(summaries: list[str]) -> list[float]:
        return rouge_scores(summaries, titles, use_stemmer, rouge_types=("rouge1",))["rouge1"]

    return pair_scores(overlap([pair.chosen for pair in pairs]), overlap([pair.rejected for pair in pairs]))


def post_title(prompt: str) -> str:
    """What follows "TITLE:" in a TL;DR prompt; in a prompt without one, its first line that is not blank."""
    if match := TITLE.search(prompt):
        return match[1].strip()
    return next((line.strip() for line in prompt.splitlines() if line.strip()), "")


def accuracy(
    scores: Sequence[float], seed: int, resamples: int = RESAMPLES, posts: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Estimate of the share of pairs that a rule or reward model orders as labelled, from its pair scores.

    Args:
        posts: the post of each pair; pairs of one post depend on one another.
    """
    return estimate(proportion_interval(scores, seed, resamples, posts))


def agreement(scores: Sequence[float], other: Sequence[float]) -> list[float]:
    """Per pair 1 where two rules prefer the same summary, 0 if opposite ones, 0.5 if only one ties."""
    return [1.0 - abs(mine - theirs) for mine, theirs in zip(scores, other, strict=True)]


def lead(
    scores: Sequence[float],
    other: Sequence[float],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """Estimate of the accuracy of one rule minus that of another on the same pairs, from their pair scores.

    Also "counts" (`effective_counts` of the pairs for and against it) and "p_value", exact, that there is no lead.
    """
    counts = effective_counts([(1 + a - b) / 2 for a, b in zip(scores, other, strict=True)], posts)
    difference = paired_difference(scores, other, seed, resamples, bounds=(-1, 1), posts=posts)
    return estimate(difference) | {"counts": counts._asdict(), "p_value": share_test(counts)}
