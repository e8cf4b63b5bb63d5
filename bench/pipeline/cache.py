"""Finished stages, kept by the hash of everything that went into them, so that a sweep trains its SFT model once.

A stage is built in a `.partial` folder beside its place. Of what a killed process left there, `checkpoint/` is kept:
the next process that wants the stage goes on from it, and its cost contains the time up to the last file written there.

A finished stage is checked whenever it is taken (`bench.pipeline.checksums`); one that is damaged is set aside as
`.<stage>-<key>.damaged` and made again. So is one that was made from another content than its inputs have now: they
were damaged and came out otherwise, as on another processor they do.
"""

import errno
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes
from bench.cost import StageCost
from bench.cost.meter import of_all, with_earlier
from bench.errors import ResourceError
from bench.files import read_json, read_jsonl, write_json, write_jsonl
from bench.pipeline.checksums import CHECKSUMS, content, damage, write_checksums
from bench.pipeline.locks import alone, mark_in_use
from bench.pipeline.stage_folder import CHECKPOINT, DAMAGED, PARTIAL, beside, key_of, lock_of
from bench.progress import say
from bench.provenance import stable_hash
from bench.train.log import TrainingLog
from bench.train.settings.samples import MOMENTS

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_DISK_TROUBLE |= {errno.EEXIST, errno.ENOTDIR}  # results_dir is a file, or lies below one

_ATTEMPT = "attempt.json"

Build = Callable[[Path], tuple[StageCost, TrainingLog]]
"""build(folder) fills the folder; what it keeps in `folder/checkpoint` is there again after a kill."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage's folder, the key that names it, what it cost when it ran, and whether it ran just now.

    `code` is the hash of the source and packages that it was made by, `content` of the files that other stages read.
    """

    name: str
    key: str
    code: str
    folder: Path
    cost: StageCost
    log: TrainingLog
    reused: bool
    content: str = ""


class StageCache:
    """`<root>/<stage>-<key>/` per finished stage. A folder appears whole, by rename, or not at all.

    What was taken is in use, and not to be pruned, as long as this object lives.
    """

    def __init__(self, root: Path, user: str = "a run") -> None:
        """`user` is who takes stages here, for those who wait for them."""
        self.root, self.user = root, user

    def place(self, name: str, code: str, inputs: Mapping[str, Any]) -> Path:
        """The folder of the stage made from `inputs`, there or not."""
        return self.root / f"{name}-{stable_hash({'stage': name, 'code': code, **inputs})[:16]}"

    def run(
        self,
        name: str,
        code: str,
        inputs: Mapping[str, Any],
        build: Build,
        *,
        made_from: Mapping[str, str] | None = None,
        scale: Mapping[str, Any] | None = None,
        by_all: bool = False,
    ) -> FinishedStage:
        """The stage made from `inputs`, from the cache or by `build(folder)`.

        `inputs` is everything that can change the result, as JSON, but for the code that makes it (`code_key`). Runs
        that want the same stage at once wait for the first. Of several processes of one run, rank 0 builds while the
        others wait, or, `by_all`, all of them build together; rank 0 alone may write then.

        Args:
            made_from: input -> its `content`. No part of the key, which stands before the inputs are made.
            scale: what its time hangs on, for the record.

        Raises:
            ResourceError: the cache folder cannot be written.
        """
        folder = self.place(name, code, inputs)
        made_from = made_from or {}
        try:
            with self._locked(folder.name):
                reused = processes.from_main(processes.is_main() and self._is_sound(folder, made_from))
                if not reused:
                    record = {"stage": name, "inputs": inputs, "made_from": made_from, "scale": scale or {}}
                    self._build(record, folder, build, by_all)
                if processes.is_main():
                    weakref.finalize(self, os.close, mark_in_use(folder / CHECKSUMS))
        except Exception as error:
            reason = _disk_trouble(error)
            if reason is None:
                raise
            raise ResourceError(
                f"cannot write stage {name} under {self.root}: {reason}; free disk space or choose another results_dir"
            ) from error
        cost = StageCost(**read_json(folder / "stage.json")["cost"])
        log = read_jsonl(folder / "training.jsonl")
        return FinishedStage(name, key_of(folder), code, folder, cost, log, reused, content(folder))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Rank 0 holds the stage's lock for all processes of its run."""
        if not processes.is_main():
            yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        lock = lock_of(self.root / name)
        with alone(lock, f"stage {name}", self.user):
            os.utime(lock)  # when the stage was last used
            yield

    def _is_sound(self, folder: Path, made_from: Mapping[str, str]) -> bool:
        """Whether the stage is there and whole; if it is there and is not, it is set aside."""
        if not folder.exists():
            return False
        reason = damage(folder) or _other_inputs(folder, made_from)
        if reason is None:
            return True
        aside = beside(folder, DAMAGED)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        say(f"stage {folder.name}: {reason}; it is set aside as {aside} and made again")
        return False

    def _build(self, record: Mapping[str, Any], folder: Path, build: Build, by_all: bool) -> None:
        work = beside(folder, PARTIAL)
        if not processes.is_main():
            processes.wait()  # for the work folder
            if by_all:
                build(work)
            processes.wait()  # for the finished one
            return
        try:
            earlier_s = _begin(work, record["made_from"])
            processes.wait()
            cost, log = build(work)
            if by_all:
                cost = of_all(cost, processes.count())
            write_jsonl(work / "training.jsonl", log)
            cost = with_earlier(cost, earlier_s)
            write_json(work / "stage.json", {**record, "cost": cost.to_dict()})
            shutil.rmtree(work / CHECKPOINT, ignore_errors=True)
            (work / _ATTEMPT).unlink()
            write_checksums(work)
            os.replace(work, folder)
            processes.wait()
        finally:
            _keep_checkpoint(work)


def _other_inputs(folder: Path, made_from: Mapping[str, str]) -> str | None:
    """Which of its inputs have another content by now than those that it was made from."""
    then = read_json(folder / "stage.json")["made_from"]
    others = sorted(role for role, content in made_from.items() if then.get(role) != content)
    return f"its {', '.join(others)} came out otherwise when made again" if others else None


def _begin(work: Path, made_from: Mapping[str, str]) -> float:
    """Make the work folder ready for an attempt; the seconds that earlier attempts spent up to their checkpoint.

    A checkpoint that does not say, whole, from what it is made is thrown away: its inputs may have been made again.
    """
    earlier_s = 0.0
    written = [path.stat().st_mtime for path in (work / CHECKPOINT).rglob("*") if path.is_file()]
    try:
        attempt = read_json(work / _ATTEMPT)
        if attempt["made_from"] != made_from:
            shutil.rmtree(work)
        elif written:
            earlier_s = attempt["earlier_s"] + max(0.0, max(written) - attempt["started"])
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(work, ignore_errors=True)
    _keep_checkpoint(work)
    work.mkdir(exist_ok=True)
    write_json(work / _ATTEMPT, {"started": time.time(), "earlier_s": earlier_s, "made_from": made_from})
    return earlier_s


def _keep_checkpoint(work: Path) -> None:
    """Leave of the work folder what the next attempt can go on from; nothing if there is nothing."""
    if not any(path.is_file() for path in (work / CHECKPOINT).rglob("*")):
        shutil.rmtree(work, ignore_errors=True)
        return
    for path in work.iterdir():
        if path.name not in (CHECKPOINT, MOMENTS, _ATTEMPT):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _disk_trouble(error: Exception) -> str | None:
    """Why the disk refused a write, or None for any other error.

    safetensors and tokenizers write from Rust and raise no OSError: their number stands in the message.
    """
    in_message = re.search(r"\(os error (\d+)\)", str(error))
    number = int(in_message[1]) if in_message else getattr(error, "errno", None)
    return os.strerror(number) if number in _DISK_TROUBLE else None
