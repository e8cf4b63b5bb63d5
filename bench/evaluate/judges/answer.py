"""What a language model's answer says, or that it says nothing clear. The only text that is parsed is the answer."""

import json
import math
import re
from typing import Literal

from bench.evaluate.judges.cache import KeptAnswer
from bench.records import VerdictLabel

Said = Literal["a", "b", "tie"] | None
"""What one statement says: a verdict, or None where it is about the verdict and names none, or several."""

_LABEL = (
    r"(?:(?:my|the|your|final|overall)\s+){0,3}"
    r"(?:preferred|preference|verdict|answer|winner|choice|decision|judge?ment|better|best)"
    r"(?:\s+(?:summary|answer|choice|option|one|verdict))?"
)
_DECORATION = r"[\s\"'\u201c\u201d\u2018\u2019`*_()\[\]<>.,!]*"
_SUMMARY = rf"{_DECORATION}(?:summary(?:_|\b{_DECORATION}))?"
_SIDE = r"(?P<side>[ab]|(?:a\s+)?(?:tie|tied|draw)|equal)"
_REASON = r"(?:because|since|as\b|due to)"

_ALONE = re.compile(rf"{_SUMMARY}{_SIDE}{_DECORATION}", re.IGNORECASE)
_EXPLAINED = re.compile(
    rf"{_SUMMARY}{_SIDE}[\"'\u201d\u2019`*_)\]>]*"
    rf"(?:\s*[-,;:.\u2013\u2014]*\s*(?={_REASON})|\s*[\u2013\u2014]\s*|\s*[-:;.]\s+|\s*\()(?P<why>.*)",
    re.IGNORECASE | re.DOTALL,
)
_REASONED = re.compile(rf"[^\w\n]*[AB]\b\W*(?={_REASON})")
_LABEL_ALONE = re.compile(rf"(\b{_LABEL}{_DECORATION}:[ \t*_`]*)[\r\n]+", re.IGNORECASE)
_LABEL_IN_LINE = re.compile(rf"(?<=[.!?;])[ \t]+(?=[*_\"]*{_LABEL}{_DECORATION}:)", re.IGNORECASE)
_STARTS_WITH_LABEL = re.compile(rf"[#\-]*{_DECORATION}{_LABEL}{_DECORATION}(?:[:=]|(?P<is>\bis\b):?)", re.IGNORECASE)
# Not behind a quotation mark: that is a quotation, or JSON that broke off.
_ENDS_WITH_LABEL = re.compile(
    rf"(?<![\w\"'\u201c\u2018]){_LABEL}{_DECORATION}:(?P<said>{_SUMMARY}{_SIDE}{_DECORATION})$", re.IGNORECASE
)
_OBJECT_BEGINS = re.compile(rf"^(?:[*_#> \t]*{_LABEL}[*_ \t]*:)?[*_ \t]*\{{", re.IGNORECASE | re.MULTILINE)
_OBJECT_KEY = re.compile(_LABEL, re.IGNORECASE)
_BOXED = re.compile(r"\$*\\boxed\{(?:\\\w+\{)?(?P<said>[^{}]*)\}+\$*")
_TAGGED = re.compile(rf"<(?P<tag>{_LABEL.replace(chr(92) + 's+', '[ _]')})>(?P<said>[^<]*)</(?P=tag)>", re.IGNORECASE)

_THOUGHT = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis)"
_THOUGHT_BEGINS = re.compile(rf"<{_THOUGHT}\s*>|\[THINK\]|\u25c1think\u25b7|<\|channel\|>", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(
    rf"</{_THOUGHT}\s*>|\[/THINK\]|\u25c1/think\u25b7|<\|channel\|>final<\|message\|>", re.IGNORECASE
)
_END_OF_TURN = re.compile(
    r"(?:(?:</?s>|<\|\w+\|>|<\uff5c[^>\n]*\uff5c>|</?(?:eos|bos|pad)>|<(?:start|end)_of_turn>)[ \t]*)+$", re.MULTILINE
)
_ECHO = re.compile(r'Preferred: "A"\s+or\s+Preferred: "B"(?:\s+or, [^\n"]*\s+Preferred: "tie")?')
"""The answer format, repeated by a model before it answers."""

_TAKEN_BACK = re.compile(
    r"\b(?:wait|hmm+|actually|on second thoughts?|scratch that|correction|just kidding|not sure|unsure|uncertain"
    r"|(?:cannot|can't|unable to|hard to|difficult to) (?:decide|choose|say|tell|judge)"
    r"|n?either (?:summary|one|is|of|would|could|will)|equally|toss-?up|tied?)\b",
    re.IGNORECASE,
)
_BEGINS_TO_TAKE_BACK = re.compile(r"\W*(?:no|not|or|and|but)\b", re.IGNORECASE)
_BETTER = r"(?:better|best|preferred|preferable|superior|stronger|the winner)"
_FEWEST_WORDS = 4  # of an explanation that names the other summary: "A - B" and "A (or B)" explain nothing


def parse_answer(answer: str, ties: bool = False) -> VerdictLabel:
    """The side that an answer names where it names one and only one, "unparsed" otherwise; never a guess.

    Thoughts are not read (`<think>`, `<thinking>`, `[THINK]`, ...), and one without an end is no answer. What states
    a verdict: a line that begins with `Preferred:` (or Verdict, Answer, Winner, ...) or ends with it; the same key of
    a JSON object, be it alone, in a code block or behind text; `\\boxed{}`, `<answer>`; the first or the last line
    where it is nothing but the letter. Each must name one side, all of them the same, and nothing that
    follows may take it back. The letter may be in either case, in quotes, brackets or Markdown, after the word
    "summary", and followed by an explanation ("A - because ...").

    Args:
        ties: whether the prompt allows the verdict "tie"; where it does not, that word names no side.
    """
    text = _without_thoughts(answer)
    if text is None:
        return "unparsed"
    text = _ECHO.sub("", _END_OF_TURN.sub("", text))
    text = _BOXED.sub(lambda found: _statement(found["said"]), text)
    text = _TAGGED.sub(lambda found: _statement(found["said"]) if _said(found["said"]) else found["said"], text)
    text = _LABEL_IN_LINE.sub("\n", _LABEL_ALONE.sub(r"\1 ", _objects_as_statements(text)))
    lines = [line for line in text.splitlines() if line.strip()]
    said = _statements(lines)
    if len(set(said)) != 1 or said[0] is None or (said[0] == "tie" and not ties):
        return "unparsed"
    return said[0]


def is_unparsed(kept: KeptAnswer) -> bool:
    """Whether an answer out of the cache names no side, or is not one that may be read."""
    if kept.outcome != "finished":
        return True
    if kept.reading == "log_odds":
        return math.isnan(float(kept.text))
    return parse_answer(kept.text, ties=kept.reading == "text_or_tie") == "unparsed"


def _statements(lines: list[str]) -> list[Said]:
    """What each statement among the lines says; None too where the lines behind the last one take it back."""
    labelled = [(i, said) for i, line in enumerate(lines) for said in _labelled(line)]
    alone = [(i, said) for i, line in enumerate(lines) if (said := _alone(line)) is not None]
    ends = [(i, said) for i, said in alone if i == len(lines) - 1 or (i == 0 and lines[0].strip() != "a")]
    if lines and not labelled and _REASONED.match(lines[0]):
        ends = [(0, _said(lines[0])), *ends]
    # Letters on lines of their own between the first and the last may be headings, but not beside nothing else.
    found = [*labelled, *ends] if labelled else [*ends, *alone] if ends else []
    said = [one for _, one in found]
    behind = "\n".join(lines[max((i for i, _ in found), default=0) + 1 :])
    return [None if one is not None and _is_taken_back(behind, one) else one for one in said]


def _labelled(line: str) -> list[Said]:
    """What a line with a label says, as one element; empty where there is no label."""
    if (start := _STARTS_WITH_LABEL.match(line)) is not None:
        rest = line[start.end() :]
        if (again := _STARTS_WITH_LABEL.match(rest)) is not None:  # "Answer: Preferred: A"
            rest = rest[again.end() :]
        said = _said(rest)
        # "The better summary is the one that ..." states nothing; "Preferred: both" is a verdict that names no side.
        return [] if start["is"] and said is None else [said]
    if (end := _ENDS_WITH_LABEL.search(line)) is not None:
        return [_alone(end["said"])]
    return []


def _said(text: str) -> Said:
    """The side that `text` names, alone or with an explanation that does not take it back."""
    if (side := _alone(text)) is not None:
        return side
    explained = _EXPLAINED.fullmatch(text)
    if explained is None:
        return None
    side, why = _side(explained["side"]), explained["why"]
    other = {"a": "B", "b": "A", "tie": "[AB]"}[side]
    names_other = re.search(rf"\b{other}\b", why) is not None
    if _BEGINS_TO_TAKE_BACK.match(why) or (names_other and len(why.split()) < _FEWEST_WORDS):
        return None
    if re.search(rf"\b{other}\b\W{{0,3}}[:=]", why):  # scores or a list: "A: 7 points, B: 8 points"
        return None
    return None if _is_taken_back(why, side) else side


def _alone(text: str) -> Said:
    match = _ALONE.fullmatch(text)
    return _side(match["side"]) if match is not None else None


def _side(text: str) -> Literal["a", "b", "tie"]:
    text = text.lower()
    return "a" if text == "a" else "b" if text == "b" else "tie"


def _is_taken_back(text: str, side: Said) -> bool:
    """Whether what follows a verdict doubts it or states another one."""
    other = {"a": "B", "b": "A"}.get(side or "", "[AB]")
    chosen = rf"\b(?:prefer|choose|pick|favou?r|go with|change (?:it )?to|or)\s+(?:[Ss]ummary\s+)?[\"'*]*{other}\b"
    better = (
        rf"\b{other}\b[\"'*]*\s+(?:wins\b|(?:is|seems|looks)\s+(?:(?!no\b|not\b|hardly\b)\w+\s+){{0,2}}{_BETTER}\b)"
    )
    return any(re.search(pattern, text) is not None for pattern in (_TAKEN_BACK, chosen, better))


def _without_thoughts(answer: str) -> str | None:
    """What stands behind the last thought; None where one has no end."""
    ends = [found.end() for found in _THOUGHT_ENDS.finditer(answer)]
    text = answer[ends[-1] :] if ends else answer
    return None if _THOUGHT_BEGINS.search(text) else text


def _objects_as_statements(text: str) -> str:
    """`text` with each JSON object that begins a line and holds a verdict turned into a label line."""
    kept: list[str] = []
    rest = text
    while (begin := _OBJECT_BEGINS.search(rest)) is not None:
        kept.append(rest[: begin.start()])
        rest = rest[begin.end() - 1 :]
        try:
            pairs, end = json.JSONDecoder(object_pairs_hook=list).raw_decode(rest)
        except (ValueError, RecursionError):
            # What looks like a verdict and cannot be read is not to be read in another way.
            return "".join(kept) + (_statement("") if re.search(rf'"{_LABEL}"\s*:', rest, re.I) else rest)
        line, rest = rest[end:].partition("\n")[0], rest[end:]
        said = [value for key, value in pairs if _OBJECT_KEY.fullmatch(re.sub(r"[\W_]+", " ", key).strip())]
        if said and line.strip(" \t\r`.,;"):
            kept.append(_statement(""))  # something else stands in its line, perhaps another object
        kept += [_statement(value) if isinstance(value, str) else _statement("") for value in said]
    return "".join(kept) + rest


def _statement(said: str) -> str:
    """A label line that says it; what is no verdict stays none."""
    return f"\nPreferred: {' '.join(said.split()) or '-'}\n"
