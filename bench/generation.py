"""The one place where text is sampled: rollouts and evaluation, both arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from bench.ops import lm_head
from bench.records import Rollout
from bench.special_tokens import eos_id, pad_id
from bench.validation import require

_COMPACT_WHEN_FINISHED = 0.25  # drop finished rows from the cache once this share of the rows is finished


@dataclass(frozen=True)
class SamplingConfig:
    """How every arm is sampled, in rollouts and in evaluation alike: plain temperature sampling, no truncation."""

    temperature: float = 0.7
    batch_size: int = 64

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "sampling.temperature", self.temperature, "must be 0 (greedy) or above")
        require(self.batch_size >= 1, "sampling.batch_size", self.batch_size, "must be at least 1")


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_id: int,
    pad_token_id: int,
    temperature: float,
    generator: torch.Generator,
) -> Rollout:
    """One completion per prompt, with the log-probs of its tokens at the sampling temperature.

    Prompts run left-padded through a KV cache; finished rows leave it as they pile up. Temperature 0 is greedy, and its
    log-probs are those of the unscaled distribution. The EOS, where it comes, is part of the completion.

    Args:
        prompts: token ids, B rows of at least one token each.
        generator: the only source of randomness; draws are made on its device, so a seed gives one sequence of
            uniform numbers per row whichever rows have finished.
    """
    device = model.device
    batch, width = len(prompts), max(map(len, prompts))
    tokens = torch.full((batch, width), pad_token_id, device=device)
    attention = torch.zeros((batch, width), dtype=torch.long, device=device)
    for i, prompt in enumerate(prompts):
        tokens[i, width - len(prompt) :] = torch.tensor(prompt, device=device)
        attention[i, width - len(prompt) :] = 1
    positions = (attention.cumsum(1) - 1).clamp(min=0)

    completion = torch.full((batch, max_new_tokens), pad_token_id, device=device)
    logps = torch.zeros((batch, max_new_tokens), device=device)
    mask = torch.zeros((batch, max_new_tokens), dtype=torch.bool, device=device)
    finished = torch.zeros(batch, dtype=torch.bool, device=device)
    rows = torch.arange(batch, device=device)  # original row of each row still in the cache
    cache = DynamicCache(config=model.config)
    head = lm_head(model)

    for step in range(max_new_tokens):
        hidden = model.base_model(
            input_ids=tokens, attention_mask=attention, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        distribution = (head(hidden).float() / (temperature or 1.0)).log_softmax(-1)
        if temperature == 0:
            chosen = distribution.argmax(-1)
        else:
            # Inverse-CDF draws from one uniform per original row: what a row gets does not depend on the others.
            uniform = torch.rand(batch, generator=generator, device=generator.device).to(device)[rows]
            cdf = distribution.exp().cumsum(-1)
            chosen = torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True)[:, 0]
            chosen = chosen.clamp(max=distribution.size(-1) - 1)
        live = ~finished[rows]
        out = rows[live]
        completion[out, step] = chosen[live]
        logps[out, step] = distribution[live].gather(1, chosen[live, None])[:, 0]
        mask[out, step] = True
        finished[rows] |= chosen == eos_token_id
        live = ~finished[rows]
        if not live.any():
            break
        tokens = chosen[:, None]
        attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1
        if (~live).float().mean() >= _COMPACT_WHEN_FINISHED:
            keep = live.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            tokens, attention, positions, rows = tokens[keep], attention[keep], positions[keep], rows[keep]

    return _rollout(prompts, completion, mask, logps, finished, pad_token_id)


def _rollout(
    prompts: Sequence[Sequence[int]],
    completion: torch.Tensor,
    mask: torch.Tensor,
    logps: torch.Tensor,
    finished: torch.Tensor,
    pad_token_id: int,
) -> Rollout:
    """Right-padded rows [prompt | completion | pad], cut to the longest completion."""
    steps = int(mask.sum(1).max())
    completion, mask, logps = completion[:, :steps], mask[:, :steps], logps[:, :steps]
    lengths = torch.tensor([len(p) for p in prompts], device=completion.device)
    total = int((lengths + mask.sum(1)).max())
    input_ids = torch.full((len(prompts), total), pad_token_id, device=completion.device)
    for i, prompt in enumerate(prompts):
        input_ids[i, : len(prompt)] = torch.tensor(prompt, device=completion.device)
        input_ids[i, len(prompt) : len(prompt) + int(mask[i].sum())] = completion[i][mask[i]]
    return Rollout(input_ids, lengths, completion, mask, logps, finished)


def sample_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: SamplingConfig,
    max_new_tokens: int,
    generator: torch.Generator,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[tuple[list[int], bool]]:
    """(token ids without padding, finished) for each prompt, in the prompts' order.

    Prompts are batched by length, so that a batch carries little padding. `on_batch` is told how many prompts a batch
    has completed.
    """
    was_training = model.training
    model.eval()
    results: dict[int, tuple[list[int], bool]] = {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), sampling.batch_size):
        chunk = order[start : start + sampling.batch_size]
        rollout = sample(
            model,
            [prompts[i] for i in chunk],
            max_new_tokens=max_new_tokens,
            eos_token_id=eos_id(tokenizer),
            pad_token_id=pad_id(tokenizer),
            temperature=sampling.temperature,
            generator=generator,
        )
        for row, i in enumerate(chunk):
            ids = rollout.completion_ids[row][rollout.completion_mask[row]].tolist()
            results[i] = (ids, bool(rollout.is_finished[row]))
        on_batch(len(chunk))
    model.train(was_training)
    return [results[i] for i in range(len(prompts))]


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The summary as text: special tokens and the leading space dropped."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()
