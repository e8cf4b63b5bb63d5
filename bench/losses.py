"""The losses as pure functions, an equation and a source each."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from bench.ops import masked_mean


def reward_loss(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """-log sigma(r_chosen - r_rejected), averaged over pairs (Eq. 1, Stiennon et al. 2020)."""
    return -F.logsigmoid(chosen - rejected).mean()


def dpo_loss(
    policy_chosen_logps: Float[Tensor, " B"],
    policy_rejected_logps: Float[Tensor, " B"],
    ref_chosen_logps: Float[Tensor, " B"],
    ref_rejected_logps: Float[Tensor, " B"],
    beta: float,
) -> Float[Tensor, ""]:
    """-log sigma(beta ((log pi - log ref)(chosen) - (log pi - log ref)(rejected))), averaged.

    Eq. 7, Rafailov et al. 2023.
    Log-probs are summed over the completion, in nats. Training uses TRL's DPOTrainer,
    which is tested against this.
    """
    chosen_logratios = policy_chosen_logps - ref_chosen_logps
    rejected_logratios = policy_rejected_logps - ref_rejected_logps
    return -F.logsigmoid(beta * (chosen_logratios - rejected_logratios)).mean()


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
