"""One row's cells by the configured columns, as text, names, numbers and verdicts."""

import math
from dataclasses import fields
from typing import Any

from bench.data.rows import Row
from bench.errors import DataError
from bench.records import VerdictLabel
from bench.scored.config import ScoreColumns

_DEFAULT_ID = next(column.default for column in fields(ScoreColumns) if column.name == "id")
_TRUE, _FALSE = frozenset(("true", "1", "yes", "1.0")), frozenset(("false", "0", "no", "0.0"))
_OUTCOMES: dict[str, VerdictLabel] = {
    **dict.fromkeys(("win", "won", "true", "yes", "1", "1.0"), "a"),
    **dict.fromkeys(("loss", "lose", "lost", "false", "no", "0", "0.0"), "b"),
    **dict.fromkeys(("tie", "draw", "0.5"), "tie"),
    "unparsed": "unparsed",
}
_LABELS: dict[str, VerdictLabel] = {"a": "a", "1": "a", "b": "b", "2": "b", "tie": "tie", "unparsed": "unparsed"}


class Cells:
    """Cells of a row by what they hold; an absent column and an empty cell of most are None."""

    def __init__(self, row: Row, columns: ScoreColumns) -> None:
        self.row, self.columns = row, columns

    def has(self, name: str) -> bool:
        return self._column(name) in self.row.cells

    def text(self, name: str, may_be_empty: bool = False) -> str | None:
        """The stripped text; None where there is no such column, or null in it.

        Raises:
            DataError: no text, half a surrogate pair, or empty where it may not be.
        """
        value = self.row.cells.get(self._column(name))
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(name, f"holds {type(value).__name__} instead of text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.wrong(name, "holds half a surrogate pair, which is not Unicode text") from error
        if not value.strip() and not may_be_empty:
            raise self.wrong(name, "is empty")
        return value.strip()

    def name(self, name: str) -> str | None:
        """Text or a whole number as a name; None where there is none."""
        value = self.row.cells.get(self._column(name))
        if value is None or value == "":
            return None
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(name)

    def wrong(self, name: str, what: str) -> DataError:
        return DataError(f"{self.row.where}: column {self._column(name)!r} {what}")

    def _column(self, name: str) -> str:
        column = getattr(self.columns, name)
        if name == "id" and column == _DEFAULT_ID and column not in self.row.cells:
            return "id"
        return column


def as_number(cells: Cells, column: str) -> float | None:
    """A finite number or one in text; None where there is none.

    Raises:
        DataError: something else.
    """
    value = cells.row.cells.get(column)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{cells.row.where}: column {column!r} holds {value!r}, which is no finite number")
    return number


def as_bool(cells: Cells, name: str) -> bool | None:
    value = cells.row.cells.get(getattr(cells.columns, name))
    said = str(value).strip().lower()
    if value is None or said == "":
        return None
    if said not in _TRUE | _FALSE:
        raise cells.wrong(name, f"holds {value!r}; it is true or false, 1 or 0")
    return said in _TRUE


def as_outcome(cells: Cells, column: str) -> VerdictLabel | None:
    """ "a" where the completion beats the reference summary; None where nothing is said."""
    return _read(cells, column, _OUTCOMES, "win, loss or tie (or 1, 0, 0.5)")


def as_label(cells: Cells, arm_a: str, arm_b: str) -> VerdictLabel:
    """A verdict's label; an empty one is unparsed."""
    labels: dict[str, VerdictLabel] = {arm_a.lower(): "a", arm_b.lower(): "b", **_LABELS}
    return _read(cells, cells.columns.verdict, labels, f"a, b, tie, unparsed, {arm_a} or {arm_b}") or "unparsed"


def _read(cells: Cells, column: str, labels: dict[str, VerdictLabel], known: str) -> VerdictLabel | None:
    value: Any = cells.row.cells.get(column)
    said = str(value).strip().lower()
    if value is None or said == "":
        return None
    if said not in labels:
        raise DataError(f"{cells.row.where}: column {column!r} holds {value!r}; it is {known}")
    return labels[said]
