"""What a stage is called on the disk: `<stages>/<stage>-<key>/`, and hidden beside it what belongs to its making."""

from pathlib import Path

CHECKPOINT = "checkpoint"
PARTIAL = ".partial"
"""Ending of the hidden folder in which a stage is built; what a killed process left there has a checkpoint."""
DAMAGED = ".damaged"
"""Ending of the hidden folder of a stage that was set aside; nothing reads it."""


def stages_dir(results_dir: Path) -> Path:
    """Where the stages of all runs below a results folder are."""
    return results_dir / ".cache" / "stages"


def key_of(folder: Path) -> str:
    return folder.name.rpartition("-")[2]


def beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def lock_of(folder: Path) -> Path:
    """Held while the stage is looked for or built; changed last when the stage was last used."""
    return beside(folder, ".lock")
