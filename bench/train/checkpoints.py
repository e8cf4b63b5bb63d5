"""Checkpoints of the TRL trainers: a killed run goes on from the newest whole one.

The trainer writes `checkpoint-N/` (weights, optimizer, scheduler, random states); this module decides when, and writes
a marker with the log's rows and the samples into it last. What has no marker was cut off while it was written, and is
thrown away.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bench import processes
from bench.files import read_json, sync, write_json
from bench.train.log import Row

_MAX_SHARE = 0.02  # of the training time that saving may take
_MARKER = "whole.json"


class Checkpoint(NamedTuple):
    folder: Path
    rows: list[Row]  # of the log, up to the checkpoint's step
    samples: list[dict[str, Any]]  # that were taken on the way


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint below `folder`; half-written ones are removed on the way."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if (path / _MARKER).exists()]
    processes.wait()  # every process has looked before rank 0 removes
    if processes.is_main():
        for path in found:
            if path not in whole:
                shutil.rmtree(path)
    processes.wait()
    return Checkpoint(whole[-1], **read_json(whole[-1] / _MARKER)) if whole else None


class CheckpointCallback(TrainerCallback):
    """Saves when `every_s` seconds have passed, and less often where saving would take more than 2 % of the time."""

    def __init__(
        self, rows: list[Row], every_s: float, samples: Sequence[dict[str, Any]] = (), every_steps: int = 1
    ) -> None:
        """`rows` and `samples` grow while the training goes on; it saves at multiples of `every_steps` alone."""
        self._rows, self._samples, self._every_s, self._every_steps = rows, samples, every_s, every_steps
        self._interval, self._last = every_s, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._last = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        due = time.perf_counter() - self._last >= self._interval and state.global_step % self._every_steps == 0
        # Saving is done by all processes together, so rank 0's clock counts.
        if processes.from_main(due) and state.global_step < state.max_steps:
            control.should_save = True
            self._last = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        processes.wait()  # each process writes its own random state
        if processes.is_main():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            for path in folder.rglob("*"):
                if path.is_file():
                    sync(path)
            write_json(folder / _MARKER, {"rows": self._rows, "samples": list(self._samples)})
        now = time.perf_counter()
        # every_s = 0 saves at every step: tests do.
        self._interval = max(self._every_s, (now - self._last) / _MAX_SHARE) if self._every_s else 0.0
        self._last = now
