"""The losses of DPO and its kin, one function each: of the pairs' log-ratios, a loss per pair.

`dpo_loss` is what trains (`bench.train.dpo`), under the names that TRL gives the types. A loss pushes the log-ratio of
the chosen summary above that of the rejected one; they differ in how hard, and in when it is enough.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LogRatios:
    """log pi - log pi_ref of a pair's two summaries, EOS included, summed over their tokens, in nats."""

    chosen: Float[Tensor, " B"]
    rejected: Float[Tensor, " B"]
    chosen_tokens: Int[Tensor, " B"]
    rejected_tokens: Int[Tensor, " B"]

    @property
    def margin(self) -> Float[Tensor, " B"]:
        return self.chosen - self.rejected

    @property
    def margin_per_token(self) -> Float[Tensor, " B"]:
        """Of the two means over tokens, so that a longer summary does not count for more."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens


def sigmoid(ratios: LogRatios, beta: float, label_smoothing: float) -> Float[Tensor, " B"]:
    """-log sigma(beta margin): Eq. 7, Rafailov et al. 2023 (arXiv 2305.18290).

    With a share e of the labels taken to be flipped, cDPO (Mitchell 2023, "A note on DPO with noisy preferences"):
    -(1 - e) log sigma(beta margin) - e log sigma(-beta margin), which is least at a margin of log((1 - e) / e) / beta.
    """
    scaled = beta * ratios.margin
    return -(1 - label_smoothing) * F.logsigmoid(scaled) - label_smoothing * F.logsigmoid(-scaled)


def sigmoid_norm(ratios: LogRatios, beta: float, label_smoothing: float) -> Float[Tensor, " B"]:
    """`sigmoid` of the margin per token: length-normalised DPO (Lambert et al. 2024, arXiv 2411.15124)."""
    return -F.logsigmoid(beta * ratios.margin_per_token)


def ipo(ratios: LogRatios, beta: float, label_smoothing: float) -> Float[Tensor, " B"]:
    """(margin - 1 / (2 beta))^2: Eq. 17, Azar et al. 2023 (arXiv 2310.12036), whose margin is per token.

    It stops at a margin, where the others go on for ever.
    """
    return (ratios.margin_per_token - 1 / (2 * beta)).square()


def hinge(ratios: LogRatios, beta: float, label_smoothing: float) -> Float[Tensor, " B"]:
    """max(0, 1 - beta margin): SLiC (Zhao et al. 2023, arXiv 2305.10425) on DPO's margin (Liu et al. 2024, RSO)."""
    return torch.relu(1 - beta * ratios.margin)


def robust(ratios: LogRatios, beta: float, label_smoothing: float) -> Float[Tensor, " B"]:
    """Unbiased for `sigmoid` where a share `label_smoothing` of the labels is flipped (Chowdhury et al. 2024).

    (-(1 - e) log sigma(beta margin) + e log sigma(-beta margin)) / (1 - 2 e): arXiv 2403.00409.
    """
    scaled = beta * ratios.margin
    kept, flipped = -(1 - label_smoothing) * F.logsigmoid(scaled), -label_smoothing * F.logsigmoid(-scaled)
    return (kept - flipped) / (1 - 2 * label_smoothing)


Loss = Callable[[LogRatios, float, float], Float[Tensor, " B"]]
LOSSES: Mapping[str, Loss] = {
    "sigmoid": sigmoid,
    "ipo": ipo,
    "hinge": hinge,
    "robust": robust,
    "sigmoid_norm": sigmoid_norm,
}
"""By the name of `dpo.loss_type`."""


def dpo_loss(
    ratios: LogRatios, beta: float, loss_type: str = "sigmoid", label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """The mean over the pairs.

    Args:
        beta: the pull to the reference policy; larger keeps the policy closer.
        label_smoothing: read by `sigmoid` and `robust` alone.
    """
    return LOSSES[loss_type](ratios, beta, label_smoothing).mean()


def sft_loss(chosen_logps: Float[Tensor, " B"], mean_tokens: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """-log pi of the chosen summaries, a mean over all their tokens as in TRL's loss type `sft`.

    Args:
        mean_tokens: of the chosen summaries of the whole batch, of which these pairs may be a part.
    """
    return -chosen_logps.mean() / mean_tokens
