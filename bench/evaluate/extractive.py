"""How much of a summary is taken from its post, word for word, and how much it shortens (Grusky et al. 2018, Newsroom);
how varied summaries are (Li et al. 2016).

A word is a run of letters and digits in lower case; the papers' tokens contain punctuation too, so that absolute values
are not theirs.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bench.evaluate.lcs import places_of

Words = Sequence[str]


def fragments(summary: Words, source: Words) -> list[int]:
    """Lengths of the extractive fragments F(A, S): from each word of the summary on, the longest run that the source
    has too; the next one starts behind it (Grusky et al. 2018, section 4)."""
    return list(_fragments(tuple(summary), tuple(source)))


@lru_cache(16)  # coverage and density are made of the same ones
def _fragments(summary: tuple[str, ...], source: tuple[str, ...]) -> tuple[int, ...]:
    places, lengths, i = _places(summary, source), [], 0
    while i < len(places):
        start, ends = i, places[i]  # where in the source the run from `start` on ends
        while ends:
            i += 1
            ends = ends << 1 & places[i] if i < len(places) else 0
        if i > start:
            lengths.append(i - start)
        else:
            i += 1
    return tuple(lengths)


@lru_cache(16)
def _places(summary: tuple[str, ...], source: tuple[str, ...]) -> list[int]:
    """Of each word of the summary its places in the source, in the bits of a number."""
    places = places_of(source, among=set(summary))
    return [places.get(word, 0) for word in summary]


def coverage(summary: Words, source: Words) -> float | None:
    """Share of the summary's words in extractive fragments, 0 to 1: sum |f| / |S|. None for an empty summary."""
    return sum(fragments(summary, source)) / len(summary) if summary else None


def density(summary: Words, source: Words) -> float | None:
    """Mean length of the fragment that a word of the summary belongs to, from 0: sum |f|^2 / |S|."""
    return sum(length**2 for length in fragments(summary, source)) / len(summary) if summary else None


def compression(summary: Words, source: Words) -> float | None:
    """Words of the source for one of the summary: |A| / |S|."""
    return len(source) / len(summary) if summary else None


def novel_ngrams(summary: Words, source: Words, n: int) -> float | None:
    """Share of the summary's n-grams that the source does not have, 0 to 1; None where the summary has no n words."""
    places = _places(tuple(summary), tuple(source))
    ends: Sequence[int] = places  # where in the source the n-gram that starts at each word ends
    for k in range(1, n):
        ends = [end << 1 & place for end, place in zip(ends, places[k:], strict=False)]
    return ends.count(0) / len(ends) if ends else None


def distinct_ngrams(summaries: Sequence[Words], n: int) -> list[float | None]:
    """Distinct-n of all summaries together, distinct n-grams over words (Li et al. 2016), as one value per summary.

    Their mean is distinct-n, and their variance that of its jackknife: D + (N - 1) (mean of D without one - D without
    this one), where N counts the summaries. A jackknife's interval errs on the wide side (Efron & Stein 1981).
    Distinct-n falls as summaries get longer or more of them are taken, so that it compares arms of one length on the
    same posts. None throughout where there are no words.
    """
    lengths = np.array([len(summary) for summary in summaries])
    n_words = int(lengths.sum())
    n_distinct, alone = _distinct_and_alone(summaries, lengths, n)
    if len(summaries) < 2 or not (n_words - lengths).all():
        return [n_distinct / n_words if n_words else None for _ in summaries]
    without = (n_distinct - alone) / (n_words - lengths)
    return (n_distinct / n_words + (len(summaries) - 1) * (without.mean() - without)).tolist()


def _distinct_and_alone(summaries: Sequence[Words], lengths: np.ndarray, n: int) -> tuple[int, np.ndarray]:
    """How many n-grams there are in all, and of each summary how many no other one has: by numbers in place of words,
    for all summaries at once."""
    number: dict[str, int] = {}
    words = np.array([number.setdefault(word, len(number)) for summary in summaries for word in summary], np.int64)
    owner = np.repeat(np.arange(len(summaries)), lengths)
    grams, whole = words, np.ones(len(words), bool)
    for k in range(1, n):
        # Numbered anew, so that they stay small however long the n-grams are.
        grams = np.unique(grams[:-1] * len(number) + words[k:], return_inverse=True)[1]
        whole = whole[:-1] & (owner[k:] == owner[: len(owner) - k])
    # Sorted by n-gram and summary: a run of one n-gram that begins and ends with the same summary is that one's alone.
    gram, owner = np.divmod(np.sort((grams * (len(summaries) + 1) + owner[: len(grams)])[whole]), len(summaries) + 1)
    first, last = owner[np.diff(gram, prepend=-1) != 0], owner[np.diff(gram, append=-1) != 0]
    return len(first), np.bincount(first[first == last], minlength=len(summaries))
