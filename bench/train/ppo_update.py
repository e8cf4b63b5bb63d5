"""Step 6 of PPO: passes over one batch of experience, one optimizer step for each minibatch."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import get_scheduler

from bench.forward import lm_head, token_kl
from bench.losses.ppo import ppo_policy_loss, ppo_value_loss
from bench.micro_batches import micro_batches, take
from bench.ops import masked_mean
from bench.train.master_weights import MasterWeights
from bench.train.ppo_experience import Experience
from bench.train.ppo_models import Outputs, PPOModels, SharedValueHead, autocast
from bench.train.ranks import Ranks
from bench.train.settings.ppo import PPOSettings
from bench.train.shards import whole_tensor
from bench.train.warmup import warmup_steps

_OF_POLICY = ("policy_loss", "approx_kl", "clip_fraction", "entropy", "ratio_max")
_OF_VALUE = ("value_loss",)
_MAXIMA = {"ratio_max"}  # the other statistics of a micro-batch are means over its tokens


class PPOUpdate:
    """Holds the optimizers and schedulers of the policy and of the value model.

    The two learn from a minibatch one after the other, so that only one's gradients and activations are in memory; a
    value head on the policy's backbone learns with it.

    Args:
        updates: how many batches the run will bring, for the learning-rate schedule.
        bf16: compute in bf16 weights over fp32 master copies; under LoRA, whose backbone is frozen in fp32, under
            autocast.
    """

    def __init__(
        self, models: PPOModels, settings: PPOSettings, *, updates: int, temperature: float, bf16: bool, ranks: Ranks
    ) -> None:
        self.models, self.settings, self.temperature, self.ranks = models, settings, temperature, ranks
        self.device = models.policy.device
        self.bf16, self.autocasts = bf16, bf16 and models.autocasts_in_bf16
        an_update = settings.ppo_epochs * settings.num_mini_batches
        steps = {"policy": (updates - settings.critic_warmup_updates) * an_update, "value": updates * an_update}
        rates = {
            "policy": settings.learning_rate,
            "value": settings.value_learning_rate or settings.learning_rate,
        }
        self.optimizers = {name: _optimizer(net, rates[name], settings) for name, net in models.trained.items()}
        if bf16 and not self.autocasts and not models.is_sharded:
            self.optimizers = {name: MasterWeights(inner) for name, inner in self.optimizers.items()}
        self.schedulers = {
            name: get_scheduler(
                settings.schedule,
                optimizer,
                num_warmup_steps=warmup_steps(settings.warmup_steps, steps[name]),
                num_training_steps=steps[name],
            )
            for name, optimizer in self.optimizers.items()
        }
        if isinstance(models.value, SharedValueHead):
            self._phases = [_Phase(self._learn_both, ("policy", "value"), (*_OF_POLICY, *_OF_VALUE))]
        else:
            self._phases = [
                _Phase(self._learn_policy, ("policy",), _OF_POLICY),
                _Phase(self._learn_value, ("value",), _OF_VALUE),
            ]

    def run(self, experience: Experience, generator: torch.Generator, critic_alone: bool = False) -> dict[str, float]:
        """Learn from the batch; `generator` orders its rows. Returns averages over the minibatches.

        With `critic_alone` the policy stays, and so does its learning rate; there are no numbers of it.

        The entropy is that of the first pass. With `max_approx_kl`, a minibatch on which the policy has moved further
        is not learnt from, nor is what comes after it; the learning rate goes on as if it had been.
        Nor is a minibatch whose gradient is not finite: its NaN stands in the averages. (Where it is the value model's,
        the policy has learnt from it.)
        """
        passes = [self._pass(len(experience.scores), generator) for _ in range(self.settings.ppo_epochs)]
        minibatches = [minibatch for chunks in passes for minibatch in chunks]
        phases = [phase for phase in self._phases if not (critic_alone and "policy" in phase.networks)]
        learning = {name for phase in phases for name in phase.networks}
        found: list[dict[str, float]] = []
        steps = dict.fromkeys(self.models.trained, 0)
        for minibatch in minibatches:
            found.append({})
            if not all(self._learn(phase, experience, minibatch, found[-1], steps) for phase in phases):
                break
        for name in learning:
            for _ in minibatches[steps[name] :]:
                self.schedulers[name].step()
        first_pass = found[: len(passes[0])]
        of_policy = {}
        if not critic_alone:
            of_policy = {"entropy": _mean(first_pass, "entropy"), "ratio_max": max(s["ratio_max"] for s in found)}
        return {
            **{key: _mean(found, key) for key in dict.fromkeys(key for statistics in found for key in statistics)},
            **of_policy,
            "optimizer_steps": steps["policy"],
            "learning_rate": float(self.schedulers["policy"].get_last_lr()[0]),
        }

    def first_groups(self, lengths: Int[Tensor, " B"], generator: torch.Generator) -> list[Int[Tensor, " _"]]:
        """This process's rows of a batch in the groups in which `run` with this generator will first learn from them.

        The generator stays as it is. In bf16 a row rounds otherwise in another group, by up to .2 nats a token: old
        log-probs that were computed in these have a ratio of 1 until a step is taken.
        """
        copy = torch.Generator()
        copy.set_state(generator.get_state())
        minibatches = self._pass(len(lengths), copy)
        return [rows for minibatch in minibatches for rows in self._micro_batches(minibatch, lengths)]

    def restore(self) -> None:
        """Give the networks the fp32 weights that the optimizers kept, after which they cannot be trained on."""
        for optimizer in self.optimizers.values():
            if isinstance(optimizer, MasterWeights):
                optimizer.restore()

    def _learn(
        self,
        phase: "_Phase",
        experience: Experience,
        minibatch: Int[Tensor, " M"],
        statistics: dict[str, float],
        steps: dict[str, int],
    ) -> bool:
        """One optimizer step of the phase's networks; its numbers are put into `statistics`, its steps are counted.

        False where none was taken: the update ends.
        """
        statistics |= self._accumulate(phase, experience, minibatch)
        limit = self.settings.max_approx_kl
        good = limit is None or not statistics.get("approx_kl", 0.0) > limit
        for name in phase.networks if good else ():
            parameters = trained_parameters(self.models.trained[name])
            self.ranks.sum_gradients(parameters)
            norm = float(whole_tensor(nn.utils.clip_grad_norm_(parameters, self.settings.largest_norm)))  # unclipped
            statistics[f"{name}_grad_norm"] = norm
            good = good and math.isfinite(norm)
        for name in phase.networks:
            if good:
                self.optimizers[name].step()
                self.schedulers[name].step()
                steps[name] += 1
            self.optimizers[name].zero_grad(set_to_none=True)
        return good

    def _accumulate(self, phase: "_Phase", experience: Experience, minibatch: Int[Tensor, " M"]) -> dict[str, float]:
        """Add the gradient of this process's share of the minibatch, if any; the numbers are those of all of it."""
        mask = experience.rollout.completion_mask
        tokens = mask[minibatch].sum()
        totals = dict.fromkeys(phase.statistics, 0.0)
        groups = self._micro_batches(minibatch, experience.rollout.lengths)
        for place, rows in enumerate(self.in_step(groups)):
            weight = float(mask[rows].sum() / tokens) if place < len(groups) else 0.0
            loss, statistics = phase.loss(experience, rows)
            (loss * weight).backward()
            del loss  # and its graph, before the next one's
            if place >= len(groups):
                continue
            for key, value in statistics.items():
                totals[key] = max(totals[key], value) if key in _MAXIMA else totals[key] + weight * value
        maxima = {key: totals.pop(key) for key in _MAXIMA & totals.keys()}
        reduced = self.ranks.reduce(totals, self.device)
        return reduced | self.ranks.reduce(maxima, self.device, "max") if maxima else reduced

    def in_step(self, groups: list[Int[Tensor, " _"]]) -> list[Int[Tensor, " _"]]:
        """The groups, and behind them as many as the process with most has more, of one row: where weights lie in
        shares, a pass of one process needs all the others. Those behind count nothing."""
        most = self.ranks.reduce({"groups": len(groups)}, self.device, "max")["groups"] if self.models.is_sharded else 0
        spare = groups[0][:1] if groups else torch.zeros(1, dtype=torch.long, device=self.device)
        return [*groups, *[spare] * (int(most) - len(groups))]

    def _pass(self, episodes: int, generator: torch.Generator) -> tuple[Int[Tensor, " _"], ...]:
        """The minibatches of a pass."""
        order = torch.randperm(episodes, generator=generator).to(self.device)
        return order.chunk(self.settings.num_mini_batches)

    def _micro_batches(self, minibatch: Int[Tensor, " M"], lengths: Int[Tensor, " B"]) -> list[Int[Tensor, " _"]]:
        """This process's share of a minibatch; in bf16 the same rows always run together, whatever their order."""
        own = self.ranks.own(minibatch.sort().values if self.bf16 else minibatch)
        return micro_batches(own, lengths, self.settings.micro_batch_size, self.settings.micro_batch_tokens)

    def _learn_policy(self, experience: Experience, rows: Int[Tensor, " n"]) -> "_LossAndNumbers":
        return self._policy_loss(experience, rows, self._forward(experience, rows))

    def _learn_value(self, experience: Experience, rows: Int[Tensor, " n"]) -> "_LossAndNumbers":
        with autocast(self.device, self.autocasts):
            values = self.models.values(take(experience.rollout, rows))
        return self._value_loss(experience, rows, values)

    def _learn_both(self, experience: Experience, rows: Int[Tensor, " n"]) -> "_LossAndNumbers":
        outputs = self._forward(experience, rows)
        with autocast(self.device, self.autocasts):
            values = self.models.values(take(experience.rollout, rows), outputs.hidden)
        policy_loss, statistics = self._policy_loss(experience, rows, outputs)
        value_loss, of_value = self._value_loss(experience, rows, values)
        return policy_loss + value_loss, statistics | of_value

    def _forward(self, experience: Experience, rows: Int[Tensor, " n"]) -> Outputs:
        with autocast(self.device, self.autocasts):
            return self.models.forward(take(experience.rollout, rows), self.temperature)

    def _policy_loss(self, experience: Experience, rows: Int[Tensor, " n"], outputs: Outputs) -> "_LossAndNumbers":
        mask = experience.rollout.completion_mask[rows]
        policy = ppo_policy_loss(
            outputs.logps, experience.old_logps[rows], experience.advantages[rows], mask, self.settings.clip_range
        )
        loss = policy.loss
        if experience.ref_hidden is not None:
            heads = lm_head(self.models.policy), lm_head(self.models.ref_policy or self.models.policy)
            kl = token_kl(outputs.hidden, heads[0], experience.ref_hidden[rows][mask], heads[1], mask, self.temperature)
            loss = loss + experience.kl_weight * masked_mean(kl, mask)
        return loss, {
            "policy_loss": policy.loss.item(),
            "approx_kl": policy.approx_kl.item(),
            "clip_fraction": policy.clip_fraction.item(),
            "entropy": masked_mean(outputs.entropy.detach(), mask).item(),
            "ratio_max": policy.ratio_max.item(),
        }

    def _value_loss(
        self, experience: Experience, rows: Int[Tensor, " n"], values: Float[Tensor, "n C"]
    ) -> "_LossAndNumbers":
        mask = experience.rollout.completion_mask[rows]
        loss = ppo_value_loss(
            values, experience.old_values[rows], experience.returns[rows], mask, self.settings.value_clip_range
        )
        return self.settings.vf_coef * loss, {"value_loss": loss.item()}


_LossAndNumbers = tuple[Float[Tensor, ""], dict[str, float]]


class _Phase(NamedTuple):
    """What is learnt at once: (batch, rows) -> the loss, a mean over the rows' tokens, and its numbers."""

    loss: Callable[[Experience, Tensor], _LossAndNumbers]
    networks: tuple[str, ...]  # that step
    statistics: tuple[str, ...]  # the numbers' names


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
