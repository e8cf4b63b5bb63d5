"""Rollouts by vLLM on the GPU that trains, through TRL's VLLMGeneration.

Written against TRL 1.16 and tested with its class and a stand-in for vLLM's engine; not run on a GPU.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from trl.generation.vllm_generation import VLLMGeneration

from bench.generation import as_rollout
from bench.records import Rollout
from bench.special_tokens import eos_id, pad_id
from bench.train.ppo_models import PPOModels


class _Unsharded:
    """An accelerator that says nothing of shares: TRL would ask each parameter for the others' ones, but is handed
    whole networks, whatever the launcher was told."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.state = SimpleNamespace(deepspeed_plugin=None, fsdp_plugin=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)


class VLLMSampler:
    """An engine beside the policy, in each process: it holds a copy of the weights and samples the process's rows.

    Temperature, token limit and the absence of any truncation are those of `bench.generation.sample`. The draws are
    vLLM's own: they follow no seed of ours, so a run cannot be repeated to the last digit. Adapters are merged into the
    policy's weights for a moment to be sent, which rounds these by a unit in the last place.
    """

    gives_logps = False  # the training forward computes them: with another kernel's the first ratio would not be 1

    def __init__(
        self,
        models: PPOModels,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float,
        max_new_tokens: int,
        memory_share: float,
    ) -> None:
        """`memory_share` of the GPU's memory is vLLM's, for weights and KV cache."""
        self.models = models
        self.device, self.max_new_tokens = models.policy.device, max_new_tokens
        self.pad, self.eos = pad_id(tokenizer), eos_id(tokenizer)
        self.engine = VLLMGeneration(
            model=models.adapter or models.policy,  # of an adapter TRL sends the weights that it is merged into
            accelerator=_Unsharded(Accelerator(cpu=self.device.type == "cpu")),  # pyright: ignore[reportArgumentType]
            processing_class=tokenizer,
            mode="colocate",
            gpu_memory_utilization=memory_share,
            temperature=temperature,
            top_p=1.0,
            top_k=0,
            max_completion_length=max_new_tokens,
            logprobs=None,
            generation_kwargs={"stop_token_ids": [self.eos]},
        )

    @torch.no_grad()
    def sample(self, prompts: Sequence[list[int]], seed: int, places: Int[Tensor, " B"], total: int) -> Rollout:
        if self.models.is_sharded:  # a whole copy, until its weights are sent
            policy, adapter = self.models.gathered(self.device, torch.float32)
            self.engine.model = adapter or policy
        self.engine.sync_weights()
        if self.models.frozen is not None:  # TRL has merged adapters into them and taken these out again
            self.models.frozen.round_again()
        self.engine.model = self.models.adapter or self.models.policy
        _, completions, *_ = self.engine.generate(list(prompts), images=None, num_generations=1)
        tokens = torch.full((len(prompts), self.max_new_tokens), self.pad, device=self.device)
        mask = torch.zeros(tokens.shape, dtype=torch.bool, device=self.device)
        for row, completion in enumerate(completions):
            tokens[row, : len(completion)] = torch.tensor(list(completion), device=self.device)
            mask[row, : len(completion)] = True
        finished = torch.tensor([completion[-1] == self.eos for completion in completions], device=self.device)
        return as_rollout(prompts, tokens, mask, torch.zeros(mask.shape, device=self.device), finished, self.pad)
