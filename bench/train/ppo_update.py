"""Step 6 of PPO: passes over one batch of experience, one optimizer step for each minibatch."""

import math

import torch
from torch import Tensor, nn
from transformers import get_scheduler

from bench.losses import ppo_policy_loss, ppo_value_loss
from bench.ops import lm_head, masked_mean, token_kl
from bench.train.config import PPOSettings
from bench.train.ppo_experience import Experience
from bench.train.ppo_models import PPOModels, autocast, micro_batches, rows_of
from bench.train.ranks import Ranks

_AVERAGED: tuple[str, ...] = ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "entropy")


class PPOUpdate:
    """Holds the optimizers and schedulers of the policy and of the value model.

    Args:
        updates: how many batches the run will bring, for the learning-rate schedule.
    """

    def __init__(
        self, models: PPOModels, settings: PPOSettings, *, updates: int, temperature: float, bf16: bool, ranks: Ranks
    ) -> None:
        self.models, self.settings, self.temperature, self.bf16, self.ranks = models, settings, temperature, bf16, ranks
        self.device = models.policy.device
        steps = updates * settings.ppo_epochs * settings.num_mini_batches
        share = settings.warmup_steps  # below 1 a share of all steps, as TRL's trainers read it
        warmup = int(share) if share >= 1 else math.ceil(share * steps)
        rates = {
            "policy": settings.learning_rate,
            "value": settings.value_learning_rate or settings.learning_rate,
        }
        self.optimizers = {name: _optimizer(net, rates[name], settings) for name, net in models.trained.items()}
        self.schedulers = {
            name: get_scheduler(settings.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
            for name, optimizer in self.optimizers.items()
        }

    def run(self, experience: Experience, generator: torch.Generator) -> dict[str, float]:
        """Learn from the batch; `generator` orders its rows. Returns averages over the minibatches.

        The entropy is that of the first pass. With `max_approx_kl`, a minibatch on which the policy has moved further
        is not learnt from, nor is what comes after it; the learning rate goes on as if it had been.
        Nor is a minibatch whose gradient is not finite: its NaN stands in the averages.
        """
        settings, episodes = self.settings, len(experience.scores)
        passes = [
            torch.randperm(episodes, generator=generator).to(self.device).chunk(settings.num_mini_batches)
            for _ in range(settings.ppo_epochs)
        ]
        minibatches = [minibatch for chunks in passes for minibatch in chunks]
        found: list[dict[str, float]] = []
        steps = 0
        for minibatch in minibatches:
            statistics = self._accumulate(experience, minibatch)
            found.append(statistics)
            if settings.max_approx_kl is not None and statistics["approx_kl"] > settings.max_approx_kl:
                self._zero_grad()
                break
            statistics |= self._clip()
            if not all(math.isfinite(statistics[f"{name}_grad_norm"]) for name in self.models.trained):
                self._zero_grad()
                break
            self._step()
            steps += 1
        for scheduler in self.schedulers.values():
            for _ in minibatches[steps:]:
                scheduler.step()
        first_pass = found[: len(passes[0])]
        return {
            **{key: _mean(found, key) for key in found[0]},
            "entropy": _mean(first_pass, "entropy"),
            "ratio_max": max(s["ratio_max"] for s in found),
            "optimizer_steps": steps,
            "learning_rate": float(self.schedulers["policy"].get_last_lr()[0]),
        }

    def _accumulate(self, experience: Experience, minibatch: Tensor) -> dict[str, float]:
        """The minibatch's gradient, whole on every process, and its averages over tokens."""
        mask = experience.rollout.completion_mask
        tokens = mask[minibatch].sum()
        totals, ratio_max = dict.fromkeys(_AVERAGED, 0.0), {"ratio_max": 0.0}
        for rows in micro_batches(self.ranks.own(minibatch), experience.rollout, self.settings):
            weight = float(mask[rows].sum() / tokens)
            statistics = self._backward(experience, rows, weight)
            totals = {key: total + weight * statistics[key] for key, total in totals.items()}
            ratio_max = {"ratio_max": max(ratio_max["ratio_max"], statistics["ratio_max"])}
        for network in self.models.trained.values():
            self.ranks.sum_gradients(trained_parameters(network))
        return self.ranks.reduce(totals, self.device) | self.ranks.reduce(ratio_max, self.device, "max")

    def _backward(self, experience: Experience, rows: Tensor, weight: float) -> dict[str, float]:
        """Add one micro-batch's gradient; `weight` is its share of the minibatch's tokens."""
        settings, mask = self.settings, experience.rollout.completion_mask[rows]
        with autocast(self.device, self.bf16):
            outputs = self.models.forward(rows_of(experience.rollout, rows), self.temperature)
        policy = ppo_policy_loss(
            outputs.logps, experience.old_logps[rows], experience.advantages[rows], mask, settings.clip_range
        )
        value_loss = ppo_value_loss(
            outputs.values, experience.old_values[rows], experience.returns[rows], mask, settings.value_clip_range
        )
        loss = policy.loss + settings.vf_coef * value_loss
        if experience.ref_hidden is not None:
            heads = lm_head(self.models.policy), lm_head(self.models.ref_policy or self.models.policy)
            kl = token_kl(outputs.hidden, heads[0], experience.ref_hidden[rows][mask], heads[1], mask, self.temperature)
            loss = loss + experience.kl_weight * masked_mean(kl, mask)
        (loss * weight).backward()
        return {
            "policy_loss": policy.loss.item(),
            "value_loss": value_loss.item(),
            "approx_kl": policy.approx_kl.item(),
            "clip_fraction": policy.clip_fraction.item(),
            "entropy": masked_mean(outputs.entropy.detach(), mask).item(),
            "ratio_max": policy.ratio_max.item(),
        }

    def _clip(self) -> dict[str, float]:
        """Clip each network's gradient by itself; returns the norms before clipping."""
        return {
            f"{name}_grad_norm": float(
                nn.utils.clip_grad_norm_(trained_parameters(network), self.settings.max_grad_norm)
            )
            for name, network in self.models.trained.items()
        }

    def _step(self) -> None:
        """One step of each network."""
        for name, optimizer in self.optimizers.items():
            optimizer.step()
            self.schedulers[name].step()
        self._zero_grad()

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _optimizer(network: nn.Module, learning_rate: float, settings: PPOSettings) -> torch.optim.Optimizer:
    parameters = trained_parameters(network)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=learning_rate, eps=settings.eps, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(
        parameters, lr=learning_rate, eps=settings.eps, weight_decay=settings.weight_decay, fused=True
    )


def _mean(found: list[dict[str, float]], key: str) -> float:
    values = [statistics[key] for statistics in found if key in statistics]
    return sum(values) / len(values)
