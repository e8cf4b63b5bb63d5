"""Samples of a policy while it is trained: of held-out prompts, at chosen steps, the same for every arm.

They show what a run's end does not: how far the policy was from the SFT model, and how good, on the way (Gao et al.
2022; Rafailov et al. 2024). The training must not notice: weights, their gradients and every generator stay as they
are, and what the samples cost is measured apart. Rewards and verdicts are not this module's: `on_taken` may ask for
them at once, and the evaluation does, so that an arm without a reward model needs none for this.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import processes
from bench.generation import SamplingConfig, sample_all
from bench.models.loading import load_policy
from bench.records import Completion, EvalPrompt
from bench.scoring import as_completions
from bench.train.moments import keep_moment
from bench.train.settings.samples import MOMENTS, SamplesSettings


@dataclass(frozen=True)
class HeldOut:
    """What is sampled, and how. The draws follow from `seed` alone: the same ones at every step, in every arm.

    With `keeps` the weights that were sampled are kept too; by which judge one of them is chosen in the end is no
    matter of the training, and `settings` do not say it.
    """

    settings: SamplesSettings
    prompts: Sequence[EvalPrompt]
    batch_size: int
    max_new_tokens: int
    seed: int
    keeps: bool = False


class Taken(NamedTuple):
    """The samples after `step` of `steps`, and the posts that they are of, in one order."""

    step: int
    steps: int
    samples: Sequence[Completion]
    prompts: Sequence[EvalPrompt]


@dataclass
class Samples:
    """Takes the samples of one training run, on rank 0.

    Attributes:
        stage: the run's.
        reference: folder of the SFT model, which is in memory only while a sample is taken.
        apart: the context in which what is done is no cost of the stage.
        folder: of the stage; weights are kept below it.
        on_taken: called with the samples of every moment, apart too.
        rows: `step` of `steps`, and a `Completion`'s fields; a checkpoint keeps them.
    """

    stage: str
    held_out: HeldOut
    tokenizer: PreTrainedTokenizerBase
    reference: Path
    device: torch.device
    bf16: bool
    apart: Callable[[], AbstractContextManager[None]]
    folder: Path
    on_taken: Callable[[Taken], None] = lambda taken: None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def take(self, step: int, steps: int, policy: PreTrainedModel) -> float:
        """Sample the policy as it is after `step` of `steps`, if that is a chosen one; the seconds that it took."""
        if step not in self.held_out.settings.steps(steps) or not processes.is_main():
            return 0.0
        start = time.perf_counter()
        devices = [self.device] if self.device.type == "cuda" else []
        was_training = policy.training
        with self.apart(), torch.random.fork_rng(devices):
            policy.eval()
            with self._autocast():
                samples = self._sample(policy)
            policy.train(was_training)
            if self.held_out.keeps and 0 < step < steps:  # the last ones are what the stage leaves
                keep_moment(policy, self.folder / MOMENTS, step)
            self.rows += [{"step": step, "steps": steps, **asdict(sample)} for sample in samples]
            self.on_taken(Taken(step, steps, samples, self.held_out.prompts))
        return time.perf_counter() - start

    def _sample(self, policy: PreTrainedModel) -> list[Completion]:
        plan = self.held_out
        sampling = SamplingConfig(plan.settings.temperature, plan.batch_size)
        sampled = sample_all(
            policy,
            self.tokenizer,
            [self.tokenizer(prompt.prompt).input_ids for prompt in plan.prompts],
            sampling=sampling,
            max_new_tokens=plan.max_new_tokens,
            generator=torch.Generator(self.device).manual_seed(plan.seed),
        )
        frozen = torch.bfloat16 if self.bf16 else torch.float32
        ref_policy = load_policy(self.reference, self.device, frozen)
        return as_completions(self.stage, plan.prompts, sampled, policy, ref_policy, self.tokenizer, sampling)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)
