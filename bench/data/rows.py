"""Rows of the files that people have: JSON, CSV, Parquet and Arrow; what is wrong is one line with file and row."""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from bench.errors import DataError

_DELIMITERS = ",;\t"
_STATE = "state.json"
_HOW_TO_SAVE = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the sheet as CSV in UTF-8"),
    **dict.fromkeys(
        (".pkl", ".pickle", ".feather", ".dta", ".sav", ".rds", ".h5"),
        "write it as JSONL, in pandas: frame.to_json('FILE.jsonl', orient='records', lines=True)",
    ),
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst"), "unpack it (of archives .gz alone is read)"
    ),
    **dict.fromkeys((".txt", ".dat"), "call it .csv or .tsv where its first line names columns"),
}


@dataclass(frozen=True)
class Row:
    """One row of a file and where it stands, for error messages."""

    where: str
    cells: Mapping[str, Any]


def read_rows(path: Path, content: bytes) -> Iterator[Row]:
    """The rows of a file with this content: .jsonl (.ndjson), .json, .csv, .tsv, .parquet or .arrow, also with .gz.

    A .csv may be separated by semicolons or tabs, as its header shows. A .json file holds an array of objects, alone
    or as the only array of an object, or an object per line.

    Raises:
        DataError: unknown extension, not UTF-8, broken, a column twice, or without rows; says how to mend it.
    """
    name, content = _unpacked(path, content)
    reader = _READERS.get(name.suffix.lower())
    if reader is None:
        how = _HOW_TO_SAVE.get(name.suffix.lower(), f"use one of {', '.join(_READERS)}, or one of them with .gz")
        raise DataError(f"{path}: unknown extension {name.suffix!r}; {how}")
    empty = True
    for row in reader(path, content):
        empty = False
        yield row
    if empty:
        raise DataError(f"{path}: is empty; it needs at least one row")


def is_readable(path: Path) -> bool:
    """Whether `read_rows` knows the extension."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower() in _READERS


def bare(path: Path) -> Path:
    """The path without its extension, which is two with .gz."""
    return path.with_suffix("").with_suffix("") if path.suffix.lower() == ".gz" else path.with_suffix("")


def files_of(path: Path) -> list[Path]:
    """The file itself, or the files of a folder that `Dataset.save_to_disk` has written, in their order.

    Raises:
        DataError: another folder; one with several splits is to be named with its split.
    """
    if not path.is_dir():
        return [path]
    if (path / "dataset_dict.json").is_file():
        splits = sorted(folder.name for folder in path.iterdir() if (folder / _STATE).is_file())
        raise DataError(f"{path}: holds a split per folder ({', '.join(splits)}); name one: {path / splits[0]}")
    if not (path / _STATE).is_file():
        raise DataError(
            f"{path}: is a folder that no Dataset.save_to_disk has written (no {_STATE}); name files in it: {path}/*"
        )
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return [path / shard["filename"] for shard in state["_data_files"]]


def _unpacked(path: Path, content: bytes) -> tuple[Path, bytes]:
    """The name without .gz and the content that was packed."""
    if path.suffix.lower() != ".gz":
        return path, content
    try:
        return path.with_suffix(""), gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); pack it again or drop .gz from its name") from error


def _jsonl_rows(path: Path, content: bytes) -> Iterator[Row]:
    for number, line in enumerate(_decode(path, content).split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _object_row(where, _parsed(where, line, "one object per line"), "one object per line")


def _json_rows(path: Path, content: bytes) -> Iterator[Row]:
    text = _decode(path, content)
    if _has_an_object_per_line(text):
        yield from _jsonl_rows(path, content)
        return
    whole = _parsed(str(path), text, "an array of objects")
    if isinstance(whole, dict):
        arrays = [key for key, value in whole.items() if _is_array_of_objects(value)]
        if len(arrays) != 1:
            raise DataError(
                f"{path}: {len(arrays)} arrays of objects in its object; save the one as an array of its own"
            )
        whole = whole[arrays[0]]
    if not isinstance(whole, list):
        raise DataError(f"{path}: {type(whole).__name__} instead of an array of objects")
    for number, cells in enumerate(whole, 1):
        yield _object_row(f"{path}, row {number}", cells, "an array of objects")


def _has_an_object_per_line(text: str) -> bool:
    """Whether the first line is an object that does not hold the rows itself."""
    try:
        first = json.loads(text.lstrip().partition("\n")[0])
    except json.JSONDecodeError:
        return False
    return isinstance(first, dict) and not any(map(_is_array_of_objects, first.values()))


def _is_array_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _parsed(where: str, text: str, form: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: broken JSON ({error.msg} at column {error.colno}); {form}") from error
    except _Twice as error:
        raise DataError(f"{where}: the key {error} is there twice; keep one") from None


class _Twice(ValueError):
    """A key that an object has twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise _Twice(repr(next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)))
    return cells


def _object_row(where: str, cells: Any, form: str) -> Row:
    if not isinstance(cells, dict):
        raise DataError(f"{where}: {type(cells).__name__} instead of a JSON object; {form}")
    return Row(where, cells)


def _csv_rows(path: Path, content: bytes) -> Iterator[Row]:
    yield from _separated(path, content, None)


def _tsv_rows(path: Path, content: bytes) -> Iterator[Row]:
    yield from _separated(path, content, "\t")


def _separated(path: Path, content: bytes, delimiter: str | None) -> Iterator[Row]:
    text = _decode(path, content)
    if delimiter is None:
        header = re.sub(r'"[^"]*"', "", text.partition("\n")[0])  # a quoted name may hold any of them
        delimiter = max(_DELIMITERS, key=header.count)
    # A cell may be longer than the csv module's default limit of 128 KiB.
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    number = 0
    try:
        _require_distinct(path, reader.fieldnames or ())
        for number, cells in enumerate(reader, 1):
            where = f"{path}, row {number}"
            if None in cells or None in cells.values():
                n_columns, what = (
                    len(reader.fieldnames or ()),
                    {"\t": "tabs", ";": "semicolons"}.get(delimiter, "commas"),
                )
                raise DataError(f"{where}: not {n_columns} cells as in the header; quote cells that hold {what}")
            yield Row(where, cells)
    except csv.Error as error:
        raise DataError(f"{path}, after row {number}: broken CSV ({error})") from error
    finally:
        csv.field_size_limit(limit)


def _parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    yield from _table_rows(path, "Parquet", lambda: pyarrow.parquet.read_table(pyarrow.BufferReader(content)))


def _arrow_rows(path: Path, content: bytes) -> Iterator[Row]:
    """A stream, as `datasets` writes it, or a file."""

    def read() -> pyarrow.Table:
        opened = pyarrow.ipc.open_file if content.startswith(b"ARROW1") else pyarrow.ipc.open_stream
        return opened(pyarrow.BufferReader(content)).read_all()

    yield from _table_rows(path, "Arrow", read)


def _table_rows(path: Path, form: str, read: Callable[[], pyarrow.Table]) -> Iterator[Row]:
    try:
        table = read()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: cannot be read as {form} ({reason})") from error
    _require_distinct(path, table.column_names)
    for number, cells in enumerate(table.to_pylist(), 1):
        yield Row(f"{path}, row {number}", cells)


def _require_distinct(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{path}: the column {twice[0]!r} is there {names.count(twice[0])} times; rename or remove one")


_READERS: dict[str, Callable[[Path, bytes], Iterator[Row]]] = {
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from error
