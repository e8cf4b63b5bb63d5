"""How much of a summary is taken from its post, word for word, and how much it shortens (Grusky et al. 2018, Newsroom);
how varied summaries are (Li et al. 2016).

A word is a run of letters and digits in lower case; the papers' tokens contain punctuation too, so that absolute values
are not theirs.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache

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
    holders: Counter[Hashable] = Counter()
    for summary in summaries:
        holders.update(set(_ngrams(summary, n)))
    of_one = {gram for gram, count in holders.items() if count == 1}
    n_distinct, n_words = len(holders), sum(map(len, summaries))
    if len(summaries) < 2 or not all(n_words - len(summary) for summary in summaries):
        return [n_distinct / n_words if n_words else None for _ in summaries]
    without = [
        (n_distinct - len(of_one.intersection(_ngrams(summary, n)))) / (n_words - len(summary)) for summary in summaries
    ]
    mean = sum(without) / len(without)
    return [n_distinct / n_words + (len(summaries) - 1) * (mean - one) for one in without]


def _ngrams(words: Words, n: int) -> Iterable[Hashable]:
    return words if n == 1 else zip(*(words[i:] for i in range(n)), strict=False)
