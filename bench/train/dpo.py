"""DPO: the policy trained on preference pairs directly, against the SFT model as reference.

A step:
  1. the batch's pairs as rows of tokens; each prompt runs once for its two summaries
  2. log pi of the summaries under the policy
  3. the same under the reference: once for all steps before training (`pair_logps`), or, in bf16 or 4 bits, beside the
     policy
  4. log-ratios, and of them the loss (`bench.losses.dpo`) and the implicit rewards, beta times a log-ratio
  5. where wanted, `sft_weight` times the SFT loss of the chosen summaries

Why in bf16 beside it: two passes of one model that pack their rows differently round differently, by .1 nats for a
completion (SmolLM2-135M, TL;DR; by .3 if the logits were bf16 too), and a log-ratio is a small difference. In the same
rows the two are equal to the last digit until the policy moves. In fp32 passes differ by 1e-5 nats.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from bench import processes
from bench.forward import logps_and_entropy
from bench.losses.dpo import LogRatios, dpo_loss, sft_loss
from bench.micro_batches import similar_lengths
from bench.models.attention import attention_of
from bench.models.loading import load_policy
from bench.ops import masked_mean
from bench.records import PreferencePair, Rows
from bench.special_tokens import pad_id
from bench.train.context import TrainingContext
from bench.train.health.dpo import DPO
from bench.train.log import TrainingLog
from bench.train.lora import without_adapters
from bench.train.pairs import Batch, PairTrainer, forward_is, numbers_of, pair_batch, pair_tokens
from bench.train.settings.dpo import DPOSettings
from bench.train.trl_common import (
    OWN_ROWS,
    LogCallback,
    model_of,
    train,
    training_arguments,
)


class PairLogps(NamedTuple):
    """log pi(summary and EOS | prompt) of a pair's two summaries, in nats, at temperature 1."""

    chosen: float
    rejected: float


@torch.no_grad()
def pair_logps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    batch_size: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[PairLogps]:
    """What DPO needs of its reference policy, in the order of the pairs."""
    tokens = [pair_tokens(tokenizer, pair) for pair in pairs]
    logps: list[PairLogps] = [PairLogps(0.0, 0.0)] * len(pairs)
    for indices in similar_lengths([sum(len(ids) for side in pair for ids in side) for pair in tokens], batch_size):
        batch = pair_batch([tokens[i] for i in indices], pad_id(tokenizer))
        sums, _ = summed_logps(model, **{name: value.to(model.device) for name, value in batch.items()})
        for i, *pair in zip(indices, *(half.tolist() for half in sums.chunk(2)), strict=True):
            logps[i] = PairLogps(*pair)
        on_batch(len(indices))
    return logps


def summed_logps(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "R T"],
    prompt_lengths: Int[Tensor, " R"],
    lengths: Int[Tensor, " R"],
) -> tuple[Float[Tensor, " R"], Float[Tensor, ""]]:
    """log pi of the completions of rows [chosen; rejected], and the policy's mean entropy per token, in nats."""
    rows = Rows.of(input_ids, prompt_lengths, lengths)
    logps, entropy = logps_and_entropy(model, rows, pairs=True)
    return logps.sum(1), masked_mean(entropy, rows.completion_mask)


def needs_ref_logps(bf16: bool, four_bit: bool = False) -> bool:
    """Whether the reference's log-probs are computed before training, and not beside the policy.

    Args:
        four_bit: the policy lies on 4 bits, which are then its reference too.
    """
    return not (bf16 or four_bit) or processes.shard_weights()


class _Trainer(PairTrainer, DPOTrainer):
    settings: DPOSettings
    reference: PreTrainedModel | None = None
    """Runs beside the policy; where it is None the pairs bring the reference's log-probs along. It may be the policy
    itself, which under LoRA is the reference without its adapters."""

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Num[Tensor, ""] | int | None = None
    ) -> Float[Tensor, ""]:
        if self.settings.sft_weight:  # before the batch is cut: the term is a mean over the tokens of all of it
            counts = (inputs["lengths"] - inputs["prompt_lengths"]).chunk(2)[0].float().to(self.args.device)
            means = self.accelerator.gather(counts.mean()[None])
            assert isinstance(means, Tensor)
            inputs["mean_tokens"] = means.mean()
        return super().training_step(model, inputs, num_items_in_batch)

    def loss_of(self, model: nn.Module, inputs: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        rows = {name: inputs[name] for name in ("input_ids", "prompt_lengths", "lengths")}
        logps, entropy = model(**rows)  # 2
        if self.reference is None:  # 3
            ref_logps = inputs["ref_logps"]
        else:
            with torch.no_grad(), self.accelerator.autocast(), without_adapters(self.reference):
                ref_logps, _ = summed_logps(self.reference, **rows)
        counts = rows["lengths"] - rows["prompt_lengths"]
        ratios = LogRatios(*(logps - ref_logps).chunk(2), *counts.chunk(2))  # 4
        loss = dpo_loss(ratios, self.settings.beta, self.settings.loss_type, self.settings.label_smoothing)
        if self.settings.sft_weight:  # 5
            loss = loss + self.settings.sft_weight * sft_loss(logps.chunk(2)[0], inputs["mean_tokens"])
        chosen, rejected = (self.settings.beta * side for side in (ratios.chosen, ratios.rejected))
        chosen_logps, rejected_logps = logps.chunk(2)
        return loss, {
            "rewards/chosen": chosen.mean(),
            "rewards/rejected": rejected.mean(),
            "rewards/accuracies": (chosen > rejected).float().mean(),
            "rewards/margins": (chosen - rejected).mean(),
            "logps/chosen": chosen_logps.mean(),
            "logps/rejected": rejected_logps.mean(),
            "entropy": entropy,
        }


def train_dpo(
    sft_folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    ref_logps: Sequence[PairLogps] | None,
    settings: DPOSettings,
    context: TrainingContext,
    *,
    epochs: float,
    start: Path | None = None,
) -> tuple[PreTrainedModel, TrainingLog]:
    """The trained policy and the log's rows.

    Args:
        start: the policy before the training, where it is not the SFT model, which stays the reference.
        ref_logps: the SFT model's, of `pair_logps`; None where it runs beside the policy (not `needs_ref_logps`), or
            is the policy without its adapters: in 4 bits the two are one model only there.
    """
    log = LogCallback(context, "loss")
    tokens, pad = [pair_tokens(tokenizer, pair) for pair in pairs], pad_id(tokenizer)  # 1

    def collate(rows: Sequence[dict[str, int]]) -> Batch:
        places = [row["pair"] for row in rows]
        batch = pair_batch([tokens[i] for i in places], pad)
        if ref_logps is not None:
            batch["ref_logps"] = torch.tensor([ref_logps[i][side] for side in (0, 1) for i in places])
        return batch

    trainer = _Trainer(
        model=str(start or sft_folder),
        args=DPOConfig(
            **training_arguments(settings, context, epochs),
            **OWN_ROWS,
            precompute_ref_log_probs=True,
            model_init_kwargs={
                "dtype": torch.float32,
                "use_safetensors": True,
                "trust_remote_code": False,
                **attention_of(sft_folder),
            },
        ),
        data_collator=collate,
        train_dataset=numbers_of(pairs),
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    starts_at_reference = start is None or start == sft_folder
    if ref_logps is None and settings.lora_rank and starts_at_reference:
        trainer.reference = model_of(trainer)
    elif ref_logps is None:
        trainer.reference = load_policy(sft_folder, context.device, torch.bfloat16)
    with forward_is(model_of(trainer), summed_logps):
        train(trainer, log, DPO, settings, context)
    return model_of(trainer), log.rows
