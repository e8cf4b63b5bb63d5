"""The reward model: a scalar head on the SFT model's backbone, trained on preference pairs.

A step:
  1. the batch's pairs as rows of tokens; each prompt runs once for its two summaries
  2. scores: the head at each row's last token, the EOS
  3. loss: -log sigma(score of the chosen - score of the rejected)
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from bench.forward import last_token_scores
from bench.losses.reward import reward_loss
from bench.records import PreferencePair
from bench.special_tokens import pad_id
from bench.train.context import TrainingContext
from bench.train.health.reward import REWARD
from bench.train.log import TrainingLog
from bench.train.pairs import Batch, PairTrainer, forward_is, numbers_of, pair_batch, pair_tokens
from bench.train.settings.reward import RewardSettings
from bench.train.trl_common import OWN_ROWS, LogCallback, model_of, train, training_arguments


class _Trainer(PairTrainer, RewardTrainer):
    def loss_of(self, model: nn.Module, inputs: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        chosen, rejected = model(**inputs).chunk(2)  # 2
        return reward_loss(chosen, rejected), {  # 3
            "accuracy": (chosen > rejected).float().mean(),
            "margin": (chosen - rejected).mean(),
            "mean_reward": torch.cat([chosen, rejected]).mean(),
        }


def pair_scores(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "R T"],
    prompt_lengths: Int[Tensor, " R"],
    lengths: Int[Tensor, " R"],
) -> Float[Tensor, " R"]:
    """Raw scores of rows [chosen; rejected]."""
    return last_token_scores(model, input_ids, lengths, pairs=True)


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    settings: RewardSettings,
    context: TrainingContext,
    *,
    epochs: float,
) -> TrainingLog:
    """Train `model` in place; the log's rows are returned."""
    log = LogCallback(context, "accuracy")
    tokens, pad = [pair_tokens(tokenizer, pair) for pair in pairs], pad_id(tokenizer)  # 1
    trainer = _Trainer(
        model=model,
        args=RewardConfig(**training_arguments(settings, context, epochs), **OWN_ROWS),
        data_collator=lambda rows: pair_batch([tokens[row["pair"]] for row in rows], pad),
        train_dataset=numbers_of(pairs),
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    with forward_is(model_of(trainer), pair_scores):
        train(trainer, log, REWARD, settings, context)
    return log.rows
