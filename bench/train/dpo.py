"""DPO: the policy trained on preference pairs directly, against the SFT model as reference."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.data_utils import common_prefix_length

from bench.forward import lm_head, token_logps_and_entropy
from bench.micro_batches import similar_lengths
from bench.packing import packed, packed_states
from bench.records import PreferencePair
from bench.special_tokens import pad_id
from bench.train.context import TrainingContext
from bench.train.health.dpo import DPO
from bench.train.log import TrainingLog
from bench.train.micro_batched import MicroBatched
from bench.train.settings.dpo import DPOSettings
from bench.train.trl_common import WHOLE_ROWS, LogCallback, model_of, train, training_arguments


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
    """What DPO needs of its reference policy. Each prompt runs once for its two summaries (`packed_states`)."""
    rows = [_tokens(tokenizer, pair) for pair in pairs]
    logps: list[PairLogps] = [PairLogps(0.0, 0.0)] * len(rows)
    for indices in similar_lengths([sum(map(len, row)) for row in rows], batch_size):
        prompts, chosen, rejected = zip(*(rows[i] for i in indices), strict=True)
        sums = _summed_logps(model, [*prompts, *prompts], [*chosen, *rejected], pad_id(tokenizer))
        for i, of_chosen, of_rejected in zip(indices, *(half.tolist() for half in sums.chunk(2)), strict=True):
            logps[i] = PairLogps(of_chosen, of_rejected)
        on_batch(len(indices))
    return logps


def _tokens(tokenizer: PreTrainedTokenizerBase, pair: PreferencePair) -> tuple[list[int], list[int], list[int]]:
    """(prompt, chosen, rejected) ids as TRL makes them: each summary with its EOS as it stands behind the prompt.

    Where the prompt's last tokens merge into a summary, that summary starts where the two encodings part.
    """
    prompt = tokenizer(pair.prompt).input_ids
    whole = [tokenizer(f"{pair.prompt} {text}{tokenizer.eos_token}").input_ids for text in (pair.chosen, pair.rejected)]
    shared = min(common_prefix_length(prompt, ids) for ids in whole)
    return prompt[:shared], whole[0][shared:], whole[1][shared:]


def _summed_logps(
    model: PreTrainedModel, prompts: Sequence[list[int]], completions: Sequence[list[int]], pad_token_id: int
) -> torch.Tensor:
    """(2B,) log-probs of the chosen and the rejected completions; only their positions reach the LM head."""
    sequences = [torch.tensor([*p, *c]) for p, c in zip(prompts, completions, strict=True)]
    input_ids = pad_sequence(sequences, batch_first=True, padding_value=pad_token_id).to(model.device)
    lengths = torch.tensor([len(s) for s in sequences], device=model.device)
    starts = torch.tensor([len(p) for p in prompts], device=model.device)
    column = torch.arange(input_ids.size(1), device=model.device)
    hidden, place = packed_states(model.base_model, input_ids, lengths, pairs=True, use_cache=False)
    # Column t predicts token t + 1.
    predicts = (column[:-1] >= starts[:, None] - 1) & (column[:-1] < lengths[:, None] - 1)
    logps, _ = token_logps_and_entropy(hidden[place[:, :-1][predicts]], lm_head(model), input_ids[:, 1:], predicts)
    return logps.sum(1)


class _ReferencedDPOTrainer(MicroBatched, DPOTrainer):
    """TRL's trainer on rows that bring their reference log-probs along, so that a sweep of beta computes them once."""

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def train_dpo(
    sft_folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    ref_logps: Sequence[PairLogps],
    settings: DPOSettings,
    context: TrainingContext,
    *,
    epochs: float,
) -> tuple[PreTrainedModel, TrainingLog]:
    """The trained policy and the log's rows. The reference is `ref_logps` (`pair_logps`), so one model is resident."""
    log = LogCallback(context, "loss")
    rows = [
        {
            "prompt": pair.prompt,
            "chosen": f" {pair.chosen}",
            "rejected": f" {pair.rejected}",
            "ref_chosen_logps": ref.chosen,
            "ref_rejected_logps": ref.rejected,
        }
        for pair, ref in zip(pairs, ref_logps, strict=True)
    ]
    arguments = training_arguments(settings, context, epochs)
    trainer = _ReferencedDPOTrainer(
        model=str(sft_folder),
        args=DPOConfig(
            **arguments,
            **WHOLE_ROWS,
            beta=settings.beta,
            loss_type=[settings.loss_type],
            label_smoothing=settings.label_smoothing,
            precompute_ref_log_probs=True,
            model_init_kwargs={"dtype": torch.float32, "use_safetensors": True},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[log],
    )
    trainer.settings = settings
    with packed(model_of(trainer).base_model, pairs=True):
        train(trainer, log, DPO, context)
    return model_of(trainer), log.rows
