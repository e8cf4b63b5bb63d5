"""Numbers and names in a summary that its post does not contain: what may be invented, found by rules of our own.

No entity recogniser is shipped with the project, and none agrees with another on forum posts; these rules are stated
whole, so that a reader can tell what a share means. They see words and not meaning: a sum worked out from the post's
numbers counts as invented, a number of the post put in the wrong place does not.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

# No digit or point before it. The first digit is looked for first, which takes a text without digits no time.
_NUMERAL = re.compile(r"(\d(?<![\d.]\d)(?:\d{0,2}(?:,\d{3})+|\d*))(\.\d+)?(k\b)?", re.IGNORECASE)
_UNITS: dict[str, int] = dict(zip("one two three four five six seven eight nine".split(), range(1, 10), strict=True))
_TEENS: dict[str, int] = dict(
    zip(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(),
        range(10, 20),
        strict=True,
    )
)
_TENS: dict[str, int] = dict(
    zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True)
)
_VALUES = _UNITS | _TEENS | _TENS
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}
_ORDINALS: dict[str, int] = dict(
    zip("first second third fourth fifth sixth seventh eighth ninth tenth".split(), range(1, 11), strict=True)
)
_LOOSE: dict[str, int] = {"once": 1, "single": 1, "couple": 2, "both": 2, "twice": 2, "pair": 2, "dozen": 12}
"""A post that says so supports the number; in a summary they claim none."""
_SUPPORTING = _ORDINALS | _LOOSE | {"one": 1}
_COUNTS = _VALUES.keys() | _SCALES.keys()
"""Without one of these there is no number in words."""
_LETTERS = re.compile(r"[a-z]+")

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_ASCII_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;,…\n\"“(\[*/>-])\s*$")
_NO_NAMES = frozenset("i'm i've i'll i'd im ive idk edit update".split())
_ENDING = re.compile(r"(?:'?s|')$")
_CURLED = "\N{RIGHT SINGLE QUOTATION MARK}"


def novel_numbers(summary: str, source: str) -> set[float]:
    """The numbers of the summary that are not among the source's, whether in digits or in words.

    Digits: `1,000`, `3.5`, `20k`; what is glued to them (`24F`, `2nd`, `$5`, `10:30`) is cut off. Words: `two` to
    `ninety-nine`, with `hundred`, `thousand`, `million` behind them; `one` alone is a pronoun too often to claim
    anything. In the source ordinals (`second`) and `once`, `couple`, `both`, `dozen` support their number.
    """
    told = {*_numerals(summary), *_numbers_in_words(_LETTERS.findall(summary.lower()))}
    return told - _supported(source) if told else told


@lru_cache(512)
def _supported(source: str) -> set[float]:
    words = _LETTERS.findall(source.lower())
    return {
        *_numerals(source),
        *_numbers_in_words(words),
        *(_SUPPORTING[word] for word in words if word in _SUPPORTING),
    }


def novel_names(summary: str, source: str) -> set[str] | None:
    """The words of the summary that look like parts of a name and are not among the source's.

    A word looks like one if it starts with a capital inside a sentence and is not all capitals, which are shouting and
    forum shorthand (`SO`, `GF`) as often as names. A plural or genitive s and the case make no other word. None where
    capitals tell nothing: half of the words or more have one, as in a title.
    """
    summary = summary.replace(_CURLED, "'")
    words = list(_words_of(summary).finditer(summary))
    if words and 2 * sum(word[0][0].isupper() for word in words) >= len(words):
        return None
    names = {word[0] for word in words if _looks_like_name(word, summary)}
    return {name for name in names if _plain(name) not in _known(source)} if names else names


@lru_cache(512)
def _known(source: str) -> set[str]:
    source = source.replace(_CURLED, "'")
    return {_plain(word) for word in set(_words_of(source).findall(source))}


def _words_of(text: str) -> re.Pattern[str]:
    return _ASCII_WORD if text.isascii() else _WORD


def _looks_like_name(word: re.Match[str], text: str) -> bool:
    if not word[0][0].isupper() or word[0].isupper() or word[0].lower() in _NO_NAMES:
        return False
    return _SENTENCE_START.search(text[: word.start()]) is None


def _plain(word: str) -> str:
    word = word.lower()
    return _ENDING.sub("", word) if word[-1] in "s'" else word


def _numerals(text: str) -> Iterator[float]:
    for whole, fraction, thousands in _NUMERAL.findall(text):
        yield float(whole.replace(",", "") + fraction) * (1000 if thousands else 1)


def _numbers_in_words(words: Sequence[str]) -> Iterator[float]:
    """The numbers written in words, those above 99 only if they are round: `two hundred`, and not what follows it."""
    if _COUNTS.isdisjoint(words):
        return
    i = 0
    while i < len(words):
        word, following = words[i], words[i + 1] if i + 1 < len(words) else ""
        value = _VALUES.get(word)
        if value is None and word != "a":
            i += 1
            continue
        if word in _TENS and following in _UNITS:
            value, i = _TENS[word] + _UNITS[following], i + 1
            following = words[i + 1] if i + 1 < len(words) else ""
        if following in _SCALES and (value is not None or word == "a"):
            yield float((value or 1) * _SCALES[following])
            i += 1
        elif value is not None and word != "one":
            yield float(value)
        i += 1
