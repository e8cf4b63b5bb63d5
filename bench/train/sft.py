"""Supervised fine-tuning: the common start of every arm."""

from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from bench.packing import packed
from bench.records import Demonstration
from bench.train.health.settings import DEFAULT_HEALTH, HealthSettings
from bench.train.log import TrainingLog
from bench.train.micro_batched import MicroBatched
from bench.train.settings.common import CHECKPOINT_EVERY_S
from bench.train.settings.sft import SFTSettings
from bench.train.trl_common import WHOLE_ROWS, LogCallback, train, training_arguments


class _Trainer(MicroBatched, SFTTrainer):
    """TRL's trainer, its batch cut by length."""


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    settings: SFTSettings,
    *,
    stage: str = "sft",
    epochs: float,
    seed: int,
    device: torch.device,
    bf16: bool,
    scratch: Path,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    health: HealthSettings = DEFAULT_HEALTH,
) -> TrainingLog:
    """Train `model` in place on the completions of the demonstrations, EOS included; the log's rows are returned."""
    log = LogCallback(stage, "loss")
    dataset = Dataset.from_list([{"prompt": d.prompt, "completion": f" {d.completion}"} for d in demonstrations])
    arguments = training_arguments(settings, epochs=epochs, scratch=scratch, seed=seed, device=device, bf16=bf16)
    trainer = _Trainer(
        model=model,
        args=SFTConfig(**arguments, **WHOLE_ROWS, completion_only_loss=True),
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    with packed(model.base_model):
        train(trainer, log, checkpoint_every_s, health, bf16)
    return log.rows
