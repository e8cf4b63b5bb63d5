"""Labelled pairs from preference files and from files of verdicts, every annotator of a pair together."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bench.audit.config import AuditColumns
from bench.data.rows import Row, read_rows
from bench.errors import DataError
from bench.evaluate.agreement import Shown
from bench.evaluate.win_rate import SWAPPED, Order, drawn_order
from bench.provenance import stable_hash
from bench.records import VerdictLabel

Confidence = str | float
SUFFIXES = (".jsonl", ".csv", ".parquet")
_LABELS: dict[str, VerdictLabel] = {
    **dict.fromkeys(("a", "1", "summary_a"), "a"),
    **dict.fromkeys(("b", "2", "summary_b"), "b"),
    "tie": "tie",
}
_DEFAULTS = {column.name: column.default for column in fields(AuditColumns)}


@dataclass(frozen=True)
class Annotation:
    """One annotator's verdict on a pair's a and b."""

    shown: Shown
    annotator: str | None
    confidence: Confidence | None


@dataclass(frozen=True)
class LabelledPair:
    """Two summaries with what annotators, and the judge of a column, said of them.

    a is what the first row of the pair showed first; where the file does not tell, a coin thrown by the texts
    says which of chosen and rejected it is. `judged` is empty where no column of verdicts is named, and says in
    which order the judge saw the pair otherwise.
    """

    id: str
    prompt: str | None
    a: str
    b: str
    annotations: tuple[Annotation, ...]
    judged: tuple[tuple[VerdictLabel, Order], ...]

    @property
    def labels(self) -> list[VerdictLabel]:
        return [annotation.shown.verdict for annotation in self.annotations]


@dataclass(frozen=True)
class _Labelled:
    """One row: a verdict on the summaries in the order in which it has them."""

    row: Row
    pair_id: str | None
    id: str | None
    prompt: str | None
    first: str
    second: str
    verdict: VerdictLabel
    is_order_known: bool
    annotator: str | None
    confidence: Confidence | None
    judged: VerdictLabel | None


@dataclass
class _Group:
    """The rows of one pair so far."""

    start: _Labelled
    annotations: list[Annotation] = field(default_factory=list)
    judged: dict[Order, VerdictLabel] = field(default_factory=dict)


def read_pairs(path: Path, columns: AuditColumns) -> tuple[list[LabelledPair], dict[str, str]]:
    """The pairs of a file, or of all files of a folder together, and each file's sha256.

    A folder's files are those in its subfolder `preferences` where it has one, or in itself. Rows are of one pair
    when they share `columns.pair_id` or, in files without it, the prompt and both summaries.

    Raises:
        DataError: no file, a broken or empty one, a missing column, an unknown verdict, rows that contradict
            each other; the message names file and row.
    """
    groups: dict[str, _Group] = {}
    hashes: dict[str, str] = {}
    for file in _files(path):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from error
        hashes[file.name] = "sha256:" + hashlib.sha256(content).hexdigest()
        for row in read_rows(file, content):
            labelled = _Reader(row, columns).labelled()
            key = labelled.pair_id or stable_hash([labelled.prompt, *sorted((labelled.first, labelled.second))])
            if key not in groups:
                groups[key] = _Group(_oriented(labelled, key))
            _add(labelled, groups[key])
    return list(_with_ids(groups)), hashes


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; set data to the file or folder of labelled pairs")
    folder = path / "preferences" if (path / "preferences").is_dir() else path
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"{folder}: no {', '.join(SUFFIXES)} file in it; set data to the file of labelled pairs")
    return files


class _Reader:
    """Reads the cells of one row by the configured columns."""

    def __init__(self, row: Row, columns: AuditColumns) -> None:
        self.row, self.columns = row, columns

    def labelled(self) -> _Labelled:
        if self.columns.summary_a in self.row.cells:
            first, second = self._summary("summary_a"), self._summary("summary_b")
            verdict, is_order_known = self._verdict("verdict"), True
        elif self.columns.chosen in self.row.cells:
            first, second = self._summary("chosen"), self._summary("rejected")
            verdict, is_order_known = "a", False
            if self._cell("shown_as") is not None:
                is_order_known = True
                verdict = self._verdict("shown_as")
                if verdict == "tie":
                    raise self._wrong("shown_as", "is 'tie'; the chosen summary was shown as A or as B")
                if verdict == "b":
                    first, second = second, first
        else:
            raise DataError(
                f"{self.row.where}: neither {self.columns.summary_a!r} nor {self.columns.chosen!r} is among the columns"
                f" ({', '.join(self.row.cells)}); set columns.summary_a, columns.summary_b and columns.verdict, or"
                " columns.chosen and columns.rejected"
            )
        return _Labelled(
            row=self.row,
            pair_id=self._name("pair_id"),
            id=self._name("id"),
            prompt=self._prompt(),
            first=first,
            second=second,
            verdict=verdict,
            is_order_known=is_order_known,
            annotator=self._name("annotator"),
            confidence=self._confidence(),
            judged=self._judged(is_order_known),
        )

    def _cell(self, key: str, must: bool = False) -> Any:
        """The cell, or None where the file has no column of this name and need not have one."""
        column = getattr(self.columns, key)
        if column in self.row.cells:
            return self.row.cells[column]
        if must or column != _DEFAULTS[key]:
            raise DataError(
                f"{self.row.where}: no column {column!r} (columns: {', '.join(self.row.cells)}); set columns.{key}"
            )
        return None

    def _wrong(self, key: str, what: str) -> DataError:
        return DataError(f"{self.row.where}: column {getattr(self.columns, key)!r} {what}")

    def _text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(key, f"holds {type(value).__name__} instead of text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self._wrong(key, "holds half a surrogate pair, which is not Unicode text") from error
        return value.strip()

    def _summary(self, key: str) -> str:
        return self._text(key, self._cell(key, must=True))

    def _prompt(self) -> str | None:
        value = self._cell("prompt")
        if value is None and self.columns.prompt == _DEFAULTS["prompt"]:
            value = self.row.cells.get("post")
        return None if value is None else self._text("prompt", value)

    def _name(self, key: str) -> str | None:
        """Text or a whole number as a name; None where there is none."""
        value = self._cell(key)
        if value is None or value == "":
            return None
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self._text(key, value)

    def _confidence(self) -> Confidence | None:
        """A number where it is one or reads like one, else the text; None where there is none, or NaN."""
        value = self._cell("confidence")
        if value is None or value == "":
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return self._text("confidence", value)
        return number if math.isfinite(number) else None

    def _verdict(self, key: str) -> VerdictLabel:
        value = self._cell(key, must=True)
        label = _LABELS.get(_plain(value))
        if label is None:
            hint = "; with 0 for the first, write 1 and 2" if _plain(value) == "0" else ""
            raise self._wrong(key, f"holds {value!r}; a verdict is a or b (or 1 or 2), or tie{hint}")
        return label

    def _judged(self, is_order_known: bool) -> VerdictLabel | None:
        if self.columns.judge is None:
            return None
        if not is_order_known:
            raise self._wrong(
                "judge", f"says a or b, but the row does not say which that is; add {self.columns.shown_as!r}"
            )
        is_unparsed = _plain(self._cell("judge", must=True)) in ("", "none", "unparsed")
        return "unparsed" if is_unparsed else self._verdict("judge")


def _plain(value: Any) -> str:
    """1, 1.0, " A " and "a" as they are compared."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip().lower()


def _oriented(labelled: _Labelled, key: str) -> _Labelled:
    """The row that says which summary is the pair's a: turned round by a coin where the row does not know."""
    if labelled.is_order_known or drawn_order(0, key) == "ab":
        return labelled
    return replace(labelled, first=labelled.second, second=labelled.first)


def _add(labelled: _Labelled, group: _Group) -> None:
    start, where = group.start, labelled.row.where
    texts = (labelled.first, labelled.second)
    if texts not in ((start.first, start.second), (start.second, start.first)) or labelled.prompt != start.prompt:
        raise DataError(
            f"{where}: pair {labelled.pair_id!r} has other texts than in {start.row.where}; give every pair its own"
            f" id, or set columns.pair_id to the column that has it"
        )
    known = [annotation.annotator for annotation in group.annotations]
    if labelled.annotator is not None and labelled.annotator in known:
        raise DataError(
            f"{where}: annotator {labelled.annotator!r} has judged the pair of {start.row.where} before; keep one row"
        )
    as_start = texts == (start.first, start.second)
    order: Order = "ab" if as_start else "ba"

    def of_pair(verdict: VerdictLabel) -> VerdictLabel:
        return verdict if as_start else SWAPPED[verdict]

    shown = Shown(of_pair(labelled.verdict), order if labelled.is_order_known else None)
    group.annotations.append(Annotation(shown, labelled.annotator, labelled.confidence))
    if labelled.judged is not None:
        judged = of_pair(labelled.judged)
        if group.judged.setdefault(order, judged) != judged:
            raise DataError(f"{where}: the judge's verdict is not that of an earlier row with the same pair and order")


def _with_ids(groups: Mapping[str, _Group]) -> Iterator[LabelledPair]:
    """The pairs, named by their pair_id, their id, or their content; no name twice."""
    named: set[str] = set()
    for key, group in groups.items():
        start = group.start
        name = start.pair_id or start.id or key[:12]
        if name in named:
            name = f"{name}-{key[:12]}"
        named.add(name)
        yield LabelledPair(
            name,
            start.prompt,
            start.first,
            start.second,
            tuple(group.annotations),
            tuple((verdict, order) for order, verdict in group.judged.items()),
        )


def require_prompts(pairs: Sequence[LabelledPair], judge: str) -> None:
    """Refuse to let a judge judge without the post that was summarised."""
    missing = sum(not pair.prompt for pair in pairs)
    if missing:
        raise DataError(
            f"judge {judge} needs the posts, but {missing} of {len(pairs)} pairs have none; set columns.prompt"
        )
