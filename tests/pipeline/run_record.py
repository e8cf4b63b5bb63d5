"""What a run's own record names, for tests: others may have put theirs into the same cache."""

from pathlib import Path

from bench.config import RunConfig
from bench.files import read_json


def stage_folder(config: RunConfig, folder: Path, stage: str) -> Path:
    """Where the run of this folder has its stage of this name."""
    key = read_json(folder / "run.json")["stages"][stage]["key"]
    return Path(config.results_dir) / ".cache" / "stages" / f"{stage}-{key}"
