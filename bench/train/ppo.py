"""PPO on a reward model, as Huang et al. 2024 (N+) describe it for TL;DR.

One update:
  1. sample a completion for each prompt of the batch
  2. score: the reward model at the last token; a completion without EOS gets `missing_eos_score` instead
  3. log-probs under the rollout policy and the reference policy, and values, all before the update
  4. reward per token: -beta (log pi - log ref), k1, plus the score at the last token
  5. advantages and returns by GAE; advantages whitened over the batch
  6. `ppo_epochs` passes over the batch in minibatches, one optimizer step each: clipped policy loss and clipped value
     loss, the two networks' gradients clipped separately
The gradient does not depend on how a minibatch is cut into micro-batches.
"""

import contextlib
import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_scheduler

from bench.generation import SamplingConfig, decode, sample
from bench.losses import ppo_policy_loss, ppo_value_loss
from bench.models.loading import RewardModel
from bench.ops import (
    completion_values,
    generalized_advantages,
    last_token_scores,
    logps_and_entropy,
    masked_mean,
    whiten,
)
from bench.progress import StageBar
from bench.records import GoldReward, Rollout
from bench.special_tokens import eos_id, pad_id
from bench.train.config import PPOSettings
from bench.train.trl_common import TrainingLog


@dataclass(frozen=True)
class PromptIds:
    """A training prompt as the sampler takes it."""

    id: str
    token_ids: list[int]


@dataclass
class PPOModels:
    """The four networks. The value model starts as a copy of the reward model (N+)."""

    policy: PreTrainedModel
    ref_policy: PreTrainedModel
    reward: RewardModel
    value: PreTrainedModel


@dataclass(frozen=True)
class Experience:
    """What one batch of rollouts taught, fixed while the policy is updated. Tensors are (B, C), or (B,) for scores."""

    rollout: Rollout
    scores: Tensor
    old_logps: Tensor
    ref_logps: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    entropy: Tensor


class PPOTrainer:
    """Holds the networks, the optimizers and the two random generators; `train` runs the updates."""

    def __init__(
        self,
        models: PPOModels,
        tokenizer: PreTrainedTokenizerBase,
        settings: PPOSettings,
        sampling: SamplingConfig,
        *,
        episodes: int,
        max_new_tokens: int,
        seed: int,
        bf16: bool,
    ) -> None:
        self.models, self.tokenizer, self.settings, self.sampling = models, tokenizer, settings, sampling
        self.max_new_tokens, self.bf16 = max_new_tokens, bf16
        self.batch_size = min(settings.batch_size, episodes)  # the budget is never overspent
        self.updates = episodes // self.batch_size
        self.device = models.policy.device
        self.sampler_generator = torch.Generator(self.device).manual_seed(seed)
        self.order_generator = torch.Generator().manual_seed(seed + 1)
        for network in (models.policy, models.ref_policy, models.reward.model, models.value):
            network.eval()  # dropout off, as in N+: the ratio of the first pass is then exactly 1
        # In bf16 the sampler runs a copy of the policy in bf16 weights: autocast would convert them at every token.
        self.sampler = copy.deepcopy(models.policy).bfloat16() if bf16 else models.policy
        steps = self.updates * settings.ppo_epochs * settings.num_mini_batches
        share = settings.warmup_steps  # below 1 a share of all steps, as TRL's trainers read it
        warmup = int(share) if share >= 1 else math.ceil(share * steps)
        value_rate = settings.value_learning_rate or settings.learning_rate
        self.optimizers = {
            "policy": _optimizer(models.policy, settings.learning_rate, settings),
            "value": _optimizer(models.value, value_rate, settings),
        }
        self.schedulers = [
            get_scheduler(settings.schedule, o, num_warmup_steps=warmup, num_training_steps=steps)
            for o in self.optimizers.values()
        ]

    def train(self, prompts: Sequence[PromptIds], gold: GoldReward | None = None) -> TrainingLog:
        """Run all updates and return one row per update. `gold` is only logged; training never sees it."""
        rows: TrainingLog = []
        batches, start = self._prompt_batches(prompts), time.perf_counter()
        with StageBar("ppo", self.updates, "updates") as bar:
            for update in range(self.updates):
                batch = next(batches)
                experience = self.collect(batch)
                row: dict[str, float | None] = {
                    "step": update + 1,
                    **self._describe(experience),
                    **self.update(experience),
                }
                if gold is not None:
                    row["gold"] = self._mean_gold(gold, batch, experience.rollout)
                row["wall_s"] = time.perf_counter() - start
                rows.append(row)
                bar.update(1, score=row["score"], kl=row["kl_ref"])
        return rows

    @torch.no_grad()
    def collect(self, prompts: Sequence[PromptIds]) -> Experience:
        """Steps 1 to 5."""
        settings, models = self.settings, self.models
        if self.sampler is not models.policy:
            for target, source in zip(self.sampler.parameters(), models.policy.parameters(), strict=True):
                target.copy_(source)
        rollout = sample(
            self.sampler,
            [p.token_ids for p in prompts],
            max_new_tokens=self.max_new_tokens,
            eos_token_id=eos_id(self.tokenizer),
            pad_token_id=pad_id(self.tokenizer),
            temperature=self.sampling.temperature,
            generator=self.sampler_generator,
        )
        parts = []
        for rows in _chunks(torch.arange(len(prompts), device=self.device), settings.micro_batch_size):
            ids, lengths, mask = rollout.input_ids[rows], rollout.prompt_lengths[rows], rollout.completion_mask[rows]
            with self._autocast():
                score = last_token_scores(models.reward.model, ids, lengths + mask.sum(1)) - models.reward.shift
                old_logps, entropy = self._logps(models.policy, rollout, rows)
                ref_logps, _ = self._logps(models.ref_policy, rollout, rows)
                values = self._values(rollout, rows)
            parts.append((score, old_logps, entropy, ref_logps, values))
        scores, old_logps, entropy, ref_logps, values = (torch.cat(column) for column in zip(*parts, strict=True))
        if settings.missing_eos_score is not None:
            scores = torch.where(rollout.is_finished, scores, settings.missing_eos_score)

        mask = rollout.completion_mask
        rewards = token_rewards(scores, old_logps, ref_logps, mask, settings.beta)
        advantages, returns = generalized_advantages(rewards, values, mask, settings.gamma, settings.lam)
        if settings.whiten_advantages:
            advantages = whiten(advantages, mask)
        return Experience(rollout, scores, old_logps, ref_logps, values, advantages, returns, entropy)

    def update(self, experience: Experience) -> dict[str, float]:
        """Step 6. Returns the averages over all optimizer steps of what the losses report."""
        settings, models = self.settings, self.models
        episodes = experience.scores.numel()
        totals: dict[str, float] = {}
        steps = settings.ppo_epochs * settings.num_mini_batches
        for _ in range(settings.ppo_epochs):
            order = torch.randperm(episodes, generator=self.order_generator).to(self.device)
            for minibatch in order.chunk(settings.num_mini_batches):
                tokens = experience.rollout.completion_mask[minibatch].sum()
                for rows in _chunks(minibatch, settings.micro_batch_size):
                    weight = float(experience.rollout.completion_mask[rows].sum() / tokens)
                    for key, value in self._backward(experience, rows, weight).items():
                        if key == "ratio_max":
                            totals[key] = max(totals.get(key, 0.0), value)
                        else:
                            totals[key] = totals.get(key, 0.0) + weight * value / steps
                for name, network in (("policy", models.policy), ("value", models.value)):
                    norm = nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
                    totals[f"{name}_grad_norm"] = totals.get(f"{name}_grad_norm", 0.0) + float(norm) / steps
                    self.optimizers[name].step()
                    self.optimizers[name].zero_grad(set_to_none=True)
                for scheduler in self.schedulers:
                    scheduler.step()
        return totals | {"learning_rate": float(self.schedulers[0].get_last_lr()[0])}

    def _backward(self, experience: Experience, rows: Tensor, weight: float) -> dict[str, float]:
        """Add one micro-batch's gradient; `weight` is its share of the minibatch's tokens."""
        settings, rollout = self.settings, experience.rollout
        mask = rollout.completion_mask[rows]
        with self._autocast():
            logps, _ = self._logps(self.models.policy, rollout, rows)
            values = self._values(rollout, rows)
        policy = ppo_policy_loss(
            logps, experience.old_logps[rows], experience.advantages[rows], mask, settings.clip_range
        )
        value_loss = ppo_value_loss(
            values, experience.old_values[rows], experience.returns[rows], mask, settings.value_clip_range
        )
        ((policy.loss + settings.vf_coef * value_loss) * weight).backward()
        return {
            "policy_loss": policy.loss.item(),
            "value_loss": value_loss.item(),
            "approx_kl": policy.approx_kl.item(),
            "clip_fraction": policy.clip_fraction.item(),
            "ratio_max": policy.ratio_max.item(),
        }

    def _logps(self, model: PreTrainedModel, rollout: Rollout, rows: Tensor) -> tuple[Tensor, Tensor]:
        return logps_and_entropy(
            model,
            rollout.input_ids[rows],
            rollout.prompt_lengths[rows],
            rollout.completion_ids[rows],
            rollout.completion_mask[rows],
            self.sampling.temperature or 1.0,
        )

    def _values(self, rollout: Rollout, rows: Tensor) -> Tensor:
        """(B, C) values on the scale of the scores: the value head starts as the reward head, so it is shifted too."""
        values = completion_values(
            self.models.value, rollout.input_ids[rows], rollout.prompt_lengths[rows], rollout.completion_mask[rows]
        )
        return torch.where(rollout.completion_mask[rows], values - self.models.reward.shift, 0)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def _prompt_batches(self, prompts: Sequence[PromptIds]) -> Iterator[list[PromptIds]]:
        """Batches without end; every prompt comes once before any comes again."""
        pending: list[PromptIds] = []
        while True:
            while len(pending) < self.batch_size:
                order = torch.randperm(len(prompts), generator=self.order_generator).tolist()
                pending += [prompts[i] for i in order]
            yield pending[: self.batch_size]
            pending = pending[self.batch_size :]

    def _describe(self, experience: Experience) -> dict[str, float | None]:
        """The batch in numbers, before the update."""
        rollout, mask = experience.rollout, experience.rollout.completion_mask
        kl = torch.where(mask, experience.old_logps - experience.ref_logps, 0).sum(1)
        residual = torch.where(mask, experience.returns - experience.old_values, 0)[mask]
        variance = experience.returns[mask].var()
        return {
            "score": experience.scores.mean().item(),
            "score_std": experience.scores.std(correction=0).item(),
            "kl_ref": kl.mean().item(),
            "reward": (experience.scores - self.settings.beta * kl).mean().item(),
            "beta": self.settings.beta,
            "entropy": masked_mean(experience.entropy, mask).item(),
            "length_tokens": mask.sum(1).float().mean().item(),
            "finished": rollout.is_finished.float().mean().item(),
            "explained_variance": _finite(1 - (residual.var() / variance).item()),
        }

    def _mean_gold(self, gold: GoldReward, prompts: Sequence[PromptIds], rollout: Rollout) -> float:
        rows = zip(prompts, rollout.completion_ids, rollout.completion_mask, strict=True)
        rewards = [gold(p.id, decode(self.tokenizer, ids[mask].tolist())) for p, ids, mask in rows]
        return sum(rewards) / len(rewards)


def token_rewards(scores: Tensor, logps: Tensor, ref_logps: Tensor, mask: Tensor, beta: float) -> Tensor:
    """(B, C) rewards: -beta (log pi - log ref) at each token, and the score (B,) at the last one."""
    rewards = torch.where(mask, -beta * (logps - ref_logps), 0)
    last = mask.sum(1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None])


def _optimizer(network: nn.Module, learning_rate: float, settings: PPOSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            network.parameters(), lr=learning_rate, eps=settings.eps, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(
        network.parameters(), lr=learning_rate, eps=settings.eps, weight_decay=settings.weight_decay, fused=True
    )


def _chunks(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    return rows.split(size)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
