"""What PPO samples on, and what samples it: this project's loop, or vLLM."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.generation import sample
from bench.records import Rollout
from bench.special_tokens import eos_id, pad_id
from bench.train.context import RolloutBudget
from bench.train.ppo_models import PPOModels, autocast
from bench.train.settings.ppo import PPOSettings


@dataclass(frozen=True)
class PromptIds:
    """A training prompt as the sampler takes it."""

    id: str
    token_ids: list[int]


class PromptOrder:
    """Prompts without end, by index; every prompt comes once before any comes again."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.pending: list[int] = []

    def take(self, count: int, of: int) -> list[int]:
        while len(self.pending) < count:
            self.pending += torch.randperm(of, generator=self.generator).tolist()
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken


class RolloutSampler(Protocol):
    """Samples one completion per prompt from the policy as it is now."""

    gives_logps: bool
    """Whether the rollouts carry log-probs; else they are 0."""

    def sample(self, prompts: Sequence[list[int]], seed: int, places: Int[Tensor, " B"], total: int) -> Rollout:
        """The prompts stand at `places` of a batch of `total` rows that several processes share."""
        ...


class LoopSampler:
    """`bench.generation.sample`: a batch's draws are a function of its seed, whoever samples which of its rows.

    Args:
        policy: gives the policy as it is now, whole.
        at_once: rows that are sampled together at most.
        autocasts: it has adapters in fp32 over weights in bf16.
    """

    gives_logps = True

    def __init__(
        self,
        policy: Callable[[], PreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float,
        max_new_tokens: int,
        at_once: int | None = None,
        autocasts: bool = False,
    ) -> None:
        self.policy, self.tokenizer, self.temperature = policy, tokenizer, temperature
        self.max_new_tokens, self.at_once, self.autocasts = max_new_tokens, at_once, autocasts

    @torch.no_grad()
    def sample(self, prompts: Sequence[list[int]], seed: int, places: Int[Tensor, " B"], total: int) -> Rollout:
        policy = self.policy()
        with autocast(policy.device, self.autocasts):
            return sample(
                policy,
                prompts,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=eos_id(self.tokenizer),
                pad_token_id=pad_id(self.tokenizer),
                temperature=self.temperature,
                generator=torch.Generator(policy.device).manual_seed(seed),
                among=(places, total),
                at_once=self.at_once,
            )


def rollout_sampler(
    models: PPOModels,
    tokenizer: PreTrainedTokenizerBase,
    settings: PPOSettings,
    rollouts: RolloutBudget,
    *,
    bf16: bool,
) -> RolloutSampler:
    """The sampler that `ppo.rollout_engine` means on this device."""
    suits = models.policy.device.type == "cuda" and not settings.lora_4bit  # TRL sends whole weights
    if settings.rollout_engine == "vllm" or (settings.rollout_engine == "auto" and suits and find_spec("vllm")):
        from bench.train.vllm_rollouts import VLLMSampler  # takes long to import, and few have it

        return VLLMSampler(
            models,
            tokenizer,
            temperature=rollouts.temperature,
            max_new_tokens=rollouts.max_new_tokens,
            memory_share=settings.vllm_memory_share,
        )
    return LoopSampler(
        whole_policy(models, bf16),
        tokenizer,
        temperature=rollouts.temperature,
        max_new_tokens=rollouts.max_new_tokens,
        at_once=rollouts.at_once,
        autocasts=bf16 and models.autocasts_in_bf16,
    )


def whole_policy(models: PPOModels, bf16: bool) -> Callable[[], PreTrainedModel]:
    """What gives the policy to sample from: itself, or, of one in shares, a whole copy that is there only while it
    samples."""
    if not models.is_sharded:
        return lambda: models.policy
    device, dtype = models.policy.device, torch.bfloat16 if bf16 else torch.float32
    return lambda: models.gathered(device, dtype)[0]
