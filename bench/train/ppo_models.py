"""The networks of PPO: separate or on one backbone, trained in full or through LoRA adapters."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench import processes
from bench.forward import (
    completion_hidden,
    completion_values,
    last_token_scores,
    lm_head,
    scatter,
    scores_of,
    token_logps_and_entropy,
)
from bench.models.loading import RewardModel, load_policy, load_reward_model
from bench.records import Rollout
from bench.train.lora import Frozen, put_adapters
from bench.train.recompute import keep, recompute
from bench.train.settings.ppo import PPOSettings
from bench.train.shards import Skeleton, mesh_of_all, shard


class SharedValueHead(nn.Module):
    """A value head on the policy's last hidden states; it starts at 0, the mean score of reference summaries."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        weight = lm_head(policy).weight
        self.score = nn.Linear(weight.size(1), 1, device=weight.device)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)


@dataclass(frozen=True)
class ScoreScale:
    """From the reward model's raw output to the score that PPO is trained on: (raw - offset) / sd."""

    offset: float
    sd: float = 1.0

    def __call__(self, raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (raw - self.offset) / self.sd

    @classmethod
    def of(cls, raw: Float[Tensor, " N"]) -> "ScoreScale":
        """The scale on which these raw outputs have mean 0 and variance 1 (Ziegler et al. 2019, Sec. 2.1)."""
        sd = float(raw.std(correction=0))
        return cls(float(raw.mean()), sd if sd > 1e-6 else 1.0)  # a constant reward model stays what it is


@dataclass(frozen=True)
class Outputs:
    """What the policy says of a rollout's completion tokens."""

    logps: Float[Tensor, "B C"]  # log pi(token) at the sampling temperature
    entropy: Float[Tensor, "B C"]  # of pi, nats
    hidden: Float[Tensor, "N H"]  # policy states that predict the N completion tokens


@dataclass
class PPOModels:
    """The networks. A separate value model starts as a copy of the reward model (N+).

    Attributes:
        ref_policy: the frozen SFT model, or None under LoRA, where it is the policy with its adapter disabled.
        value: a network of its own, or a head that reads the policy's states.
        adapter: peft's view of the policy, which switches the adapter; None where all weights are trained.
        frozen: the policy's weights beneath its adapter, where they are bf16 or 4 bits while it is trained.
        skeleton: of the policy (with its adapter), where all networks lie in shares; else None.
        scale: of the scores; unless it was measured, the reward model's shift alone.
    """

    policy: PreTrainedModel
    ref_policy: PreTrainedModel | None
    reward: RewardModel
    value: PreTrainedModel | SharedValueHead
    adapter: PeftModel | None = None
    skeleton: Skeleton | None = None
    frozen: Frozen | None = None
    scale: ScoreScale = field(init=False)

    def __post_init__(self) -> None:
        self.scale = ScoreScale(self.reward.shift)

    @property
    def count(self) -> int:
        """How many networks with a backbone of their own lie in memory."""
        separate = not isinstance(self.value, SharedValueHead)
        return 2 + (self.ref_policy is not None) + separate

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a share of every network: fp32 weights, whose blocks compute in bf16 by
        themselves where that is asked for."""
        return self.skeleton is not None

    @property
    def autocasts_in_bf16(self) -> bool:
        """Whether bf16 means autocast, over adapters in fp32, and not bf16 weights over fp32 master copies."""
        return self.adapter is not None and not self.is_sharded

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The two networks that learn; of a shared backbone, the policy's part holds the backbone."""
        return {"policy": self.policy, "value": self.value}

    def eval(self) -> None:
        """Dropout off, as in N+: the ratio of the first pass is then exactly 1."""
        for network in (self.policy, self.ref_policy, self.reward.model, self.value):
            if network is not None:
                network.eval()

    def recompute(self) -> None:
        """Activation checkpointing in the networks that learn."""
        for network in (self.policy, self.value):
            if isinstance(network, PreTrainedModel):
                recompute(network)

    def raw_scores(self, rollout: Rollout) -> Float[Tensor, " B"]:
        """The reward head's output at each row's last token."""
        return last_token_scores(self.reward.model, rollout.input_ids, rollout.lengths)

    def scores(self, rollout: Rollout) -> Float[Tensor, " B"]:
        """On the scale that PPO is trained on."""
        return self.scale(self.raw_scores(rollout))

    def forward(self, rollout: Rollout, temperature: float) -> Outputs:
        """Log-probs and entropy of the rollout's completion tokens."""
        hidden = completion_hidden(self.policy.base_model, rollout)
        logps, entropy = token_logps_and_entropy(hidden, lm_head(self.policy), rollout, temperature)
        return Outputs(logps, entropy, hidden)

    def values(self, rollout: Rollout, hidden: Float[Tensor, "N H"] | None = None) -> Float[Tensor, "B C"]:
        """Values before each token, 0 outside the completions; a shared head reads the policy's `hidden`.

        A separate value model starts as the reward model, so its output goes through the scale of the scores.
        """
        mask = rollout.completion_mask
        if isinstance(self.value, SharedValueHead):
            assert hidden is not None
            return scatter(scores_of(hidden, self.value.score), mask)
        return torch.where(mask, self.scale(completion_values(self.value, rollout)), 0)

    @contextmanager
    def reference(self) -> Iterator[PreTrainedModel]:
        """The reference policy; under LoRA the policy without its adapter.

        Never between a forward pass of the policy and its backward pass: peft turns `requires_grad` of the adapter off
        and on, and the gradients can be lost without an error.
        """
        if self.adapter is None:
            assert self.ref_policy is not None
            yield self.ref_policy
        else:
            with self.adapter.disable_adapter():
                yield self.policy

    def trained_policy(self) -> PreTrainedModel:
        """The policy as a plain model: adapters are merged into the weights, after which it cannot be trained on.

        Of networks in shares every process must ask, and the first alone gets weights, in main memory.
        """
        policy, adapter = self.policy, self.adapter
        if self.skeleton is not None:
            policy, adapter = self.gathered(torch.device("cpu"), torch.float32, keep=processes.is_main())
        keep(policy)
        if adapter is None or not processes.is_main():
            return policy
        if self.frozen is not None:
            self.frozen.restore()
        merged = adapter.merge_and_unload()
        assert isinstance(merged, PreTrainedModel)
        return merged

    def freeze(self, bf16: bool, four_bit: bool) -> None:
        """Make what lies beneath the adapters smaller, for the time of the training."""
        self.frozen = Frozen(self.policy, bf16, four_bit)
        if isinstance(self.value, PreTrainedModel):
            Frozen(self.value, bf16, four_bit, restored=False)

    def shard(self, device: torch.device, bf16: bool) -> None:
        """Leave this process its share of every network, on `device`; the processes of the run must all do so."""
        mesh = mesh_of_all(device)
        self.skeleton = Skeleton(self.adapter or self.policy)
        for network in (self.policy, self.ref_policy, self.reward.model, self.value):
            if network is not None:
                shard(network, mesh, bf16)

    def gathered(
        self, device: torch.device, dtype: torch.dtype, keep: bool = True
    ) -> tuple[PreTrainedModel, PeftModel | None]:
        """A whole copy of the policy in shares, as it is now, and its adapter; empty without `keep`."""
        assert self.skeleton is not None
        copied = self.skeleton.filled(self.adapter or self.policy, device, dtype, keep).eval()
        policy = copied.get_base_model() if isinstance(copied, PeftModel) else copied
        assert isinstance(policy, PreTrainedModel)
        return policy, copied if isinstance(copied, PeftModel) else None


def load_ppo_models(
    sft_folder: Path,
    reward_folder: Path,
    settings: PPOSettings,
    *,
    device: torch.device,
    frozen_dtype: torch.dtype,
    seed: int,
) -> PPOModels:
    """The networks that the settings ask for; frozen ones in `frozen_dtype`, the others in fp32.

    The weights beneath adapters are frozen too.
    """
    policy, reward = load_policy(sft_folder, device), load_reward_model(reward_folder, device, frozen_dtype)
    ref_policy = None if settings.lora_rank else load_policy(sft_folder, device, frozen_dtype)
    value = None if settings.value_model == "shared" else load_reward_model(reward_folder, device).model
    models = ppo_models(policy, ref_policy, reward, value, settings, seed)
    # What lies in shares has one type before it is gathered, and bf16 afterwards.
    if models.adapter is not None and not processes.shard_weights():
        models.freeze(frozen_dtype == torch.bfloat16, settings.lora_4bit)
    return models


def ppo_models(
    policy: PreTrainedModel,
    ref_policy: PreTrainedModel | None,
    reward: RewardModel,
    value: PreTrainedModel | None,
    settings: PPOSettings,
    seed: int,
) -> PPOModels:
    """The networks as the settings want them: adapters put into the trained ones, a value head on the policy.

    Args:
        ref_policy: None under LoRA.
        value: a copy of the reward model's network, or None where the value model shares the policy's backbone.
        seed: of the adapters' first weights, which leave every output as it is.
    """
    adapter = put_adapters(policy, settings, seed) if settings.lora_rank else None
    if value is None:
        return PPOModels(policy, ref_policy, reward, SharedValueHead(policy), adapter)
    if settings.lora_rank:
        put_adapters(value, settings, seed)
    return PPOModels(policy, ref_policy, reward, value, adapter)


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()
