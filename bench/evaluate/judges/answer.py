"""What a language model's answer says, or that it says nothing clear. The only text that is parsed is the answer."""

import json
import re
from typing import Any

from bench.records import VerdictLabel

_NAMES = ("preferred", "verdict", "answer")
_LABEL = rf"(?:{'|'.join(_NAMES)})"
_DECORATION = r"[\s\"'\u201c\u201d\u2018\u2019`*_()\[\]<>.,!]*"
_LETTER = rf"{_DECORATION}(?:summary\b{_DECORATION})?(?P<letter>[ab]){_DECORATION}"

_LABEL_ALONE = re.compile(rf"(\b{_LABEL}{_DECORATION}:[ \t*_`]*)[\r\n]+", re.IGNORECASE)
_STARTS_WITH_LABEL = re.compile(rf"{_DECORATION}{_LABEL}{_DECORATION}:", re.IGNORECASE)
_ENDS_WITH_LABEL = re.compile(rf"\b{_LABEL}{_DECORATION}:{_LETTER}$", re.IGNORECASE)
_BARE = re.compile(_LETTER, re.IGNORECASE)
_CODE_BLOCK = re.compile(r"\s*```\w*\n(?P<content>.*)\n```\s*", re.DOTALL)


def parse_answer(answer: str) -> VerdictLabel:
    """ "a" or "b" where the answer names one summary and only one, "unparsed" otherwise; never a guess.

    The first of these rules that applies decides:
    1. What stands before `</think>` is not read; a thought without an end is no answer.
    2. A JSON object, alone or as the last line: its key preferred, verdict or answer holds the letter.
    3. Labels: lines that begin with `Preferred:` (or Verdict:, Answer:), or end with it and a letter. Each must name
       one letter, there or on the next line, and the last decides unless an earlier one names the other.
    4. The last line, where it is nothing but the letter and no other such line names the other.

    The letter may be in either case, in quotes, brackets or Markdown, with a full stop, or after the word "summary".
    """
    answer = answer.rpartition("</think>")[2]
    if "<think>" in answer:
        return "unparsed"
    if (block := _CODE_BLOCK.fullmatch(answer)) is not None:
        answer = block["content"]
    lines = [line for line in _LABEL_ALONE.sub(r"\1 ", answer).splitlines() if line.strip()]
    if not lines:
        return "unparsed"
    for text in (answer, lines[-1]):
        if text.lstrip().startswith("{"):
            return _only(_json_letters(text))
    if labels := [letter for line in lines for letter in _labelled(line)]:
        return _only(labels)
    if _bare(lines[-1]) is None:
        return "unparsed"
    return _only([letter for line in lines if (letter := _bare(line)) is not None])


def _labelled(line: str) -> list[str | None]:
    """The letter that a label line names (None where it names none, or both); empty where there is no label."""
    if (start := _STARTS_WITH_LABEL.match(line)) is not None:
        return [_bare(line[start.end() :])]
    if (end := _ENDS_WITH_LABEL.search(line)) is not None:
        return [end["letter"].lower()]
    return []


def _bare(text: str) -> str | None:
    match = _BARE.fullmatch(text)
    return match["letter"].lower() if match is not None else None


def _json_letters(text: str) -> list[str | None]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)  # pairs: a key that is there twice shows
    except (ValueError, RecursionError):
        return []
    return [_bare(value) if isinstance(value, str) else None for key, value in pairs if key.lower() in _NAMES]


def _only(letters: list[Any]) -> VerdictLabel:
    """The letter that all of them are."""
    if set(letters) == {"a"}:
        return "a"
    return "b" if set(letters) == {"b"} else "unparsed"
