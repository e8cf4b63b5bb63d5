"""The losses of DPO."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


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
