"""Coverage, density, compression and n-grams against numbers counted by hand and slow plain versions."""

import random
import statistics

import pytest

from bench.evaluate.extractive import compression, coverage, density, distinct_ngrams, fragments, novel_ngrams

SOURCE = "my sister sold my old guitar at the party last night".split()
SUMMARY = "my sister lost my old guitar last night".split()
"""Fragments: "my sister" (2), "my old guitar" (3), "last night" (2); "lost" is in none. 8 words of 11."""


def test_grusky_by_hand():
    assert fragments(SUMMARY, SOURCE) == [2, 3, 2]
    assert coverage(SUMMARY, SOURCE) == 7 / 8
    assert density(SUMMARY, SOURCE) == (4 + 9 + 4) / 8
    assert compression(SUMMARY, SOURCE) == 11 / 8


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (SOURCE, (1.0, 11.0, 1.0)),  # all of it: one fragment, whose length is that of the text
        ("he ran".split(), (0.0, 0.0, 5.5)),
        ([], (None, None, None)),
    ],
)
def test_extremes(summary, expected):
    assert (coverage(summary, SOURCE), density(summary, SOURCE), compression(summary, SOURCE)) == expected


def test_the_longest_run_is_taken_wherever_it_starts():
    assert fragments("a a b".split(), "a a a b".split()) == [3]
    assert fragments("a b c".split(), "a b x b c".split()) == [2, 1]  # greedy: "b c" is not looked for any more


def plain_fragments(summary, source):
    """Every run of the summary that starts at i, the longest first, looked for in the source as text."""
    lengths, i = [], 0
    text = f" {' '.join(source)} "
    while i < len(summary):
        runs = (summary[i:j] for j in range(len(summary), i, -1))
        length = next((len(run) for run in runs if f" {' '.join(run)} " in text), 0)
        lengths += [length] if length else []
        i += max(1, length)
    return lengths


def test_random_texts_of_few_words():
    rng = random.Random(0)
    for _ in range(300):
        source, summary = (rng.choices("a b c d".split(), k=rng.randint(0, n)) for n in (25, 10))
        assert fragments(summary, source) == plain_fragments(summary, source)


def test_novel_ngrams_are_occurrences():
    """2-grams: my sister, sister lost*, lost my*, my old, old guitar, guitar last*, last night: 3 of 7 are new."""
    assert novel_ngrams(SUMMARY, SOURCE, 2) == 3 / 7
    assert novel_ngrams("no no no".split(), SOURCE, 1) == 1.0
    assert novel_ngrams(["sister"], SOURCE, 2) is None


def plain_distinct(summaries, n):
    grams = {tuple(words[i : i + n]) for words in summaries for i in range(len(words) - n + 1)}
    return len(grams) / sum(map(len, summaries))


def test_distinct_n_and_its_jackknife():
    """The mean is distinct-n itself, and the variance of the mean the jackknife's, from N recomputations."""
    rng = random.Random(1)
    summaries = [rng.choices("a b c d e f".split(), k=rng.randint(1, 8)) for _ in range(12)]
    for n in (1, 2):
        values = distinct_ngrams(summaries, n)
        without = [plain_distinct(summaries[:i] + summaries[i + 1 :], n) for i in range(12)]
        jackknife = 11 / 12 * sum((one - statistics.mean(without)) ** 2 for one in without)

        assert statistics.mean(values) == pytest.approx(plain_distinct(summaries, n))  # pyright: ignore[reportArgumentType]
        assert statistics.variance(values) / 12 == pytest.approx(jackknife)  # pyright: ignore[reportArgumentType]


def test_distinct_n_by_hand():
    """Five words, of which "a", "b", "c" are distinct; 2-grams "a b", "b a" and "c a", all distinct."""
    summaries = [["a", "b", "a"], ["c", "a"]]
    assert statistics.mean(distinct_ngrams(summaries, 1)) == pytest.approx(3 / 5)  # pyright: ignore[reportArgumentType]
    assert statistics.mean(distinct_ngrams(summaries, 2)) == pytest.approx(3 / 5)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("summaries", "expected"), [([[], []], [None, None]), ([["a", "a"]], [0.5]), ([["a", "a"], []], [0.5, 0.5])]
)
def test_distinct_n_where_no_summary_can_be_left_out(summaries, expected):
    assert distinct_ngrams(summaries, 1) == expected


def test_the_jackknife_covers():
    """Distinct-2 of 64 texts of Zipf words: how often its interval holds the mean over many such samples."""
    rng = random.Random(2)
    words, weights = [str(i) for i in range(1000)], [1 / (i + 5) for i in range(1000)]

    def sample() -> list[float]:
        return distinct_ngrams([rng.choices(words, weights, k=rng.randint(5, 20)) for _ in range(64)], 2)  # pyright: ignore[reportReturnType]

    draws = [sample() for _ in range(200)]
    truth = statistics.mean(statistics.mean(values) for values in draws)
    errors = [(statistics.mean(values) - truth) / (statistics.variance(values) / 64) ** 0.5 for values in draws]

    assert sum(abs(error) < 1.96 for error in errors) / 200 > 0.9  # 95 % but for 200 draws' chance (sd 1.5 %)
