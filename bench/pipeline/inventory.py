"""What the stage cache of a results folder holds, who names it, and what of it may go."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from bench.pipeline.checksums import CHECKSUMS
from bench.pipeline.locks import is_in_use, is_locked
from bench.pipeline.stage_folder import DAMAGED, PARTIAL, beside, lock_of, stages_dir

Kind = Literal["finished", "unfinished", "damaged"]
_HIDDEN: dict[str, Kind] = {PARTIAL: "unfinished", DAMAGED: "damaged"}


@dataclass(frozen=True)
class Entry:
    """One folder of the stage cache.

    Attributes:
        stage, key: as its name has them.
        kind: `unfinished` is what a killed run left, or a running one builds; `damaged` was set aside.
        bytes: of all its files.
        made, used: when it was finished (or last written to) and when a run last took it, seconds since the epoch.
        named_by: the run folders whose records name it, relative to the results folder.
    """

    folder: Path
    stage: str
    key: str
    kind: Kind
    bytes: int
    made: float
    used: float
    named_by: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """Of the stage when it is finished."""
        return self.folder.with_name(f"{self.stage}-{self.key}")

    def busy(self) -> str | None:
        """What a process does with it at this moment, if any does."""
        if is_locked(lock_of(self.place)):
            return "being built" if self.kind == "unfinished" else "locked"
        if self.kind == "finished" and is_in_use(self.folder / CHECKSUMS):
            return "in use"
        return None


def inventory(results_dir: Path) -> list[Entry]:
    """Every folder of the stage cache, by stage and, within one, the last used first."""
    root = stages_dir(results_dir)
    named = _named(results_dir)
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    entries = [_entry(folder, named) for folder in folders]
    return sorted(entries, key=lambda entry: (entry.stage, -entry.used, entry.folder))


def prunable(
    entries: Sequence[Entry],
    *,
    unnamed: bool = False,
    unused_since: float | None = None,
    to_bytes: int | None = None,
) -> list[Entry]:
    """What is to go, the least recently used first: what was set aside, and of the others those that meet all of it.

    Args:
        unnamed: finished stages that no run folder names.
        unused_since: not used since then, in seconds since the epoch.
        to_bytes: no more goes than it takes for the rest to need no more than this.
    """
    candidates = sorted((entry for entry in entries if entry.kind != "damaged"), key=lambda entry: entry.used)
    if unnamed:
        candidates = [entry for entry in candidates if entry.kind == "finished" and not entry.named_by]
    if unused_since is not None:
        candidates = [entry for entry in candidates if entry.used < unused_since]
    going = [entry for entry in entries if entry.kind == "damaged"]
    left = sum(entry.bytes for entry in entries if entry.kind != "damaged")
    for entry in candidates:
        if to_bytes is not None and left <= to_bytes:
            break
        going.append(entry)
        left -= entry.bytes
    return going


def remove(entry: Entry) -> str | None:
    """Remove the folder, or return what a process does with it at this moment.

    Whole or not at all, for those who look for the stage meanwhile.
    """
    try:
        with FileLock(lock_of(entry.place), timeout=0):
            if entry.kind == "finished":
                if is_in_use(entry.folder / CHECKSUMS):
                    return "in use"
                aside = beside(entry.folder, DAMAGED)
                shutil.rmtree(aside, ignore_errors=True)
                with suppress(FileNotFoundError):  # another has removed it since
                    os.replace(entry.folder, aside)
                shutil.rmtree(aside, ignore_errors=True)
            else:
                shutil.rmtree(entry.folder, ignore_errors=True)
    except Timeout:
        return "locked"
    return None


def size(folder: Path) -> int:
    """Bytes of all files below a folder, those that vanish meanwhile left out."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _entry(folder: Path, named: dict[str, list[str]]) -> Entry:
    ending = next((ending for ending in _HIDDEN if folder.name.endswith(ending)), "")
    name = folder.name.removesuffix(ending).removeprefix("." if ending else "")
    kind = _HIDDEN.get(ending, "finished")
    stage, _, key = name.rpartition("-")
    times = [_changed(path) for path in (folder, *folder.rglob("*"))]
    made = _changed(folder / "stage.json") if kind == "finished" else max(times)
    used = max(made, _changed(lock_of(folder))) if kind == "finished" else made
    return Entry(folder, stage, key, kind, size(folder), made, used, tuple(named[name]) if kind == "finished" else ())


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _named(results_dir: Path) -> dict[str, list[str]]:
    """Folder of the cache -> the run folders whose records name it."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder, record in _records(results_dir):
        # Records of earlier versions have the keys alone.
        names = record.get("cache") or [f"{stage}-{made['key']}" for stage, made in record.get("stages", {}).items()]
        for name in set(names):
            found[name].append(folder)
    return found


def _records(results_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run folder, relative to the results folder, and its run.json; what is none is passed over."""
    for parent, folders, names in os.walk(results_dir):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "run.json" not in names:
            continue
        try:
            record = json.loads(Path(parent, "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            yield os.path.relpath(parent, results_dir), record
