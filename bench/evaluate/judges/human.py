"""People as the judge: blinded pairs go out as a file, verdicts come back as one."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import DataError, ResourceError
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.config import HumanJudgeConfig
from bench.files import write_jsonl, write_text
from bench.records import VerdictLabel

_COLUMNS: tuple[str, ...] = ("pair_id", "post", "summary_a", "summary_b", "verdict")
_LABELS: dict[str, VerdictLabel] = {"a": "a", "b": "b", "tie": "tie", "unparsed": "unparsed"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins with one
_LONGEST_CELL = 2**31 - 1


class HumanJudge:
    """Reads the verdicts of `verdicts`; what it lacks is exported beside it, and the run ends saying so.

    A pair's id is a hash of what is shown, so nothing that goes out names an arm, a prompt or an order, and what
    comes back finds its place without a key. Rows are in an order drawn by `seed`. An export is named for its
    content and never overwritten: people may have filled it in where it lies.
    """

    prompt_hash = ""

    def __init__(self, verdicts: Path, seed: int, name: str = "human", key: str = HumanJudgeConfig.home) -> None:
        self.name, self.key = name, key
        self._file, self._seed = verdicts, seed
        self._labels = read_verdicts(verdicts) if verdicts.exists() else {}
        self._known: set[str] = set()

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        """One verdict per item, as the file has them. Two equal summaries tie without being shown.

        The first call is to bring all the items of a run: verdicts on other pairs are refused.

        Raises:
            DataError: the file has a verdict on a pair that this run does not have.
            ResourceError: verdicts are missing; the message says where the pairs are and how to go on.
        """
        shown = {pair_id(item): item for item in items if item.first != item.second}
        if not self._known:
            self._known = set(shown)
            self._require_known()
        if missing := {key: item for key, item in shown.items() if key not in self._labels}:
            exported = self._export(missing)
            raise ResourceError(
                f"judge {self.name}: {self._file} has no verdict on {len(missing):,} of {len(shown):,} pairs; they are"
                f" in {exported} (and .jsonl): write A, B or tie into the column verdict, add the rows to {self._file}"
                " and run the same command again; nothing is done twice"
            )
        return ["tie" if item.first == item.second else self._labels[pair_id(item)] for item in items]

    def _require_known(self) -> None:
        for row, key in enumerate(self._labels, start=1):
            if key not in self._known:
                raise DataError(
                    f"{self._file}, verdict {row}: pair {key!r} is not one of this run's {len(self._known):,};"
                    f" the file belongs to another run: set {self.key}.verdicts to this run's file"
                )

    def _export(self, pairs: Mapping[str, JudgeItem]) -> Path:
        """`pairs-<hash>.csv` and `.jsonl` beside the verdicts file, unless they are there."""
        keys = sorted(pairs, key=lambda key: _hash([self._seed, key]))
        rows = [_row(key, pairs[key]) for key in keys]
        path = self._file.parent / f"pairs-{_hash(keys)[:10]}.csv"
        if not path.exists():
            write_jsonl(path.with_suffix(".jsonl"), rows)
            buffer = io.StringIO(newline="")
            writer = csv.DictWriter(buffer, _COLUMNS)
            writer.writeheader()
            writer.writerows({name: _inert(text) for name, text in row.items()} for row in rows)
            write_text(path, "\ufeff" + buffer.getvalue())  # spreadsheets read UTF-8 where a file says so
        return path


def pair_id(item: JudgeItem) -> str:
    """Names a post and two summaries in the order shown (16 hex digits)."""
    return _hash([item.prompt, item.first, item.second])[:16]


def read_verdicts(path: Path) -> dict[str, VerdictLabel]:
    """pair_id -> verdict out of a CSV or JSONL file with at least these two columns.

    Rows without a verdict are not done yet and left out.

    Raises:
        DataError: a column is missing, a pair is there twice or a label is none; names file and row.
    """
    labels: dict[str, VerdictLabel] = {}
    first_seen: dict[str, str] = {}
    for where, row in _rows(path):
        if absent := [name for name in ("pair_id", "verdict") if name not in row]:
            raise DataError(f"{path}, {where}: no {absent[0]}; an export has the columns {', '.join(_COLUMNS)}")
        key, verdict = str(row["pair_id"] or "").strip(), str(row["verdict"] or "").strip().lower()
        if not verdict:
            continue
        if verdict not in _LABELS:
            raise DataError(f"{path}, {where}: verdict {row['verdict']!r} is none of A, B, tie, unparsed; correct it")
        if key in labels:
            raise DataError(f"{path}, {where}: pair {key!r} has a verdict already in {first_seen[key]}; keep one")
        labels[key], first_seen[key] = _LABELS[verdict], where
    return labels


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """("row N" of a CSV file or "line N", its cells by column name)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            for number, line in enumerate(text.splitlines(), start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise DataError(f"{path}, line {number}: not a JSON object; one per line")
                    yield f"line {number}", row
            return
        header = text.partition("\n")[0]
        csv.field_size_limit(_LONGEST_CELL)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
        for number, row in enumerate(reader, start=1):
            yield f"row {number}", row
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; save it as {path.suffix[1:].upper()} in UTF-8") from error


def _row(key: str, item: JudgeItem) -> dict[str, str]:
    cells = (key, item.prompt, item.first, item.second, "")
    return dict(zip(_COLUMNS, (cell.encode("utf-8", "replace").decode("utf-8") for cell in cells), strict=True))


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()
