"""Pure tensor operations that more than one method uses. Masks are bool; True marks the entries that count."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_sum(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    return torch.where(mask, x, 0).sum()


def masked_mean(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean over the True entries; 0 when there are none."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def inverse_std(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """What `x` is multiplied by to have variance 1 over the mask; finite for a constant."""
    centred = x - masked_mean(x, mask)
    return torch.rsqrt(masked_mean(centred.square(), mask) + 1e-8)


def whiten(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`x` shifted to mean 0 and scaled to variance 1 over the mask; 0 outside it."""
    return torch.where(mask, (x - masked_mean(x, mask)) * inverse_std(x, mask), 0)


def scale_to_unit_variance(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`whiten` that keeps the mean."""
    return torch.where(mask, whiten(x, mask) + masked_mean(x, mask), 0)


def next_token_kl(logits: Float[Tensor, "*N V"], ref_logits: Float[Tensor, "*N V"]) -> Float[Tensor, "*N"]:
    """KL(pi || pi_ref) of next-token distributions, over the whole vocabulary, in nats.

    Summed along a sample from pi it is an unbiased estimate of the KL of the distributions of whole completions, like
    the sum of log pi - log pi_ref at the sampled tokens (k1), each term of which it replaces by its expectation given
    the prefix (Amini, Vieira & Cotterell 2025, arXiv 2504.10637). That lowers the variance of each term, though not by
    necessity that of the sum; and it is never negative.
    """
    logps, ref_logps = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    probabilities = logps.exp()
    # A token that the policy rules out (logit -inf) adds 0, not 0 x inf.
    return torch.where(probabilities > 0, probabilities * (logps - ref_logps), 0.0).sum(-1)
