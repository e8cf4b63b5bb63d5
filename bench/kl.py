"""KL(policy || reference policy) of sampled completions, in nats per completion.

Axes: B batch, C completion, V vocabulary, N tokens, D hidden size. Both estimators need completions sampled
from the policy at the temperature given, and their mean over samples is the KL of the sequence
distributions at that temperature. A single completion's value can be negative under `kl_k1` and never under
the exact sum.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from bench.errors import ConfigError

Head = Callable[[Float[Tensor, "N D"]], Float[Tensor, "N V"]]
"""Language-model head: hidden states -> logits."""


def kl_k1(
    logps: Float[Tensor, "B C"],
    ref_logps: Float[Tensor, "B C"],
    mask: Bool[Tensor, "B C"],
) -> Float[Tensor, " B"]:
    """k1 estimate per completion: the sum of log pi - log pi_ref at the sampled tokens.

    Args:
        logps: log pi(token) at the sampling temperature.
        ref_logps: log pi_ref(token) at the same temperature.
        mask: True on the sampled tokens, the EOS included.
    """
    return torch.where(mask, logps - ref_logps, 0.0).sum(-1)


def kl_exact(
    policy_logits: Float[Tensor, "B C V"],
    ref_logits: Float[Tensor, "B C V"],
    mask: Bool[Tensor, "B C"],
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """Rao-Blackwellised estimate per completion: next-token KL over the vocabulary, summed over its tokens.

    Unbiased like k1: each token's log-ratio is replaced by its expectation given the prefix (Amini, Vieira &
    Cotterell 2025, arXiv 2504.10637). That lowers the variance of each term, though not by
    necessity that of the sum. The logits at position c are those that token c is drawn from.

    Raises:
        ConfigError: a temperature that is not above 0; greedy decoding has no KL.
    """
    return torch.where(mask, _token_kl(policy_logits, ref_logits, temperature), 0.0).sum(-1)


@torch.no_grad()
def kl_exact_from_hidden(
    policy_hidden: Float[Tensor, "B C D"],
    policy_head: Head,
    ref_hidden: Float[Tensor, "B C E"],
    ref_head: Head,
    mask: Bool[Tensor, "B C"],
    temperature: float = 1.0,
    chunk_tokens: int = 256,
) -> Float[Tensor, " B"]:
    """`kl_exact` from hidden states, holding the logits of at most `chunk_tokens` tokens at a time.

    The two models may differ in hidden size (D, E). Tokens outside the mask never reach a head. No gradient:
    a graph would keep every chunk's logits and defeat the purpose.
    """
    chunks = zip(
        policy_hidden[mask].split(chunk_tokens), ref_hidden[mask].split(chunk_tokens), strict=True
    )  # (N, D) each, N counts the tokens inside the mask
    token_kl = torch.zeros(mask.shape, device=mask.device)  # (B, C)
    token_kl[mask] = torch.cat([_token_kl(policy_head(policy), ref_head(ref), temperature) for policy, ref in chunks])
    return token_kl.sum(-1)


def _token_kl(
    policy_logits: Float[Tensor, "*N V"], ref_logits: Float[Tensor, "*N V"], temperature: float
) -> Float[Tensor, "*N"]:
    if not temperature > 0:
        raise ConfigError(f"sampling.temperature must be above 0 to measure KL, got {temperature!r}")
    # In fp32 whatever the model runs in: a KL is a small difference of large numbers.
    logps = F.log_softmax(policy_logits.float() / temperature, dim=-1)
    ref_logps = F.log_softmax(ref_logits.float() / temperature, dim=-1)
    probabilities = logps.exp()
    # A token that the policy rules out (logit -inf) adds 0, not 0 x inf.
    return torch.where(probabilities > 0, probabilities * (logps - ref_logps), 0.0).sum(-1)
