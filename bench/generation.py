"""The one place where text is sampled: rollouts and evaluation, both arms."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import processes
from bench.decoding import decoder
from bench.forward import lm_head
from bench.micro_batches import similar_lengths
from bench.records import Rollout
from bench.special_tokens import eos_id, pad_id
from bench.validation import require

_COMPACT_WHEN_FINISHED = 0.25  # drop finished rows once this share of the rows is finished


@dataclass(frozen=True)
class SamplingConfig:
    """How the evaluation samples every arm: plain temperature sampling, no truncation."""

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
    samples_per_prompt: int = 1,
    among: tuple[torch.Tensor, int] | None = None,
    at_once: int | None = None,
) -> Rollout:
    """`samples_per_prompt` completions per prompt, with the log-probs of their tokens at the sampling temperature.

    Each prompt runs once, whatever the number of its samples; finished rows stop running as they pile up.
    Temperature 0 is greedy, and its log-probs are those of the unscaled distribution. The EOS, where it comes, is part
    of the completion.

    Args:
        prompts: token ids, at least one token each. The rollout's rows are the first prompt's samples, then the
            second's, and so on: B = len(prompts) * samples_per_prompt.
        generator: the only source of randomness; draws are made on its device, so a seed gives one sequence of
            uniform numbers per row whichever rows have finished.
        among: where several processes sample one batch: the places (B,) of this call's rows in it, and its number of
            rows. Each row then gets what it would get if the batch were sampled in one call.
        at_once: rows that the cache holds at most, None for all. Each row draws the same, whatever rows it runs with.
    """
    device, batch = model.device, len(prompts) * samples_per_prompt
    places, total = among or (torch.arange(batch, device=device), batch)
    head = lm_head(model)
    completion = torch.full((batch, max_new_tokens), pad_token_id, device=device)
    logps = torch.zeros((batch, max_new_tokens), device=device)
    mask = torch.zeros((batch, max_new_tokens), dtype=torch.bool, device=device)
    finished = torch.zeros(batch, dtype=torch.bool, device=device)

    def grow(some: Sequence[int], nths: Sequence[int]) -> int:
        """Sample these prompts' nth samples; the number of steps."""
        growing = decoder(model, [prompts[i] for i in some], len(nths), max_new_tokens)
        # Original row of each row that still grows.
        rows = torch.tensor([i * samples_per_prompt + nth for i in some for nth in nths], device=device)
        for step in range(max_new_tokens):
            distribution = (head(growing.hidden).float() / (temperature or 1.0)).log_softmax(-1)
            if temperature == 0:
                chosen = distribution.argmax(-1)
            else:
                # Inverse-CDF draws from one uniform per original row: what a row gets does not depend on the others.
                uniform = torch.rand(total, generator=generator, device=generator.device).to(device)[places[rows]]
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
                return step + 1
            if step + 1 < max_new_tokens:
                if (~live).float().mean() >= _COMPACT_WHEN_FINISHED:
                    keep = live.nonzero()[:, 0]
                    growing.keep(keep)
                    chosen, rows = chosen[keep], rows[keep]
                growing.advance(chosen)
        return max_new_tokens

    if at_once is None or batch <= at_once:
        grow(range(len(prompts)), range(samples_per_prompt))
    else:
        before, ends = generator.get_state(), dict[int, torch.Tensor]()
        for some, nths in _runs([len(prompt) for prompt in prompts], samples_per_prompt, at_once):
            generator.set_state(before)
            steps = grow(some, nths)
            ends[steps] = generator.get_state()
        generator.set_state(ends[max(ends)])
    return as_rollout(
        [p for p in prompts for _ in range(samples_per_prompt)], completion, mask, logps, finished, pad_token_id
    )


def _runs(lengths: Sequence[int], samples: int, at_once: int) -> Iterator[tuple[list[int], range]]:
    """Prompts of similar length by number, and which samples of each: what runs together, at most so many rows."""
    for prompts in similar_lengths(lengths, max_rows=max(1, at_once // samples)):
        for first in range(0, samples, at_once):
            yield prompts, range(first, min(first + at_once, samples))


def as_rollout(
    prompts: Sequence[Sequence[int]],
    completion: torch.Tensor,
    mask: torch.Tensor,
    logps: torch.Tensor,
    finished: torch.Tensor,
    pad_token_id: int,
) -> Rollout:
    """Right-padded rows [prompt | completion | pad], cut to the longest completion; tensors are (B, C) and (B,)."""
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
    samples_per_prompt: int = 1,
    shared: bool = False,
) -> list[tuple[list[int], bool]]:
    """(token ids without padding, finished) for each prompt, in the prompts' order: the first prompt's samples first.

    Prompts are batched by length, so that a batch carries little padding; a prompt whose samples fit into one batch
    runs once. `on_batch` is told how many completions a batch has brought.

    Args:
        shared: all processes call this and share the rows of each batch; every one gets what one alone would sample.
    """
    was_training = model.training
    model.eval()
    results: dict[tuple[int, int], tuple[list[int], bool]] = {}  # of a prompt's nth sample
    for chunk, nths in _runs([len(prompt) for prompt in prompts], samples_per_prompt, sampling.batch_size):
        samples, steps = len(nths), 0
        total = len(chunk) * samples
        own, own_nths = _share(len(chunk), samples) if shared else (range(len(chunk)), range(samples))
        if own and own_nths:
            places = [(place, nth) for place in own for nth in own_nths]
            rollout = sample(
                model,
                [prompts[chunk[place]] for place in own],
                max_new_tokens=max_new_tokens,
                eos_token_id=eos_id(tokenizer),
                pad_token_id=pad_id(tokenizer),
                temperature=sampling.temperature,
                generator=generator,
                samples_per_prompt=len(own_nths),
                among=(torch.tensor([p * samples + nth for p, nth in places], device=model.device), total),
            )
            steps = rollout.completion_mask.size(1)
            rows = zip(places, rollout.completion_ids, rollout.completion_mask, rollout.is_finished, strict=True)
            for (place, nth), ids, mask, finished in rows:
                results[chunk[place], nths[nth]] = ids[mask].tolist(), bool(finished)
        if shared:
            _catch_up(generator, total, max(processes.gather(steps)) - steps, sampling.temperature)
        on_batch(total)
    model.train(was_training)
    if shared:
        results = {key: row for part in processes.gather(results) for key, row in part.items()}
    return [results[key] for key in sorted(results)]


def _share(prompts: int, samples: int) -> tuple[Sequence[int], Sequence[int]]:
    """This process's prompts of a batch, and which samples of each: where there are few prompts, some of all."""
    if prompts >= processes.count():
        return processes.own(range(prompts)), range(samples)
    return range(prompts), processes.own(range(samples))


def _catch_up(generator: torch.Generator, rows: int, steps: int, temperature: float) -> None:
    """Draw what `sample` would have drawn in so many more steps, which other processes took for theirs of the rows."""
    for _ in range(steps if temperature else 0):
        torch.rand(rows, generator=generator, device=generator.device)


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The summary as text: special tokens and the leading space dropped."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()
