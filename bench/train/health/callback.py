"""A TRL trainer under watch: what is found is said at once, and no step is taken on a gradient that is not finite."""

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bench.train.health.watch import Watch
from bench.train.log import Row


class HealthCallback(TrainerCallback):
    """Stops before the optimizer step that would write NaN into the weights; they stay those of the step before.

    Add it after the callbacks that fill `rows` and that ask for checkpoints. A loss that is not finite has no finite
    gradient, and the gradient is the same in every process, so all of them stop together. DeepSpeed takes its step
    inside the backward pass: there a NaN is found in the log, and no sooner.
    """

    def __init__(self, watch: Watch, rows: list[Row]) -> None:
        self.watch, self.rows = watch, rows
        self.stopped = False
        self._read = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        for row in self.rows:  # of a run that goes on: said before
            self.watch.read(row)
        self._read = len(self.rows)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not torch.isfinite(nn.utils.get_total_norm(gradients)):
            model.zero_grad(set_to_none=True)  # an optimizer passes over parameters without a gradient
            self.stopped = control.should_training_stop = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.stopped:
            control.should_save = False  # a checkpoint counts this step as taken

    def on_log(self, *_: Any, **__: Any) -> None:
        new, self._read = self.rows[self._read :], len(self.rows)
        for row in new:
            self.watch.report(row)
