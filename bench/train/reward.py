"""The reward model: a scalar head on the SFT model's backbone, trained on preference pairs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from bench.packing import packed
from bench.records import PreferencePair
from bench.train.health.settings import DEFAULT_HEALTH, HealthSettings
from bench.train.log import TrainingLog
from bench.train.micro_batched import MicroBatched
from bench.train.settings.common import CHECKPOINT_EVERY_S
from bench.train.settings.reward import RewardSettings
from bench.train.trl_common import WHOLE_ROWS, LogCallback, model_of, train, training_arguments


class _Trainer(MicroBatched, RewardTrainer):
    """TRL's trainer, its batch cut by length."""


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    settings: RewardSettings,
    *,
    stage: str,
    epochs: float,
    seed: int,
    device: torch.device,
    bf16: bool,
    scratch: Path,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    health: HealthSettings = DEFAULT_HEALTH,
) -> TrainingLog:
    """Train `model` in place with -log sigma(r_chosen - r_rejected) at the last token; the log's rows are returned."""
    log = LogCallback(stage, "accuracy")
    rows = [{"chosen": f"{p.prompt} {p.chosen}", "rejected": f"{p.prompt} {p.rejected}"} for p in pairs]
    arguments = training_arguments(settings, epochs=epochs, scratch=scratch, seed=seed, device=device, bf16=bf16)
    trainer = _Trainer(
        model=model,
        args=RewardConfig(**arguments, **WHOLE_ROWS),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    with packed(model_of(trainer).base_model, pairs=True):
        train(trainer, log, checkpoint_every_s, health, bf16)
    return log.rows
