"""TRL trainers whose optimizer batch is cut into micro-batches of similar length.

The trainers' own gradient accumulation takes rows as they come, so a micro-batch is padded to its longest row. Here the
whole batch comes at once, and `training_step` cuts it: rows of similar length together, at most `micro_batch_size` of
them and `micro_batch_tokens` tokens. The gradient is that of the batch, however it is cut.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from bench.micro_batches import similar_lengths
from bench.train.settings.common import BudgetedSettings


class MicroBatched(Trainer):
    """Mixin, first of the bases: `class _DPO(MicroBatched, DPOTrainer)`; `settings` is given before training."""

    settings: BudgetedSettings
    _metrics: dict[str, dict[str, list[float]]]  # TRL's: mode -> name -> one value per call of compute_loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Add the batch's gradient and return its loss."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        parts, shares = self._cut(inputs)
        metrics = self._metrics["train"]
        before = {name: len(values) for name, values in metrics.items()}
        total = torch.zeros((), device=self.args.device)
        for i, (part, share) in enumerate(zip(parts, shares, strict=True)):
            last = i == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
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

    def _cut(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
        """The micro-batches and each one's share of the rows. A pair is two rows, i and i + B of the 2B."""
        ids, attention = inputs["input_ids"], inputs["attention_mask"]
        lengths = attention.sum(1)
        sides = 1 if "labels" in inputs else 2
        rows = ids.size(0) // sides
        tokens = lengths.view(sides, rows).sum(0).tolist()
        longest = lengths.view(sides, rows).amax(0).tolist()
        limits = self.settings.micro_batch_size, self.settings.micro_batch_tokens
        groups = similar_lengths(tokens, *limits)
        if self.accelerator.num_processes > 1:  # the trainers gather their metrics in every compute_loss
            number = torch.tensor([len(groups)], device=self.args.device)
            most = int(self.accelerator.gather(number).max())  # pyright: ignore[reportAttributeAccessIssue]
            groups = similar_lengths(tokens, *limits, at_least=most)
        parts = []
        for group in groups:
            width = max(longest[row] for row in group)
            one = torch.tensor(group, device=ids.device)
            both = torch.cat([one + side * rows for side in range(sides)])
            parts.append({name: _take(value, one, both, ids.shape, width) for name, value in inputs.items()})
        return parts, [len(group) / rows for group in groups]


def _take(value: Any, one: Tensor, both: Tensor, shape: torch.Size, width: int) -> Any:
    """The group's rows of a batch entry: (2B, L) tokens cut to `width`, or (B,) numbers per pair."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.shape == shape:
        return value[both, :width]
    return value[both if value.size(0) == shape[0] else one]
