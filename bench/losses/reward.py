"""The loss of the reward model (`bench.train.reward`)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def reward_loss(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """-log sigma(r_chosen - r_rejected), averaged over pairs (Eq. 1, Stiennon et al. 2020): Bradley and Terry's."""
    return -F.logsigmoid(chosen - rejected).mean()
