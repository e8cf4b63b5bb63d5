"""A user's own files as records; what is wrong with them is one line that names file and row."""

import glob
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bench.data import splits
from bench.data.config import ControlledConfig, FilesConfig
from bench.data.hub import HUB, hub_folder
from bench.data.parse import Parsed, Parser
from bench.data.rows import Row, bare, files_of, is_readable, read_rows
from bench.errors import DataError
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair

R = TypeVar("R", Demonstration, PreferencePair)


def load_files(config: FilesConfig) -> ComparisonData:
    """Demonstrations, preference pairs and evaluation prompts from the user's files, split by post.

    The evaluation prompts are the test posts that have a reference summary: a test demonstration's completion
    or a test pair's reference, or with `reference_from_chosen` its chosen summary. Where none has one, they are all
    test posts, without.

    Raises:
        DataError: a file is missing, empty or broken, a cell is missing, empty or no text, a split is empty.
    """
    reader = _Reader(config)
    if config.demonstrations_from_chosen:
        demonstrations: dict[str, list[Demonstration]] = {"train": [], "validation": [], "test": []}
    else:
        columns = replace(config.columns, **(config.demonstrations.columns or {}))
        parser = Parser(config, columns)
        demonstrations = reader.read("demonstrations", ("train", "validation", "test"), parser.demonstration)
    parser = Parser(config, config.columns)
    pairs = reader.read("preferences", ("train", "judge", "validation", "test"), parser.pairs)
    reader.dropped.update(parser.dropped)
    if config.demonstrations_from_chosen:
        for split in ("train", "validation"):
            demonstrations[split] = [Demonstration(p.id, p.prompt, p.chosen) for p in pairs[split]]
    of_test = [(p.id, p.prompt, p.chosen if config.reference_from_chosen else p.reference) for p in pairs["test"]]
    with_reference = [EvalPrompt(name, prompt, reference) for name, prompt, reference in of_test if reference]
    eval_prompts = [EvalPrompt(d.id, d.prompt, d.completion) for d in demonstrations["test"]] + with_reference
    if eval_prompts:
        reader.dropped["test pairs without a reference summary"] += len(pairs["test"]) - len(with_reference)
    else:
        eval_prompts = [EvalPrompt(name, prompt, "") for name, prompt, _ in of_test]
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
    if config.demonstrations_from_references:
        data = _with_references(data)
    _require_rows(data, config)
    return data


def load_posts(config: ControlledConfig) -> tuple[dict[str, list[Demonstration]], dict[str, str]]:
    """Split -> posts with a human summary, of demonstrations and of preference pairs, whose summaries are not read;
    and file -> its hash.

    Raises:
        DataError: as `load_files`; or no file is named.
    """
    reader = _Reader(config)
    columns = replace(config.columns, **(config.demonstrations.columns or {}))
    names = ("train", "validation", "test")
    demonstrations = reader.read("demonstrations", names, Parser(config, columns).demonstration)
    of_pairs = reader.read("preferences", names, Parser(config, config.columns).described)
    posts = {split: demonstrations[split] + of_pairs[split] for split in names}
    everything = ComparisonData(
        {split: posts[split] for split in ("train", "validation")},
        {},
        [EvalPrompt(d.id, d.prompt, d.completion) for d in posts["test"]],
        {},
    )
    splits.check_no_leak(everything)
    return posts, reader.hashes


def _with_references(data: ComparisonData) -> ComparisonData:
    """With the human summaries of the arms' own pairs among the demonstrations, each once. The judge's posts stay its
    own."""
    demonstrations = {}
    for split in ("train", "validation"):
        rows = data.demonstrations[split]
        seen = {(splits.post_key(row.prompt), row.completion) for row in rows}
        of_pairs: dict[tuple[str, str], Demonstration] = {}
        for pair in data.preferences[split]:
            key = (splits.post_key(pair.prompt), pair.reference or "")
            if pair.reference and key not in seen:
                of_pairs.setdefault(key, Demonstration(pair.id, pair.prompt, pair.reference))
        demonstrations[split] = [*rows, *of_pairs.values()]
    return replace(data, demonstrations=demonstrations)


class _Reader:
    """Turns rows into records by the configured columns; keeps file hashes and reasons for dropped rows."""

    def __init__(self, config: FilesConfig | ControlledConfig) -> None:
        self.config = config
        is_hub = config.root.startswith(HUB)
        self.root = hub_folder(config.root) if is_hub else Path(config.root).expanduser()
        self.hashes: dict[str, str] = {}
        self.dropped: Counter[str] = Counter()
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set data.root to the folder of your files")

    def read(
        self, group: str, names: Iterable[str], parse: Callable[[Row, str], list[Parsed[R]]]
    ) -> dict[str, list[R]]:
        """The records of each split, from a file per split or, by the hash of the post, of unsplit files."""
        patterns = getattr(self.config, group)
        records: dict[str, list[R]] = {split: [] for split in names}
        if patterns.unsplit:
            for parsed in self._parsed(group, "unsplit", patterns.unsplit, parse):
                split = splits.assign_split(
                    parsed.records[0].prompt,
                    self.config.validation_fraction,
                    self.config.test_fraction,
                    self.config.split_seed,
                )
                records[split] += self._kept(parsed, split)
            return records
        for split in records:
            pattern = getattr(patterns, split)
            if pattern:
                for parsed in self._parsed(group, split, pattern, parse):
                    records[split] += self._kept(parsed, split)
        return records

    def _kept(self, parsed: Parsed[R], split: str) -> Sequence[R]:
        """The records; of a tie none, or for training both ways where the config wants it."""
        if parsed.is_tie and (self.config.ties == "drop" or split != "train"):
            self.dropped["ties"] += 1
            return []
        return parsed.records

    def _parsed(
        self, group: str, split: str, pattern: str, parse: Callable[[Row, str], list[Parsed[R]]]
    ) -> Iterator[Parsed[R]]:
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
                yield from parse(row, f"{group}-{split}-{number:06d}")

    def _paths(self, key: str, pattern: str) -> list[Path]:
        full_pattern = str(Path(glob.escape(str(self.root))) / pattern)
        paths = sorted(Path(path) for path in glob.glob(full_pattern, recursive=True))
        if not paths:
            mend = f"set {key} to the file's name"
            if isinstance(self.config, ControlledConfig):
                mend += ", or to null where there is none"
            elif key == "data.demonstrations.train":
                mend += " (SFT needs demonstrations), or data.demonstrations_from_chosen=true to use chosen ones"
            elif key not in ("data.preferences.train", "data.preferences.validation"):
                mend += ", or to null where there is none"
            raise DataError(f"{self.root.resolve()}: no file matches {pattern!r}{self._there()}; {mend}")
        _require_one_form(paths, key)
        return [file for path in paths for file in files_of(path)]

    def _there(self) -> str:
        """Which files the folder has, where nothing matched."""
        there = (path.relative_to(self.root) for path in sorted(self.root.rglob("*")) if is_readable(path))
        shown = (path for path in there if not any(part.startswith(".") for part in path.parts))
        files = [path.as_posix() for path in shown if (self.root / path).is_file()]
        return f" (there are {', '.join(files[:8])}{', ...' if len(files) > 8 else ''})" if files else ""


def _require_one_form(paths: Sequence[Path], key: str) -> None:
    """Refuse `train.jsonl` beside `train.parquet`: the same rows in two forms would count twice."""
    seen: dict[Path, Path] = {}
    for path in filter(is_readable, paths):
        stem = bare(path)
        if stem in seen:
            raise DataError(f"{seen[stem]} and {path.name} both match {key}; remove one, or name the one to read")
        seen[stem] = path


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
                f"{config.root}: no {name} left after splitting by post; give more posts, a file per split, or a"
                " larger data.validation_fraction (data.judge_fraction=0 needs no pairs for a judge)"
            )
    if not data.eval_prompts:
        raise DataError(
            f"{config.root}: no test posts left after splitting by post; give data.demonstrations.test or"
            " data.preferences.test, more posts, or a larger data.test_fraction"
        )
