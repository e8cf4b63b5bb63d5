"""The run folder: claimed by one config, found again by the same command, and telling how far its run has come."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.config import RunConfig
from bench.errors import ResourceError, RunFolderError
from bench.files import read_json, write_json
from bench.pipeline.locks import alone
from bench.provenance import git_state, package_versions, stable_hash
from bench.train.log import TrainingLog

SCHEMA = 2
RUNNING, FINISHED, FAILED = "running", "finished", "failed"
_PROBE = ".writable"
# Say where results go, when and how fast, not what they are.
_NO_RESULT = ("results_dir", "run_id", "label", "checkpoint_every_s", "threads", "remeasure", "report_to")


def config_as_dict(config: RunConfig) -> dict[str, Any]:
    return asdict(config)


def config_hash(config: RunConfig) -> str:
    values = {key: value for key, value in config_as_dict(config).items() if key not in _NO_RESULT}
    return stable_hash(values)


def run_folder(config: RunConfig, weights: str = "") -> Path:
    """Where the run's results go: `s<seed>-<label>-<hash>`, or the folder of the same hash that is there already,
    whatever its label.

    Args:
        weights: hash of the base model's files where the config names a folder: other weights are another run.
    """
    identity = stable_hash([config_hash(config), weights]) if weights else config_hash(config)
    home = Path(config.results_dir) / config.name
    if config.run_id:
        return home / config.run_id
    known = sorted(home.glob(f"s{config.seed}-*{identity[:10]}"))
    return known[0] if known else home / f"s{config.seed}-{f'{config.label}-' if config.label else ''}{identity[:10]}"


@contextmanager
def one_at_a_time(config: RunConfig, command: str, weights: str = "") -> Iterator[None]:
    """Of several processes that are to fill one run folder, the first does and the others wait for it.

    Raises:
        ResourceError: the results folder cannot be written.
    """
    folder = run_folder(config, weights)
    lock = Path(config.results_dir) / ".cache" / "runs" / f"{config.name}-{folder.name}.lock"
    with ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(lock, f"run {folder}", command))
        except OSError as error:
            raise _not_writable(folder, error) from error
        yield


def claim(config: RunConfig, weights: str = "") -> tuple[Path, dict[str, Any] | None]:
    """The run's folder, and its record if it holds this very run, finished.

    Raises:
        RunFolderError: the folder holds something else; names the first setting that differs.
        ResourceError: the folder cannot be made.
    """
    folder = run_folder(config, weights)
    if (folder / "run.json").exists():
        found = read_json(folder / "run.json")
        if found["config_hash"] != config_hash(config):
            ours = json.loads(json.dumps(config_as_dict(config)))  # as read back: tuples are lists
            key, there, here = _first_difference(found["config"], ours)
            raise RunFolderError(
                f"{folder} holds a run of another config ({key} is {there!r} there, {here!r} here);"
                " choose another run_id or remove the folder"
            )
        if found.get("weights", "") != weights:
            raise RunFolderError(
                f"{folder} was made from other weights ({config.model.name} has changed since);"
                " choose another run_id or remove the folder"
            )
        is_finished = found.get("status", FINISHED) == FINISHED and (folder / "metrics.json").exists()
        return folder, found if is_finished else None
    if folder.exists() and any(path for path in folder.iterdir() if not _is_left_over(path)):
        raise RunFolderError(f"{folder} is not empty and holds no run; choose another run_id or remove the folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / _PROBE
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _not_writable(folder, error) from error
    return folder, None


def _not_writable(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(f"cannot write {folder}: {error.strerror or error}; choose another results_dir")


def _is_left_over(path: Path) -> bool:
    """Whether a killed process left the file: one that it was writing, or the probe."""
    return re.fullmatch(rf"{re.escape(_PROBE)}|\..+\.(json|jsonl|svg|md|html)\.\w{{8}}", path.name) is not None


@contextmanager
def recorded(folder: Path, config: RunConfig, command: str, weights: str = "") -> Iterator[dict[str, Any]]:
    """Keep run.json true while the block runs: what was started, and how it ended if not well.

    The yielded record is the block's to complete; `finish` writes it. A run that was killed outright says `running`.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "experiment": config.name,
        "run_id": folder.name,
        "command": command,
        "config": config_as_dict(config),
        "config_hash": config_hash(config),
        "weights": weights,
        "seed": config.seed,
        "git": git_state(),
        "versions": package_versions(),
        "started": _now(),
        "status": RUNNING,
    }
    for path in [path for path in folder.rglob(".*") if _is_left_over(path)]:
        path.unlink()
    note(folder, record)
    try:
        yield record
    except BaseException as error:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        with suppress(ResourceError):  # the disk may be what failed
            write_json(folder / "run.json", {**record, "status": FAILED, "error": what, "ended": _now()})
        raise


def note(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a run that goes on."""
    write_json(folder / "run.json", record)


def finish(folder: Path, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write the finished record and the metrics; metrics.json comes last, because its presence says that all is there.

    run.json is whole before it, so that a rerun after a full disk knows the folder as its own.
    """
    write_json(folder / "run.json", {**record, "status": FINISHED, "finished": _now()})
    write_json(folder / "metrics.json", metrics)


class TrainingLogs:
    """`training/<stage>.jsonl`, growing as the stages do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "training"
        self._written: dict[str, int] = {}

    def write(self, stage: str, rows: TrainingLog) -> None:
        """Append what is new of the stage's whole log; a log from before this run is replaced."""
        start = self._written.get(stage, 0)
        if len(rows) <= start:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / f"{stage}.jsonl", "a" if start else "w", encoding="utf-8") as handle:
            for row in rows[start:]:
                handle.write(json.dumps(row, sort_keys=True, allow_nan=False) + "\n")
        self._written[stage] = len(rows)


def _first_difference(theirs: Any, ours: Any, path: str = "") -> tuple[str, Any, Any]:
    """Dotted key and both values of the first leaf that differs."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in sorted({*theirs, *ours} - set(_NO_RESULT) if not path else {*theirs, *ours}):
            left, right = theirs.get(key), ours.get(key)
            if left != right:
                return _first_difference(left, right, f"{path}.{key}" if path else key)
    return path, theirs, ours


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
