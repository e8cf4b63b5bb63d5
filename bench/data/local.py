"""A user's own files as records; what is wrong with them is one line that names file and row."""

import glob
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from bench.data import splits
from bench.data.config import ColumnsConfig, FilesConfig
from bench.data.prompts import titled_prompt, tldr_prompt
from bench.data.rows import Row, bare, files_of, is_readable, read_rows
from bench.errors import DataError
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair

R = TypeVar("R", Demonstration, PreferencePair)
_DEFAULT_NAMES = {column.name: column.default for column in fields(ColumnsConfig)}


def load_files(config: FilesConfig) -> ComparisonData:
    """Demonstrations, preference pairs and evaluation prompts from the user's files, split by post.

    The evaluation prompts are the test posts that have a reference summary: a test demonstration's completion
    or a test pair's reference.

    Raises:
        DataError: a file is missing, empty or broken, a cell is missing, empty or no text, a split is empty.
    """
    reader = _Reader(config)
    if config.demonstrations_from_chosen:
        demonstrations: dict[str, list[Demonstration]] = {"train": [], "validation": [], "test": []}
    else:
        demonstrations = reader.read("demonstrations", ("train", "validation", "test"), reader.demonstration)
    pairs = reader.read("preferences", ("train", "judge", "validation", "test"), reader.pair)
    if config.demonstrations_from_chosen:
        for split in ("train", "validation"):
            demonstrations[split] = [Demonstration(p.id, p.prompt, p.chosen) for p in pairs[split]]
    with_reference = [(p.id, p.prompt, p.reference) for p in pairs["test"] if p.reference]
    eval_prompts = [EvalPrompt(d.id, d.prompt, d.completion) for d in demonstrations["test"]]
    eval_prompts += [EvalPrompt(*test) for test in with_reference]
    reader.dropped["test pairs without a reference summary"] += len(pairs["test"]) - len(with_reference)
    data = ComparisonData(
        demonstrations={split: demonstrations[split] for split in ("train", "validation")},
        preferences={split: pairs[split] for split in ("train", "judge", "validation")},
        eval_prompts=splits.one_per_post(eval_prompts),
        source={"name": "files", **reader.hashes},
        dropped=splits.add_counts(reader.dropped, {}),
    )
    # A leak in the user's own splits is refused before carving, which would hide it.
    splits.check_no_leak(data)
    if not data.preferences["judge"]:
        data = splits.carve_judge(data, config.judge_fraction, config.split_seed)
    _require_rows(data, config)
    return data


class _Reader:
    """Turns rows into records by the configured columns; keeps file hashes and reasons for dropped rows."""

    def __init__(self, config: FilesConfig) -> None:
        self.config = config
        self.columns = config.columns
        self.root = Path(config.root).expanduser()
        self.hashes: dict[str, str] = {}
        self.dropped: Counter[str] = Counter()
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set data.root to the folder of your files")

    def read(self, group: str, names: Iterable[str], parse: Callable[[Row, str], R | None]) -> dict[str, list[R]]:
        """The records of each split, from a file per split or, by the hash of the post, of unsplit files."""
        patterns = getattr(self.config, group)
        records: dict[str, list[R]] = {split: [] for split in names}
        if patterns.unsplit:
            for record in self._records(group, "unsplit", patterns.unsplit, parse):
                split = splits.assign_split(
                    record.prompt,
                    self.config.validation_fraction,
                    self.config.test_fraction,
                    self.config.split_seed,
                )
                records[split].append(record)
            return records
        for split in records:
            pattern = getattr(patterns, split)
            if pattern:
                records[split] = list(self._records(group, split, pattern, parse))
        return records

    def _records(self, group: str, split: str, pattern: str, parse: Callable[[Row, str], R | None]) -> Iterator[R]:
        number = 0
        for path in self._paths(f"data.{group}.{split}", pattern):
            name = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            try:
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
            self.hashes[name.as_posix()] = "sha256:" + hashlib.sha256(content).hexdigest()
            for row in read_rows(path, content):
                number += 1
                record = parse(row, f"{group}-{split}-{number:06d}")
                if record is not None:
                    yield record

    def _paths(self, key: str, pattern: str) -> list[Path]:
        full_pattern = str(Path(glob.escape(str(self.root))) / pattern)
        paths = sorted(Path(path) for path in glob.glob(full_pattern, recursive=True))
        if not paths:
            mend = f"set {key} to the file's name"
            if key == "data.demonstrations.train":
                mend += " (SFT needs demonstrations), or data.demonstrations_from_chosen=true to use chosen ones"
            elif key not in ("data.preferences.train", "data.preferences.validation"):
                mend += ", or to null where there is none"
            raise DataError(f"{self.root}: no file matches {pattern!r}; {mend}")
        _require_one_form(paths, key)
        return [file for path in paths for file in files_of(path)]

    def demonstration(self, row: Row, default_id: str) -> Demonstration:
        return Demonstration(self._id(row, default_id), self._prompt(row), self._text(row, "completion"))

    def pair(self, row: Row, default_id: str) -> PreferencePair | None:
        """The pair, or None for a tie and (under `identical_pairs="drop"`) for equal texts."""
        chosen, rejected = self._text(row, "chosen"), self._text(row, "rejected")
        if self._is_tie(row):
            self.dropped["ties"] += 1
            return None
        if chosen == rejected:
            if self.config.identical_pairs == "error":
                raise DataError(
                    f"{row.where}: chosen and rejected are equal; data.identical_pairs=drop leaves such out"
                )
            self.dropped["identical pairs"] += 1
            return None
        reference = self._optional(row, "reference")
        if reference is not None:
            reference = _text(reference, row, self.columns.reference, may_be_empty=True) or None
        return PreferencePair(self._id(row, default_id), self._prompt(row), chosen, rejected, reference)

    def _prompt(self, row: Row) -> str:
        if self.columns.post is None:
            return self._text(row, "prompt")
        title, post = self._text(row, "title"), self._text(row, "post")
        if self.columns.subreddit is None:
            return titled_prompt(title, post)
        return tldr_prompt(self._text(row, "subreddit"), title, post)

    def _text(self, row: Row, key: str) -> str:
        """The stripped text of a column that must be there."""
        column = getattr(self.columns, key)
        return _text(self._cell(row, key, column), row, column)

    def _id(self, row: Row, default_id: str) -> str:
        value = self._optional(row, "id")
        if value is None:
            return default_id
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return str(value) if is_number else _text(value, row, self.columns.id)

    def _is_tie(self, row: Row) -> bool:
        if self.columns.tie is None:
            return False
        value = self._cell(row, "tie", self.columns.tie)
        is_tie = {"true": True, "1": True, "false": False, "0": False, "": False}.get(str(value).strip().lower())
        if is_tie is None:
            raise DataError(f"{row.where}: column {self.columns.tie!r} holds {value!r}; a tie is true or false, 1 or 0")
        return is_tie

    def _optional(self, row: Row, key: str) -> Any:
        """The cell, or None where no column is named or the file lacks a column of the default name."""
        column = getattr(self.columns, key)
        if column is None or (column == _DEFAULT_NAMES[key] and column not in row.cells):
            return None
        return self._cell(row, key, column)

    def _cell(self, row: Row, key: str, column: str) -> Any:
        if column not in row.cells:
            raise DataError(
                f"{row.where}: no column {column!r} (columns: {', '.join(row.cells)});"
                f" set data.columns.{key} to the one that holds the {key}"
            )
        return row.cells[column]


def _require_one_form(paths: Sequence[Path], key: str) -> None:
    """Refuse `train.jsonl` beside `train.parquet`: the same rows in two forms would count twice."""
    seen: dict[Path, Path] = {}
    for path in filter(is_readable, paths):
        stem = bare(path)
        if stem in seen:
            raise DataError(f"{seen[stem]} and {path.name} both match {key}; remove one, or name the one to read")
        seen[stem] = path


def _text(value: Any, row: Row, column: str | None, may_be_empty: bool = False) -> str:
    """The stripped text of a cell, which has to be a string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise DataError(f"{row.where}: column {column!r} holds {type(value).__name__} instead of text")
    if not may_be_empty and not value.strip():
        raise DataError(f"{row.where}: column {column!r} is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{row.where}: column {column!r} holds half a surrogate pair, which is not Unicode text"
            ) from error
    return value.strip()


def _require_rows(data: ComparisonData, config: FilesConfig) -> None:
    required = {
        "training demonstrations": data.demonstrations["train"],
        "training pairs": data.preferences["train"],
        "validation pairs": data.preferences["validation"],
    }
    if config.judge_fraction > 0:
        required["pairs for the judge"] = data.preferences["judge"]
    for name, rows in required.items():
        if not rows:
            raise DataError(
                f"{config.root}: no {name} left after splitting by post; give more posts, or a file per split"
            )
    if not data.eval_prompts:
        raise DataError(
            f"{config.root}: no test post has a reference summary; give data.demonstrations.test, or"
            " a reference column (data.columns.reference) in data.preferences.test"
        )
