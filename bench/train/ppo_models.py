"""The networks of PPO: separate or on one backbone, trained in full or through LoRA adapters."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.forward import (
    completion_hidden,
    completion_values,
    last_token_scores,
    lm_head,
    scatter,
    score_head,
    token_logps_and_entropy,
)
from bench.micro_batches import similar_lengths
from bench.models.loading import RewardModel, load_policy, load_reward_model
from bench.records import Rollout
from bench.train.settings.ppo import PPOSettings


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

    def __call__(self, raw: Tensor) -> Tensor:
        return (raw - self.offset) / self.sd

    @classmethod
    def of(cls, raw: Tensor) -> "ScoreScale":
        """The scale on which these raw outputs (N,) have mean 0 and variance 1 (Ziegler et al. 2019, Sec. 2.1)."""
        sd = float(raw.std(correction=0))
        return cls(float(raw.mean()), sd if sd > 1e-6 else 1.0)  # a constant reward model stays what it is


class Outputs(NamedTuple):
    """What the policy says of a rollout's completion tokens."""

    logps: Tensor  # (B, C) log pi(token) at the sampling temperature
    entropy: Tensor  # (B, C) of pi, nats
    hidden: Tensor  # (N, H) policy states that predict the N completion tokens


@dataclass
class PPOModels:
    """The networks. A separate value model starts as a copy of the reward model (N+).

    Attributes:
        ref_policy: the frozen SFT model, or None under LoRA, where it is the policy with its adapter disabled.
        value: a network of its own, or a head that reads the policy's states.
        adapter: peft's view of the policy, which switches the adapter; None where all weights are trained.
        scale: of the scores; unless it was measured, the reward model's shift alone.
    """

    policy: PreTrainedModel
    ref_policy: PreTrainedModel | None
    reward: RewardModel
    value: PreTrainedModel | SharedValueHead
    adapter: PeftModel | None = None
    scale: ScoreScale = field(init=False)

    def __post_init__(self) -> None:
        self.scale = ScoreScale(self.reward.shift)

    @property
    def count(self) -> int:
        """How many networks with a backbone of their own lie in memory."""
        separate = not isinstance(self.value, SharedValueHead)
        return 2 + (self.ref_policy is not None) + separate

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The two networks that learn; of a shared backbone, the policy's part holds the backbone."""
        return {"policy": self.policy, "value": self.value}

    def eval(self) -> None:
        """Dropout off, as in N+: the ratio of the first pass is then exactly 1."""
        for network in (self.policy, self.ref_policy, self.reward.model, self.value):
            if network is not None:
                network.eval()

    def raw_scores(self, rollout: Rollout) -> Tensor:
        """(B,) the reward head's output at each row's last token."""
        lengths = rollout.prompt_lengths + rollout.completion_mask.sum(1)
        return last_token_scores(self.reward.model, rollout.input_ids, lengths)

    def forward(self, rollout: Rollout, temperature: float) -> Outputs:
        """Log-probs and entropy of the rollout's completion tokens."""
        hidden = policy_states(self.policy, rollout)
        mask = rollout.completion_mask
        logps, entropy = token_logps_and_entropy(
            hidden, lm_head(self.policy), rollout.completion_ids, mask, temperature
        )
        return Outputs(logps, entropy, hidden)

    def values(self, rollout: Rollout, hidden: Tensor | None = None) -> Tensor:
        """(B, C) values before each token, 0 outside the completions; a shared head reads the policy's `hidden`.

        A separate value model starts as the reward model, so its output goes through the scale of the scores.
        """
        mask = rollout.completion_mask
        if isinstance(self.value, SharedValueHead):
            assert hidden is not None
            return scatter(self.value.score(hidden).squeeze(-1).float(), mask)
        raw = completion_values(self.value, rollout.input_ids, rollout.prompt_lengths, mask)
        return torch.where(mask, self.scale(raw), 0)

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
        """The policy as a plain model: adapters are merged into the weights, after which it cannot be trained on."""
        if self.adapter is None:
            return self.policy
        merged = self.adapter.merge_and_unload()
        assert isinstance(merged, PreTrainedModel)
        return merged


def load_ppo_models(
    sft_folder: Path,
    reward_folder: Path,
    settings: PPOSettings,
    *,
    device: torch.device,
    frozen_dtype: torch.dtype,
    seed: int,
) -> PPOModels:
    """The networks that the settings ask for; frozen ones in `frozen_dtype`, the others in fp32."""
    policy, reward = load_policy(sft_folder, device), load_reward_model(reward_folder, device, frozen_dtype)
    ref_policy = None if settings.lora_rank else load_policy(sft_folder, device, frozen_dtype)
    value = None if settings.value_model == "shared" else load_reward_model(reward_folder, device).model
    return ppo_models(policy, ref_policy, reward, value, settings, seed)


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
    adapter = _with_lora(policy, settings, seed) if settings.lora_rank else None
    if value is None:
        return PPOModels(policy, ref_policy, reward, SharedValueHead(policy), adapter)
    if settings.lora_rank:
        _with_lora(value, settings, seed)
        score_head(value).requires_grad_(True)  # small, and it sets the scale of the values
    return PPOModels(policy, ref_policy, reward, value, adapter)


def rows_of(rollout: Rollout, rows: Tensor) -> Rollout:
    """Some rows of a rollout, in the order given, without the padding that only the others need."""
    part = Rollout(*(getattr(rollout, field.name)[rows] for field in fields(Rollout)))
    return replace(part, input_ids=part.input_ids[:, : int(_lengths(part).max())])


def micro_batches(rows: Tensor, rollout: Rollout, settings: PPOSettings) -> list[Tensor]:
    """The rows (N,) in the groups that run through a network together; results do not depend on the cut."""
    lengths = _lengths(rollout)[rows].tolist()
    groups = similar_lengths(lengths, settings.micro_batch_size, settings.micro_batch_tokens)
    return [rows[torch.tensor(group, device=rows.device)] for group in groups]


def _lengths(rollout: Rollout) -> Tensor:
    """(B,) tokens of prompt and completion."""
    return rollout.prompt_lengths + rollout.completion_mask.sum(1)


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def policy_states(policy: PreTrainedModel, rollout: Rollout) -> Tensor:
    """(N, H) the states that predict the rollout's completion tokens."""
    return completion_hidden(policy.base_model, rollout.input_ids, rollout.prompt_lengths, rollout.completion_mask)


def _with_lora(network: PreTrainedModel, settings: PPOSettings, seed: int) -> PeftModel:
    """Adapters in every linear layer of the backbone, in place: `network` itself runs through them afterwards."""
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
        exclude_modules=["score"] if hasattr(network, "score") else None,  # the LM head is left out anyway
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = get_peft_model(network, config)
    assert isinstance(adapter, PeftModel)
    return adapter
