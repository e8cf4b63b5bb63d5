"""The run folder: claimed by one config, found again by the same command."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import ResourceError, RunFolderError
from bench.files import read_json
from bench.pipeline.config import RunConfig
from bench.provenance import stable_hash

_NO_RESULT = ("results_dir", "run_id", "checkpoint_every_s")  # say where results go and when, not what they are


def config_as_dict(config: RunConfig) -> dict[str, Any]:
    return asdict(config)


def config_hash(config: RunConfig) -> str:
    values = {key: value for key, value in config_as_dict(config).items() if key not in _NO_RESULT}
    return stable_hash(values)


def run_folder(config: RunConfig) -> Path:
    name = config.run_id or f"s{config.seed}-{config_hash(config)[:10]}"
    return Path(config.results_dir) / config.name / name


def claim(config: RunConfig) -> tuple[Path, bool]:
    """The run's folder, and whether it holds this very run, finished.

    Raises:
        RunFolderError: the folder holds something else; names the first setting that differs.
        ResourceError: the folder cannot be made.
    """
    folder = run_folder(config)
    record = folder / "run.json"
    if record.exists():
        found = read_json(record)
        if found["config_hash"] != config_hash(config):
            ours = json.loads(json.dumps(config_as_dict(config)))  # as read back: tuples are lists
            key, there, here = _first_difference(found["config"], ours)
            raise RunFolderError(
                f"{folder} holds a run of another config ({key} is {there!r} there, {here!r} here);"
                " choose another run_id or remove the folder"
            )
        return folder, (folder / "metrics.json").exists()
    if folder.exists() and any(folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty and holds no run; choose another run_id or remove the folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror or error}; choose another results_dir") from error
    return folder, False


def _first_difference(theirs: Any, ours: Any, path: str = "") -> tuple[str, Any, Any]:
    """Dotted key and both values of the first leaf that differs."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in sorted({*theirs, *ours} - set(_NO_RESULT) if not path else {*theirs, *ours}):
            left, right = theirs.get(key), ours.get(key)
            if left != right:
                return _first_difference(left, right, f"{path}.{key}" if path else key)
    return path, theirs, ours
