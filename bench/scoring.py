"""What models say of texts: rewards of summaries, log-probs and KL of completions.

`on_batch` is told how many of the texts a batch was.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.encoding import Tokens, encode, rows_of
from bench.forward import completion_hidden, last_token_scores, lm_head, logps_and_entropy, token_kl
from bench.forward import token_logps_and_entropy as logps_of_states
from bench.generation import SamplingConfig, decode
from bench.micro_batches import similar_lengths
from bench.models.loading import RewardModel
from bench.records import Completion, EvalPrompt, Rows
from bench.special_tokens import pad_id


class CompletionScore(NamedTuple):
    """Sums over one completion, in nats. `kl` is None for greedy sampling, where no distribution was sampled."""

    logp: float
    ref_logp: float
    kl: float | None


@torch.no_grad()
def reward_scores(
    reward: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    batch_size: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """The reward model's score of each (prompt, summary), at the EOS, shifted."""
    scores = torch.zeros(len(pairs))
    for indices, rows in _batches([encode(tokenizer, *p)[0] for p in pairs], batch_size, tokenizer, reward.model):
        raw = last_token_scores(reward.model, rows.input_ids, rows.lengths)
        scores[indices] = (raw - reward.shift).cpu()
        on_batch(len(indices))
    return scores.tolist()


@torch.no_grad()
def summed_logps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], batch_size: int
) -> list[float]:
    """log pi(summary and EOS | prompt) in nats, at temperature 1: what DPO's implicit reward is made of."""
    logps = torch.zeros(len(pairs))
    for indices, rows in _batches([encode(tokenizer, *p)[0] for p in pairs], batch_size, tokenizer, model):
        logps[indices] = logps_and_entropy(model, rows)[0].sum(1).cpu()
    return logps.tolist()


@torch.no_grad()
def completion_scores(
    policy: PreTrainedModel,
    ref_policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    completions: Sequence[Tokens],
    temperature: float,
    batch_size: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[CompletionScore]:
    """log-probs under both policies and the exact per-token KL(policy || ref_policy), at the sampling temperature.

    At temperature 0 the log-probs are those of the unscaled distributions.
    """
    results: list[CompletionScore | None] = [None] * len(completions)
    models, scale = (policy, ref_policy), temperature or 1.0
    for indices, rows in _batches(completions, batch_size, tokenizer, policy):
        states = [completion_hidden(model.base_model, rows) for model in models]
        logps, ref_logps = (
            logps_of_states(own, lm_head(model), rows, scale)[0].sum(1).tolist()
            for own, model in zip(states, models, strict=True)
        )
        kl: list[float | None] = [None] * len(indices)
        if temperature > 0:
            heads = [lm_head(model) for model in models]
            kl = list(token_kl(states[0], heads[0], states[1], heads[1], rows.completion_mask, scale).sum(1).tolist())
        for index, *score in zip(indices, logps, ref_logps, kl, strict=True):
            results[index] = CompletionScore(*score)  # pyright: ignore[reportArgumentType]
        on_batch(len(indices))
    return [result for result in results if result is not None]


def as_completions(
    arm: str,
    prompts: Sequence[EvalPrompt],
    sampled: Sequence[tuple[list[int], bool]],
    policy: PreTrainedModel,
    ref_policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sampling: SamplingConfig,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[Completion]:
    """What was sampled for each prompt, (token ids, finished), as it is stored: as text and with its scores."""
    tokens = [(tokenizer(prompt.prompt).input_ids, ids) for prompt, (ids, _) in zip(prompts, sampled, strict=True)]
    scores = completion_scores(
        policy, ref_policy, tokenizer, tokens, sampling.temperature, sampling.batch_size, on_batch
    )
    return [
        Completion(
            arm=arm,
            prompt_id=prompt.id,
            completion=decode(tokenizer, ids),
            temperature=sampling.temperature,
            n_tokens=len(ids),
            finished=finished,
            **score._asdict(),
        )
        for prompt, (ids, finished), score in zip(prompts, sampled, scores, strict=True)
    ]


def _batches(
    items: Sequence[Tokens], batch_size: int, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> Iterator[tuple[list[int], Rows]]:
    """(their numbers, the items as rows), similar lengths together."""
    for indices in similar_lengths([len(prompt) + len(completion) for prompt, completion in items], batch_size):
        yield indices, rows_of([items[i] for i in indices], pad_id(tokenizer), model.device)
