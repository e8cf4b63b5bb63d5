"""What the trainers on preference pairs share: a pair is tokenised once, its prompt runs once, and the loss is ours.

TRL's trainers bring the loop, the optimizer and the log around it.
"""

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.encoding import Tokens, encode, rows_of
from bench.records import PreferencePair, Rows
from bench.train.micro_batched import MicroBatched

PairTokens = tuple[Tokens, Tokens]
"""(prompt, chosen) and (prompt, rejected); the prompt is the same."""
Batch = dict[str, Tensor]
"""Rows as a trainer hands them on: `input_ids` (2B, T), `prompt_lengths` and `lengths` (2B,), [chosen; rejected]."""


def pair_tokens(tokenizer: PreTrainedTokenizerBase, pair: PreferencePair) -> PairTokens:
    chosen, rejected = encode(tokenizer, pair.prompt, pair.chosen, pair.rejected)
    return chosen, rejected


def pair_rows(pairs: Sequence[PairTokens], pad: int, device: torch.device) -> Rows:
    """2B rows [chosen; rejected]: row i + B is the rejected one of row i."""
    return rows_of([pair[side] for side in (0, 1) for pair in pairs], pad, device)


def pair_batch(pairs: Sequence[PairTokens], pad: int) -> Batch:
    rows = pair_rows(pairs, pad, torch.device("cpu"))
    return {"input_ids": rows.input_ids, "prompt_lengths": rows.prompt_lengths, "lengths": rows.lengths}


def numbers_of(pairs: Sequence[PreferencePair]) -> Dataset:
    """What a trainer draws its batches from: the places of the pairs, which the collator looks up."""
    return Dataset.from_dict({"pair": list(range(len(pairs)))})


@contextmanager
def forward_is(model: PreTrainedModel, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context `model(...)` is `forward(model, ...)`.

    So that it goes through whatever wraps the model (DistributedDataParallel, FSDP), whose hooks run only where the
    model itself is called.
    """
    model.forward = types.MethodType(forward, model)  # in the place of what TRL has put there
    try:
        yield
    finally:
        vars(model).pop("forward", None)  # uncovers the class's own


class PairTrainer(MicroBatched):
    """Mixin, in front of a trainer of TRL's: its data (`numbers_of`), its batches and its loss are this project's."""

    sides = 2

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset  # there is nothing to tokenise

    def lengths_of(self, inputs: Batch) -> Int[Tensor, " R"]:
        return inputs["lengths"]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Num[Tensor, ""] | int | None = None,
    ) -> Float[Tensor, ""]:
        loss, numbers = self.loss_of(model, inputs)
        means = self.accelerator.gather(torch.stack([*numbers.values()]).detach().float()[None])
        tokens = self.accelerator.gather(inputs["lengths"].sum())
        assert isinstance(means, Tensor) and isinstance(tokens, Tensor)
        metrics = self._metrics["train"]
        for name, value in zip(numbers, means.mean(0).tolist(), strict=True):
            metrics[name].append(value)
        self._total_train_tokens += int(tokens.sum())
        metrics["num_tokens"] = [self._total_train_tokens]
        return loss

    def loss_of(self, model: nn.Module, inputs: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The mean loss of the batch's pairs, and what is worth watching: scalars that are means over pairs too."""
        raise NotImplementedError
