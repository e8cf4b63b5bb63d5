"""Supervised fine-tuning: the common start of every arm."""

from collections.abc import Sequence

import trl.trainer.utils
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from bench.encoding import encode
from bench.packing import packed
from bench.records import Demonstration
from bench.train.context import TrainingContext
from bench.train.health.sft import SFT
from bench.train.log import TrainingLog
from bench.train.micro_batched import MicroBatched
from bench.train.settings.sft import SFTSettings
from bench.train.trl_common import WHOLE_ROWS, LogCallback, train, training_arguments

# TRL projects every position through the LM head unless the device has Triton; only the completion's are needed.
# This name decides that and nothing else in this module (the kernels look up their own).
trl.trainer.utils._use_triton = lambda device: True


class _Trainer(MicroBatched, SFTTrainer):
    """TRL's trainer, its batch cut by length."""


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    settings: SFTSettings,
    context: TrainingContext,
    *,
    epochs: float,
) -> TrainingLog:
    """Train `model` in place on the demonstrations' completions, EOS included, and on their posts where these count.

    The log's rows are returned.
    """
    log = LogCallback(context, "loss")
    dataset = Dataset.from_list([_row(*encode(tokenizer, d.prompt, d.completion)[0]) for d in demonstrations])
    arguments = training_arguments(settings, context, epochs)
    trainer = _Trainer(
        model=model,
        args=SFTConfig(**arguments, **WHOLE_ROWS, completion_only_loss=settings.completion_only),
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    with packed(model.base_model):
        train(trainer, log, SFT, settings, context)
    return log.rows


def _row(prompt: list[int], completion: list[int]) -> dict[str, list[int]]:
    """A row as TRL's collator takes it."""
    return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}
