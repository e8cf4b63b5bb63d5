"""Finished stages, kept by the hash of everything that went into them, so that a sweep trains its SFT model once.

A stage is built in a `.partial` folder beside its place. Of what a killed process left there, `checkpoint/` is kept:
the next process that wants the stage goes on from it, and its cost contains the time up to the last file written there.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench import processes
from bench.cost import StageCost
from bench.cost.meter import of_all, with_earlier
from bench.errors import ResourceError
from bench.files import read_json, read_jsonl, write_json, write_jsonl
from bench.provenance import stable_hash
from bench.train.log import TrainingLog

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_DISK_TROUBLE |= {errno.EEXIST, errno.ENOTDIR}  # results_dir is a file, or lies below one

CHECKPOINT = "checkpoint"
_ATTEMPT = "attempt.json"

Build = Callable[[Path], tuple[StageCost, TrainingLog]]
"""build(folder) fills the folder; what it keeps in `folder/checkpoint` is there again after a kill."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage's folder, the key that names it, what it cost when it ran, and whether it ran just now.

    `code` is the hash of the source and packages that it was made by.
    """

    name: str
    key: str
    code: str
    folder: Path
    cost: StageCost
    log: TrainingLog
    reused: bool


class StageCache:
    """`<root>/<stage>-<key>/` per finished stage. A folder appears whole, by rename, or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, name: str, code: str, inputs: Mapping[str, Any]) -> Path:
        """The folder of the stage made from `inputs`, there or not."""
        return self.root / f"{name}-{stable_hash({'stage': name, 'code': code, **inputs})[:16]}"

    def run(
        self, name: str, code: str, inputs: Mapping[str, Any], build: Build, *, by_all: bool = False
    ) -> FinishedStage:
        """The stage made from `inputs`, from the cache or by `build(folder)`.

        `inputs` is everything that can change the result, as JSON, but for the code that makes it (`code_key`). Runs
        that want the same stage at once wait for the first. Of several processes of one run, rank 0 builds while the
        others wait, or, `by_all`, all of them build together; rank 0 alone may write then.

        Raises:
            ResourceError: the cache folder cannot be written.
        """
        folder = self.place(name, code, inputs)
        try:
            with self._locked(folder.name):
                reused = processes.from_main((folder / "stage.json").exists())
                if not reused:
                    self._build(name, inputs, folder, build, by_all)
        except Exception as error:
            reason = _disk_trouble(error)
            if reason is None:
                raise
            raise ResourceError(
                f"cannot write stage {name} under {self.root}: {reason}; free disk space or choose another results_dir"
            ) from error
        cost = StageCost(**read_json(folder / "stage.json")["cost"])
        return FinishedStage(name, key_of(folder), code, folder, cost, read_jsonl(folder / "training.jsonl"), reused)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Rank 0 holds the stage's lock for all processes of its run."""
        if not processes.is_main():
            yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f".{name}.lock"):
            yield

    def _build(self, name: str, inputs: Mapping[str, Any], folder: Path, build: Build, by_all: bool) -> None:
        work = folder.with_name(f".{folder.name}.partial")
        if not processes.is_main():
            processes.wait()  # for the work folder
            if by_all:
                build(work)
            processes.wait()  # for the finished one
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            earlier_s = _begin(work)
            processes.wait()
            cost, log = build(work)
            if by_all:
                cost = of_all(cost, processes.count())
            write_jsonl(work / "training.jsonl", log)
            cost = with_earlier(cost, earlier_s)
            write_json(work / "stage.json", {"stage": name, "inputs": inputs, "cost": cost.to_dict()})
            shutil.rmtree(work / CHECKPOINT, ignore_errors=True)
            (work / _ATTEMPT).unlink()
            os.replace(work, folder)
            processes.wait()
        finally:
            _keep_checkpoint(work)


def key_of(folder: Path) -> str:
    """The key in the name of a stage's folder."""
    return folder.name.rpartition("-")[2]


def _begin(work: Path) -> float:
    """Make the work folder ready for an attempt; the seconds that earlier attempts spent up to their checkpoint."""
    earlier_s = 0.0
    written = [path.stat().st_mtime for path in (work / CHECKPOINT).rglob("*") if path.is_file()]
    if written and (work / _ATTEMPT).exists():
        attempt = read_json(work / _ATTEMPT)
        earlier_s = attempt["earlier_s"] + max(0.0, max(written) - attempt["started"])
    _keep_checkpoint(work)
    work.mkdir(exist_ok=True)
    write_json(work / _ATTEMPT, {"started": time.time(), "earlier_s": earlier_s})
    return earlier_s


def _keep_checkpoint(work: Path) -> None:
    """Leave of the work folder what the next attempt can go on from; nothing if there is nothing."""
    if not any(path.is_file() for path in (work / CHECKPOINT).rglob("*")):
        shutil.rmtree(work, ignore_errors=True)
        return
    for path in work.iterdir():
        if path.name not in (CHECKPOINT, _ATTEMPT):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _disk_trouble(error: Exception) -> str | None:
    """Why the disk refused a write, or None for any other error.

    safetensors and tokenizers write from Rust and raise no OSError: their number stands in the message.
    """
    in_message = re.search(r"\(os error (\d+)\)", str(error))
    number = int(in_message[1]) if in_message else getattr(error, "errno", None)
    return os.strerror(number) if number in _DISK_TROUBLE else None
