"""PPO's losses, and what they are made of: scores, rewards per token, advantages.

Axes: B batch, C completion. Masks are True on the sampled tokens, the EOS included.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.ops import masked_mean


def clipped_scores(scores: Float[Tensor, " B"], limit: float | None) -> Float[Tensor, " B"]:
    """The scores cut to [-limit, limit], as TRL's `score_clip` does; None cuts nothing."""
    return scores if limit is None else scores.clamp(-limit, limit)


def missing_eos_scores(
    scores: Float[Tensor, " B"],
    is_finished: Bool[Tensor, " B"],
    penalty: float | None,
    how: Literal["replace", "subtract"] = "replace",
) -> Float[Tensor, " B"]:
    """The scores with the penalty of completions that did not end: another score (N+), or a lower one (TRL).

    Args:
        penalty: stands in the score's place, or, a negative number, is added to it; None is no penalty.
    """
    if penalty is None:
        return scores
    return torch.where(is_finished, scores, scores + penalty if how == "subtract" else penalty)


def token_rewards(
    scores: Float[Tensor, " B"], kl: Float[Tensor, "B C"], mask: Bool[Tensor, "B C"], beta: float
) -> Float[Tensor, "B C"]:
    """-beta times the KL at each token, plus the score at the last one."""
    rewards = torch.where(mask, -beta * kl, 0)
    last = mask.sum(1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None])


def future_kl(kl: Float[Tensor, "B C"], gamma: float) -> Float[Tensor, "B C"]:
    """The KL that a token's choice leads to: that of the next token's distribution, discounted once.

    The KL of the distribution a token is drawn from does not depend on the draw: its gradient goes through the loss.
    """
    return torch.cat([gamma * kl[:, 1:], torch.zeros_like(kl[:, :1])], dim=1)


def generalized_advantages(
    rewards: Float[Tensor, "B C"],
    values: Float[Tensor, "B C"],
    mask: Bool[Tensor, "B C"],
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Advantages and returns by GAE (Eq. 16, Schulman et al. 2016), 0 outside the mask.

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lambda A_{t+1}; the value after the last token is 0.
    The mask of each row is a prefix.
    """
    rewards, values = torch.where(mask, rewards, 0), torch.where(mask, values, 0)
    next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + gamma * next_values - values
    advantages, running = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.size(1))):
        running = deltas[:, t] + gamma * lam * running
        advantages[:, t] = running
    return torch.where(mask, advantages, 0), torch.where(mask, advantages + values, 0)


class PolicyLoss(NamedTuple):
    """The clipped policy loss and what is worth watching about it, each averaged over the mask."""

    loss: Float[Tensor, ""]
    approx_kl: Float[Tensor, ""]  # KL(rollout policy || policy) by k3, nats per token
    clip_fraction: Float[Tensor, ""]  # share of tokens whose ratio left the clip range
    ratio_max: Float[Tensor, ""]


def ppo_policy_loss(
    logps: Float[Tensor, "B C"],
    old_logps: Float[Tensor, "B C"],
    advantages: Float[Tensor, "B C"],
    mask: Bool[Tensor, "B C"],
    clip_range: float,
) -> PolicyLoss:
    """-min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = pi / pi_old, averaged (Eq. 7, Schulman et al. 2017)."""
    logratio = torch.where(mask, logps - old_logps, 0)
    ratio = logratio.exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = masked_mean(torch.maximum(-advantages * ratio, -advantages * clipped), mask)
    with torch.no_grad():
        return PolicyLoss(
            loss,
            approx_kl=masked_mean(ratio - 1 - logratio, mask),
            clip_fraction=masked_mean(((ratio - 1).abs() > clip_range).float(), mask),
            ratio_max=torch.where(mask, ratio, 0).max(),
        )


def ppo_value_loss(
    values: Float[Tensor, "B C"],
    old_values: Float[Tensor, "B C"],
    returns: Float[Tensor, "B C"],
    mask: Bool[Tensor, "B C"],
    clip_range: float,
) -> Float[Tensor, ""]:
    """Half the larger of the squared errors of V and of V clipped around its rollout value, averaged over tokens."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    error = torch.maximum((values - returns).square(), (clipped - returns).square())
    return 0.5 * masked_mean(error, mask)
