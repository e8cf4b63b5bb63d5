"""Files of a run folder as they are read: what is broken in one is said by its line, or by its place in it."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import RunFolderError

Number = (int, float, type(None))
"""The types of a number that may be missing."""
SHAPE_ERRORS = (LookupError, TypeError, ValueError, AttributeError)
"""What a section meets in numbers that are not of the shape it reads."""
_KINDS = {str: "a text", Number: "a number"}
_LISTS = ("verdicts_on_claims", "grid", "judge_agreement")
_MAPPINGS = ("head_to_head", "judges", "bradley_terry", "cost", "health", "data", "world", "power", "summary_metrics")
_LABELS = {"a": "a", "b": "b", "tie": "t", "unparsed": "u"}
_ORDERS = ("ab", "ba")


def rows_of(file: Path, rest: Any = None, **types: Any) -> list[dict[str, Any]]:
    """The rows of a JSONL file; half a character, which no encoding can write, is there as its escape.

    Args:
        types: what each row must have -> its type.
        rest: the type of everything else in a row; None for any.

    Raises:
        RunFolderError: a line that is no JSON object or lacks something, by its number.
    """
    rows = []
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read ({error.strerror})") from error
    for place, line in enumerate(lines, start=1):
        try:
            if line.strip():
                rows.append(_typed(_parsed(line), types, rest))
        except ValueError as error:
            raise RunFolderError(f"{file}, line {place} is broken ({_what(error)}); repeat the run") from error
    return rows


def object_of(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        RunFolderError: there is none in it.
    """
    try:
        return _parsed(file.read_bytes())
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RunFolderError(f"{file} is broken ({_what(error)}); repeat the run") from error


def check_estimates(file: Path, metrics: Mapping[str, Any]) -> None:
    """Refuse metrics whose parts are of another kind than results/README.md says.

    Raises:
        RunFolderError: names the first such place.
    """
    for names, kind, word in ((_LISTS, list, "list"), (_MAPPINGS, dict, "object"), (("arms",), dict, "object")):
        for name in names:
            if not isinstance(metrics.get(name, kind()), kind):
                raise _wrong(file, (name,), metrics[name], f"no {word}")
    for name in ("arms", "head_to_head"):
        for key, value in metrics.get(name, {}).items():
            if not isinstance(value, dict):
                raise _wrong(file, (name, key), value, "no object")
    _check(file, metrics, ())


class VerdictTable:
    """One judge's verdicts, read at once: they may be a million.

    Attributes:
        duels: the pairs of arms in it, in the order of the file's names.
    """

    def __init__(self, file: Path) -> None:
        # Imported where it is needed: it reads a million rows in a second.
        import pyarrow as pa
        import pyarrow.json as reader

        self.file = file
        names = ("prompt_id", "arm_a", "arm_b", "order", "verdict")
        schema = pa.schema([(name, pa.string()) for name in names])
        options = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        self._columns: dict[str, tuple[list[str], np.ndarray]] = dict.fromkeys(names, ([], np.zeros(0, np.int64)))
        if not file.stat().st_size:
            return
        try:
            table = reader.read_json(file, parse_options=options)
            whole = not any(table[name].null_count for name in names)
        except (pa.ArrowInvalid, OSError):
            whole = False
        if not whole:
            rows_of(file, **dict.fromkeys(names, str))  # says what is wrong
            raise RunFolderError(f"{file} is broken; repeat the run")
        for name in names:
            found = table[name].combine_chunks().dictionary_encode()
            codes = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            self._columns[name] = (found.dictionary.to_pylist(), codes)
        for name, known in (("order", _ORDERS), ("verdict", tuple(_LABELS))):
            for value in self._columns[name][0]:
                if value not in known:
                    raise RunFolderError(f"{file}: {name} {value!r} is none of {', '.join(known)}; repeat the run")

    @cached_property
    def duels(self) -> list[tuple[str, str]]:
        (names_a, a), (names_b, b) = self._columns["arm_a"], self._columns["arm_b"]
        there = np.flatnonzero(np.bincount(a * len(names_b) + b)) if len(a) else []
        return [(names_a[code // len(names_b)], names_b[code % len(names_b)]) for code in there]

    def letters(self, ids: Mapping[str, int], duels: Sequence[tuple[str, str]]) -> np.ndarray:
        """(prompts, 2 x duels) bytes: what was said of each duel in either order, as a, b, t (tie), u (unparsed), or .
        where nothing was; `ids` are the places of the prompts."""
        table = np.full((len(ids), 2 * len(duels)), ord("."), np.uint8)
        row = self._mapped("prompt_id", ids)
        order = self._mapped("order", {order: place for place, order in enumerate(_ORDERS)})
        letter = self._mapped("verdict", {label: ord(letter) for label, letter in _LABELS.items()})
        (names_a, a), (names_b, b) = self._columns["arm_a"], self._columns["arm_b"]
        of_codes = np.full((len(names_a), len(names_b)), -1)
        for place, (first, second) in enumerate(duels):
            if first in names_a and second in names_b:
                of_codes[names_a.index(first), names_b.index(second)] = place
        duel = of_codes[a, b]
        known = (row >= 0) & (duel >= 0)
        table[row[known], 2 * duel[known] + order[known]] = letter[known]
        return table

    def _mapped(self, column: str, values: Mapping[str, int]) -> np.ndarray:
        """The column's entries as their values, -1 for others."""
        names, codes = self._columns[column]
        return np.array([values.get(name, -1) for name in names], np.int64)[codes] if names else codes


def _parsed(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is none.
    """
    if not text.strip():
        raise ValueError("it is empty")
    content = json.loads(text.decode("utf-8"), parse_constant=_refuse)
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return _encodable(content) if b"\\ud" in text or b"\\uD" in text else content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _what(error: ValueError) -> str:
    """Without the place, which of JSON is one in the text and not in the file."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return {_encodable(key): _encodable(item) for key, item in value.items()} if isinstance(value, dict) else value


def _typed(row: dict[str, Any], types: Mapping[str, Any], rest: Any) -> dict[str, Any]:
    for name, kind in types.items():
        if name not in row:
            raise ValueError(f"it has no {name}")
        if not isinstance(row[name], kind):
            raise ValueError(f"{name} is {_shown(row[name])}, and not {_KINDS[kind]}")
    for name, value in row.items() if rest else ():
        if not isinstance(value, rest):
            raise ValueError(f"{name} is {_shown(value)}, and not {_KINDS[rest]}")
    return row


def _check(file: Path, value: Any, path: tuple[str, ...]) -> None:
    """Every estimate in `value`: its value, the ends of its interval, and n."""
    if isinstance(value, Mapping):
        if "value" in value:
            numbers = {name: value.get(name) for name in ("value", "n")}
            ends = value.get("ci95") or []
            if not isinstance(ends, list) or len(ends) not in (0, 2):
                raise _wrong(file, (*path, "ci95"), ends, "no pair of numbers")
            numbers |= {f"ci95.{place}": end for place, end in enumerate(ends)}
            for name, number in numbers.items():
                if not isinstance(number, Number):
                    raise _wrong(file, (*path, name), number, "no number")
        for name, part in value.items():
            _check(file, part, (*path, name))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            _check(file, part, (*path, str(place)))


def _wrong(file: Path, path: Sequence[str], value: Any, what: str) -> RunFolderError:
    return RunFolderError(f"{file}: {'.'.join(path)} is {what} ({_shown(value)}); repeat the run")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
