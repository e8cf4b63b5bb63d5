"""TRL trainers whose optimizer batch is cut into micro-batches (`bench.micro_batches`).

The trainers' own gradient accumulation takes rows as they come, so a micro-batch is padded to its longest row. Here the
whole batch comes at once, and `training_step` cuts it. The gradient is that of the batch, however it is cut.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from bench.micro_batches import micro_batches
from bench.train.settings.common import BudgetedSettings
from bench.train.warmup import CutWarmup


class MicroBatched(CutWarmup):
    """Mixin, first of the bases: `class _SFT(MicroBatched, SFTTrainer)`; `settings` is given before training.

    Attributes:
        sides: rows that make one example: in a batch, all first ones, then all second ones, and so on.
    """

    settings: BudgetedSettings
    sides = 1
    _total_train_tokens: int  # TRL's
    _metrics: dict[str, dict[str, list[float]]]  # TRL's: mode -> name -> one value per call of compute_loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Num[Tensor, ""] | int | None = None
    ) -> Float[Tensor, ""]:
        """Add the batch's gradient and return its loss."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        parts, shares = self._cut(inputs)
        metrics = self._metrics["train"]
        before = {name: len(values) for name, values in metrics.items()}
        total = torch.zeros((), device=self.args.device)
        for i, (part, share) in enumerate(zip(parts, shares, strict=True)):
            last = i == len(parts) - 1
            with contextlib.nullcontext() if last else self._adding_up(model):
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, part, num_items_in_batch=num_items_in_batch)
                assert isinstance(loss, Tensor)  # a tuple only with return_outputs
                # A loss per token is a sum over num_items_in_batch already; a loss per pair is a mean over the part.
                loss = loss if num_items_in_batch is not None else loss * share
                self.accelerator.backward(loss)
            total += loss.detach()
        for name, values in metrics.items():
            new = values[before.get(name, 0) :]
            if len(new) == len(parts):
                values[before.get(name, 0) :] = [sum(v * s for v, s in zip(new, shares, strict=True))]
        return total

    @contextlib.contextmanager
    def _adding_up(self, model: nn.Module) -> Iterator[None]:
        """Within it a backward pass adds to the gradient, and no more.

        accelerate's `no_sync` alone would leave DeepSpeed's engine a step in every backward pass.
        """
        state = self.accelerator.gradient_state
        before, state.sync_gradients = state.sync_gradients, False
        try:
            with self.accelerator.no_sync(model):
                yield
        finally:
            state.sync_gradients = before

    def lengths_of(self, inputs: dict[str, Any]) -> Int[Tensor, " R"]:
        """Tokens of each row of a batch."""
        return inputs["attention_mask"].sum(1)

    def _cut(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
        """The micro-batches, and each one's share of the examples."""
        lengths = self.lengths_of(inputs)
        tokens = lengths.view(self.sides, -1).sum(0)
        examples = torch.arange(len(tokens), device=lengths.device)
        limits = self.settings.micro_batch_size, self.settings.micro_batch_tokens
        groups = micro_batches(examples, tokens, *limits)
        if self.accelerator.num_processes > 1:  # the trainers gather their metrics in every compute_loss
            number = torch.tensor([len(groups)], device=self.args.device)
            most = int(self.accelerator.gather(number).max())  # pyright: ignore[reportAttributeAccessIssue]
            groups = micro_batches(examples, tokens, *limits, at_least=most)
        parts = []
        for group in groups:
            rows = torch.cat([group + side * len(examples) for side in range(self.sides)])
            width = int(lengths[rows].max())
            parts.append({name: _take(value, rows, width) for name, value in inputs.items()})
        return parts, [len(group) / len(examples) for group in groups]


def _take(value: Any, rows: Int[Tensor, " _"], width: int) -> Any:
    """The rows of a batch entry: (R, T) tokens cut to `width`, or (R,) numbers."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value[rows, :width] if value.ndim == 2 else value[rows]
