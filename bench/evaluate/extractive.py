"""How much of a summary is taken from its post, word for word, and how much it shortens (Grusky et al. 2018, Newsroom);
how varied summaries are (Li et al. 2016).

A word is a run of letters and digits in lower case; the papers' tokens contain punctuation too, so that absolute values
are not theirs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from bench.evaluate.lcs import Places, places_of

Words = Sequence[str]
_places = lru_cache(512)(places_of)  # a post is asked for every metric, and again for every arm


def fragments(summary: Words, source: Words) -> list[int]:
    """Lengths of the extractive fragments F(A, S): from each word of the summary on, the longest run that the source
    has too; the next one starts behind it (Grusky et al. 2018, section 4)."""
    return list(_fragments(tuple(summary), tuple(source)))


@lru_cache(16)  # coverage and density are made of the same ones
def _fragments(summary: tuple[str, ...], source: tuple[str, ...]) -> tuple[int, ...]:
    places, lengths, i = _places(source), [], 0
    while i < len(summary):
        start, ends = i, places.get(summary[i], 0)  # where in the source the run from `start` on ends
        while ends:
            i += 1
            ends = ends << 1 & places.get(summary[i], 0) if i < len(summary) else 0
        if i > start:
            lengths.append(i - start)
        else:
            i += 1
    return tuple(lengths)


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
    own, places = list(_ngrams(summary, n)), _places(tuple(source))
    return sum(not _is_there(gram, places) for gram in own) / len(own) if own else None


def _is_there(gram: Words, places: Places) -> bool:
    ends = places.get(gram[0], 0)
    for word in gram[1:]:
        ends = ends << 1 & places.get(word, 0)
    return ends != 0


def distinct_ngrams(summaries: Sequence[Words], n: int) -> list[float | None]:
    """Distinct-n of all summaries together, distinct n-grams over words (Li et al. 2016), as one value per summary.

    Their mean is distinct-n, and their variance that of its jackknife: D + (N - 1) (mean of D without one - D without
    this one), where N counts the summaries. A jackknife's interval errs on the wide side (Efron & Stein 1981).
    Distinct-n falls as summaries get longer or more of them are taken, so that it compares arms of one length on the
    same posts. None throughout where there are no words.
    """
    holders = Counter(gram for summary in summaries for gram in set(_ngrams(summary, n)))
    n_distinct, n_words = len(holders), sum(map(len, summaries))
    if len(summaries) < 2 or not all(n_words - len(summary) for summary in summaries):
        return [n_distinct / n_words if n_words else None for _ in summaries]
    without = [
        (n_distinct - sum(holders[gram] == 1 for gram in set(_ngrams(summary, n)))) / (n_words - len(summary))
        for summary in summaries
    ]
    mean = sum(without) / len(without)
    return [n_distinct / n_words + (len(summaries) - 1) * (mean - one) for one in without]


def _ngrams(words: Words, n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)
