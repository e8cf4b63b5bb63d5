"""What one batch of rollouts teaches: scores, rewards, advantages, and the numbers that describe them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.losses.ppo import future_kl, generalized_advantages, token_rewards
from bench.ops import inverse_std, whiten
from bench.records import Rollout
from bench.train.settings.ppo import PPOSettings


@dataclass(frozen=True)
class Experience:
    """A batch as it stood before the update. Tensors are (B, C), 0 outside the completions, or (B,) for scores."""

    rollout: Rollout
    scores: Tensor
    old_logps: Tensor
    ref_logps: Tensor
    old_values: Tensor
    kl: Tensor  # KL(policy || reference policy) per token in nats: k1, or exact where `ppo.kl` is full
    advantages: Tensor
    returns: Tensor
    kl_weight: float  # of the KL in the loss, on the scale of the advantages; 0 where the KL is in the reward alone
    ref_hidden: Tensor | None  # (B, C, H) reference states that predict each token, where the KL is in the loss


def learnt_from(
    rollout: Rollout,
    *,
    scores: Tensor,
    old_logps: Tensor,
    ref_logps: Tensor,
    old_values: Tensor,
    kl: Tensor | None,
    ref_hidden: Tensor | None,
    beta: float,
    settings: PPOSettings,
) -> Experience:
    """Steps 4 and 5: rewards, and advantages and returns by GAE. `kl` is the exact one, or None for k1.

    With k1 in the reward, or with the future exact KL in the reward and the present one in the loss, the gradient is
    that of E[score] - beta KL(policy || reference policy) in expectation. Whitening divides the advantages by their
    standard deviation, so the KL in the loss is divided by it too.
    """
    mask = rollout.completion_mask
    in_reward = old_logps - ref_logps if kl is None else future_kl(kl, settings.gamma)
    rewards = token_rewards(scores, in_reward, mask, beta)
    advantages, returns = generalized_advantages(rewards, old_values, mask, settings.gamma, settings.lam)
    kl_weight = 0.0 if kl is None else beta
    if settings.whiten_advantages:
        kl_weight *= float(inverse_std(advantages, mask))
        advantages = whiten(advantages, mask)
    return Experience(
        rollout=rollout,
        scores=scores,
        old_logps=old_logps,
        ref_logps=ref_logps,
        old_values=old_values,
        kl=torch.where(mask, in_reward, 0) if kl is None else kl,
        advantages=advantages,
        returns=returns,
        kl_weight=kl_weight,
        ref_hidden=ref_hidden,
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
