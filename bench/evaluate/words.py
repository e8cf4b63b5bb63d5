"""What a word is, in any script: for ROUGE, lengths, "the longer one wins", copying and repetition alike."""

import re
import unicodedata
from functools import cache, lru_cache

_ASCII_WORD = re.compile(r"[a-z0-9]+")
# Scripts that put no space between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han (with its later planes).
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_JOINERS = "\u200c\u200d"
_VARIATION = range(0xFE00, 0xFE10)  # say how a character is drawn


@lru_cache(1024)  # what is measured of one text asks again and again
def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case: runs of letters, their marks and digits.

    In scripts that put no space between words each character is one, as in published ROUGE of Chinese. Words of
    ASCII are those of the package rouge-score; a letter beyond ASCII, which that takes for a space, is a letter here.
    """
    text = spelt(text)
    return tuple((_ASCII_WORD if text.isascii() else _any_word()).findall(text))


def spelt(text: str) -> str:
    """The text as its words are spelt: each of them stands in it."""
    text = text.lower()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@cache
def _any_word() -> re.Pattern[str]:
    letters, marks = [], []
    for code in range(0x20000):
        category = unicodedata.category(chr(code))
        if category[0] == "L" or category == "Nd":
            letters.append(code)
        elif category in ("Mn", "Mc") and code not in _VARIATION:
            marks.append(code)
    mark = f"[{_ranges(marks)}{_JOINERS}]"
    spaced = f"(?:(?![{_UNSPACED}])[{_ranges(letters)}])"
    return re.compile(f"(?=[{_ranges(letters)}{_UNSPACED}])[{_UNSPACED}]{mark}*|{spaced}(?:{spaced}|{mark})*")


def _ranges(codes: list[int]) -> str:
    """Ascending code points as the inside of a character class."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in runs)
