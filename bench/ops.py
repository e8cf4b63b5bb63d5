"""Pure masked operations that more than one method uses. Masks are bool; True marks the entries that count."""

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
