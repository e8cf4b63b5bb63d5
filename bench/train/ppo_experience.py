"""What one batch of rollouts teaches: scores, rewards, advantages, and the numbers that describe them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bench.losses.ppo import clipped_scores, future_kl, generalized_advantages, missing_eos_scores, token_rewards
from bench.ops import inverse_std, scale_to_unit_variance, whiten
from bench.records import Rollout
from bench.train.settings.ppo import PPOSettings


@dataclass(frozen=True)
class Forwards:
    """What the networks say of a rollout before the update; 0 outside the completions.

    Attributes:
        scores: the reward model's, on the scale that PPO is trained on.
        kl: exact KL(policy || reference policy) per token in nats, where `ppo.kl` is full.
        ref_hidden: the reference's states that predict each token, likewise.
    """

    scores: Float[Tensor, " B"]
    logps: Float[Tensor, "B C"]
    values: Float[Tensor, "B C"]
    ref_logps: Float[Tensor, "B C"]
    kl: Float[Tensor, "B C"] | None = None
    ref_hidden: Float[Tensor, "B C H"] | None = None


@dataclass(frozen=True)
class Experience:
    """A batch as it stood before the update; 0 outside the completions."""

    rollout: Rollout
    scores: Float[Tensor, " B"]
    old_logps: Float[Tensor, "B C"]
    ref_logps: Float[Tensor, "B C"]
    old_values: Float[Tensor, "B C"]
    kl: Float[Tensor, "B C"]  # KL(policy || reference policy) in nats: k1, or exact where `ppo.kl` is full
    advantages: Float[Tensor, "B C"]
    returns: Float[Tensor, "B C"]
    kl_weight: float  # of the KL in the loss, on the scale of the advantages; 0 where the KL is in the reward alone
    ref_hidden: Float[Tensor, "B C H"] | None  # states that predict each token, where the KL is in the loss


def learnt_from(rollout: Rollout, before: Forwards, beta: float, settings: PPOSettings) -> Experience:
    """Steps 4 to 6: clipping and penalty, rewards, and advantages and returns by GAE.

    With k1 in the reward, or with the future exact KL in the reward and the present one in the loss, the gradient is
    that of E[score] - beta KL(policy || reference policy) in expectation. Whitening divides the advantages by their
    standard deviation, so the KL in the loss is divided by it too.
    """
    mask = rollout.completion_mask
    scores = missing_eos_scores(  # 4
        clipped_scores(before.scores, settings.reward_clip),
        rollout.is_finished,
        settings.missing_eos_score,
        settings.missing_eos,
    )
    in_reward = before.logps - before.ref_logps if before.kl is None else future_kl(before.kl, settings.gamma)
    rewards = token_rewards(scores, in_reward, mask, beta)  # 5
    if settings.whiten_rewards:
        rewards = scale_to_unit_variance(rewards, mask)
    advantages, returns = generalized_advantages(rewards, before.values, mask, settings.gamma, settings.lam)  # 6
    kl_weight = 0.0 if before.kl is None else beta
    if settings.whiten_advantages:
        kl_weight *= float(inverse_std(advantages, mask))
        advantages = whiten(advantages, mask)
    return Experience(
        rollout=rollout,
        scores=scores,
        old_logps=before.logps,
        ref_logps=before.ref_logps,
        old_values=before.values,
        kl=torch.where(mask, in_reward, 0) if before.kl is None else before.kl,
        advantages=advantages,
        returns=returns,
        kl_weight=kl_weight,
        ref_hidden=before.ref_hidden,
    )


def describe(experience: Experience, beta: float) -> dict[str, float | None]:
    """The batch in numbers, before the update."""
    rollout, mask = experience.rollout, experience.rollout.completion_mask
    kl = experience.kl.sum(1)
    residual = (experience.returns - experience.old_values)[mask]
    explained = 1 - (residual.var() / experience.returns[mask].var()).item()
    return {
        "score": experience.scores.mean().item(),
        "score_std": experience.scores.std(correction=0).item(),
        "kl_ref": kl.mean().item(),
        "reward": (experience.scores - beta * kl).mean().item(),
        "beta": beta,
        "length_tokens": mask.sum(1).float().mean().item(),
        "finished": rollout.is_finished.float().mean().item(),
        "explained_variance": explained if math.isfinite(explained) else None,
    }
