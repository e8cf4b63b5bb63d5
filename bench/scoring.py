"""Forward passes of the evaluator: rewards of summaries, and log-probs and KL of completions."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.forward import (
    completion_hidden,
    last_token_scores,
    lm_head,
    logps_and_entropy,
    scatter_states,
    token_logps_and_entropy,
)
from bench.kl import kl_exact_from_hidden
from bench.micro_batches import similar_lengths
from bench.models.loading import RewardModel
from bench.special_tokens import eos_id, pad_id

Tokens = tuple[list[int], list[int]]
"""(prompt ids, completion ids)."""


class CompletionScore(NamedTuple):
    """Sums over one completion, in nats. `kl` is None for greedy sampling, where no distribution was sampled."""

    logp: float
    ref_logp: float
    kl: float | None


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, summary: str) -> Tokens:
    """Prompt ids, and the ids of " summary" and EOS as they stand behind it, encoded together as the trainers do."""
    prompt_ids = tokenizer(prompt).input_ids
    text = summary.strip()
    whole = tokenizer(f"{prompt} {text}" if text else prompt).input_ids  # an empty summary is EOS alone
    return prompt_ids, [*whole[len(prompt_ids) :], eos_id(tokenizer)]


@torch.no_grad()
def reward_scores(
    reward: RewardModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], batch_size: int
) -> list[float]:
    """The reward model's score of each (prompt, summary), at the EOS, shifted."""
    scores = torch.zeros(len(pairs))
    for indices, ids, lengths, mask in _batches(
        [encode(tokenizer, *p) for p in pairs], batch_size, tokenizer, reward.model
    ):
        raw = last_token_scores(reward.model, ids, lengths + mask.sum(1))
        scores[indices] = (raw - reward.shift).cpu()
    return scores.tolist()


@torch.no_grad()
def summed_logps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], batch_size: int
) -> list[float]:
    """log pi(summary and EOS | prompt) in nats, at temperature 1: what DPO's implicit reward is made of."""
    logps = torch.zeros(len(pairs))
    for indices, ids, lengths, mask in _batches([encode(tokenizer, *p) for p in pairs], batch_size, tokenizer, model):
        per_token, _ = logps_and_entropy(model, ids, lengths, _tokens(ids, lengths, mask), mask)
        logps[indices] = per_token.sum(1).cpu()
    return logps.tolist()


@torch.no_grad()
def completion_scores(
    policy: PreTrainedModel,
    ref_policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    completions: Sequence[Tokens],
    temperature: float,
    batch_size: int,
) -> list[CompletionScore]:
    """log-probs under both policies and the exact per-token KL(policy || ref_policy), at the sampling temperature.

    At temperature 0 the log-probs are those of the unscaled distributions.
    """
    results: list[CompletionScore | None] = [None] * len(completions)
    heads = lm_head(policy), lm_head(ref_policy)
    for indices, ids, lengths, mask in _batches(completions, batch_size, tokenizer, policy):
        tokens = _tokens(ids, lengths, mask)
        hidden = [completion_hidden(m.base_model, ids, lengths, mask) for m in (policy, ref_policy)]
        sums = [
            token_logps_and_entropy(states, head, tokens, mask, temperature or 1.0)[0].sum(1).tolist()
            for states, head in zip(hidden, heads, strict=True)
        ]
        kl: list[float | None] = [None] * len(indices)
        if temperature > 0:
            dense = [scatter_states(states, mask) for states in hidden]
            kl = list(kl_exact_from_hidden(dense[0], heads[0], dense[1], heads[1], mask, temperature).tolist())
        for row, index in enumerate(indices):
            results[index] = CompletionScore(sums[0][row], sums[1][row], kl[row])
    return [result for result in results if result is not None]


def _batches(
    items: Sequence[Tokens], batch_size: int, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """(indices, right-padded ids (B, T), prompt lengths (B,), completion mask (B, C)), similar lengths together."""
    for indices in similar_lengths([len(prompt) + len(completion) for prompt, completion in items], batch_size):
        rows = [[*items[i][0], *items[i][1]] for i in indices]
        ids = torch.full((len(rows), max(map(len, rows))), pad_id(tokenizer))
        mask = torch.zeros((len(rows), max(len(items[i][1]) for i in indices)), dtype=torch.bool)
        for r, (i, row) in enumerate(zip(indices, rows, strict=True)):
            ids[r, : len(row)] = torch.tensor(row)
            mask[r, : len(items[i][1])] = True
        lengths = torch.tensor([len(items[i][0]) for i in indices])
        yield indices, ids.to(model.device), lengths.to(model.device), mask.to(model.device)


def _tokens(ids: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
    """The completion's ids (B, C) out of the padded rows."""
    columns = lengths[:, None] + torch.arange(mask.size(1), device=ids.device)
    return ids.gather(1, columns.clamp(max=ids.size(1) - 1))
