"""Finished stages, kept by the hash of everything that went into them, so that a sweep trains its SFT model once."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.cost import StageCost
from bench.errors import ResourceError
from bench.files import read_json, read_jsonl, write_json, write_jsonl
from bench.provenance import code_hash, stable_hash
from bench.train.trl_common import TrainingLog

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_DISK_TROUBLE |= {errno.EEXIST, errno.ENOTDIR}  # results_dir is a file, or lies below one

Build = Callable[[Path], tuple[StageCost, TrainingLog]]


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, the key that names it, what it cost when it ran, and whether it ran just now."""

    name: str
    key: str
    folder: Path
    cost: StageCost
    log: TrainingLog
    reused: bool


class StageCache:
    """`<root>/<stage>-<key>/` per finished stage. A folder appears whole, by rename, or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, name: str, inputs: Mapping[str, Any], build: Build) -> Stage:
        """The stage made from `inputs`, from the cache or by `build(folder)`.

        `inputs` is everything that can change the result, as JSON; the package's source counts too. Processes that
        want the same stage at once wait for the first.

        Raises:
            ResourceError: the cache folder cannot be written.
        """
        key = stable_hash({"stage": name, "code": code_hash(), **inputs})[:16]
        folder = self.root / f"{name}-{key}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{name}-{key}.lock"):
                reused = (folder / "stage.json").exists()
                if not reused:
                    self._build(name, inputs, folder, build)
        except Exception as error:
            reason = _disk_trouble(error)
            if reason is None:
                raise
            raise ResourceError(
                f"cannot write stage {name} under {self.root}: {reason}; free disk space or choose another results_dir"
            ) from error
        stage = read_json(folder / "stage.json")
        return Stage(name, key, folder, StageCost(**stage["cost"]), read_jsonl(folder / "training.jsonl"), reused)

    def _build(self, name: str, inputs: Mapping[str, Any], folder: Path, build: Build) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        scratch = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()
            cost, log = build(scratch)
            write_jsonl(scratch / "training.jsonl", log)
            write_json(scratch / "stage.json", {"stage": name, "inputs": inputs, "cost": cost.to_dict()})
            os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _disk_trouble(error: Exception) -> str | None:
    """Why the disk refused a write, or None for any other error.

    safetensors and tokenizers write from Rust and raise no OSError: their number stands in the message.
    """
    in_message = re.search(r"\(os error (\d+)\)", str(error))
    number = int(in_message[1]) if in_message else getattr(error, "errno", None)
    return os.strerror(number) if number in _DISK_TROUBLE else None
