"""How much of a summary is taken from its post, word for word, and how much it shortens (Grusky et al. 2018, Newsroom);
how varied summaries are (Li et al. 2016).

A word is a run of letters and digits in lower case; the papers' tokens contain punctuation too, so that absolute values
are not theirs.
"""

from collections import Counter
from collections.abc import Sequence

Words = Sequence[str]


def fragments(summary: Words, source: Words) -> list[int]:
    """Lengths of the extractive fragments F(A, S): from each word of the summary on, the longest run that the source
    has too; the next one starts behind it (Grusky et al. 2018, section 4)."""
    places: dict[str, list[int]] = {}
    for j, word in enumerate(source):
        places.setdefault(word, []).append(j)
    lengths, i = [], 0
    while i < len(summary):
        length = max((_shared_run(summary, i, source, j) for j in places.get(summary[i], ())), default=0)
        if length:
            lengths.append(length)
        i += max(length, 1)
    return lengths


def _shared_run(a: Words, i: int, b: Words, j: int) -> int:
    length = 0
    while i + length < len(a) and j + length < len(b) and a[i + length] == b[j + length]:
        length += 1
    return length


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
    own = _ngrams(summary, n)
    known = set(_ngrams(source, n))
    return sum(gram not in known for gram in own) / len(own) if own else None


def distinct_ngrams(summaries: Sequence[Words], n: int) -> list[float | None]:
    """Distinct-n of all summaries together, distinct n-grams over words (Li et al. 2016), as one value per summary.

    Their mean is distinct-n, and their variance that of its jackknife: D + (N - 1) (mean of D without one - D without
    this one), where N counts the summaries. A jackknife's interval errs on the wide side (Efron & Stein 1981).
    Distinct-n falls as summaries get longer or more of them are taken, so that it compares arms of one length on the
    same posts. None throughout where there are no words.
    """
    grams = [_ngrams(summary, n) for summary in summaries]
    holders = Counter(gram for own in grams for gram in set(own))
    n_distinct, n_words = len(holders), sum(map(len, summaries))
    if len(summaries) < 2 or not all(n_words - len(summary) for summary in summaries):
        return [n_distinct / n_words if n_words else None for _ in summaries]
    without = [
        (n_distinct - sum(holders[gram] == 1 for gram in set(own))) / (n_words - len(summary))
        for own, summary in zip(grams, summaries, strict=True)
    ]
    mean = sum(without) / len(without)
    return [n_distinct / n_words + (len(summaries) - 1) * (mean - one) for one in without]


def _ngrams(words: Words, n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
