"""The reward model: a scalar head on the SFT model's backbone, trained on preference pairs."""

from collections.abc import Sequence

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from bench.packing import packed
from bench.records import PreferencePair
from bench.train.context import TrainingContext
from bench.train.health.reward import REWARD
from bench.train.log import TrainingLog
from bench.train.micro_batched import MicroBatched
from bench.train.settings.reward import RewardSettings
from bench.train.trl_common import WHOLE_ROWS, LogCallback, model_of, train, training_arguments


class _Trainer(MicroBatched, RewardTrainer):
    """TRL's trainer, its batch cut by length."""


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    settings: RewardSettings,
    context: TrainingContext,
    *,
    epochs: float,
) -> TrainingLog:
    """Train `model` in place with -log sigma(r_chosen - r_rejected) at the last token; the log's rows are returned."""
    log = LogCallback(context, "accuracy")
    rows = [{"chosen": f"{p.prompt} {p.chosen}", "rejected": f"{p.prompt} {p.rejected}"} for p in pairs]
    arguments = training_arguments(settings, context, epochs)
    trainer = _Trainer(
        model=model,
        args=RewardConfig(**arguments, **WHOLE_ROWS),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    with packed(model_of(trainer).base_model, pairs=True):
        train(trainer, log, REWARD, context)
    return log.rows
