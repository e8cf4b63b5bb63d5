"""Forward passes: hidden states at the tokens that count, and what the heads say of them."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.kernels import ChunkedLogProbFunction
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from bench.packing import packed_states

_LOGPROB_CHUNK = 32768  # vocabulary entries projected at once


def completion_hidden(
    backbone: nn.Module,
    input_ids: Int[Tensor, "B T"],
    prompt_lengths: Int[Tensor, " B"],
    completion_mask: Bool[Tensor, "B C"],
    offset: int = -1,
) -> Float[Tensor, "N H"]:
    """Hidden states at the completion's positions only, row by row; N is the number of True entries of the mask.

    Rows are right-padded [prompt | completion | pad] and run packed. `offset` -1 gives the states that *predict* each
    completion token, 0 the states at the tokens themselves.
    """
    hidden, place = packed_states(backbone, input_ids, prompt_lengths + completion_mask.sum(1), use_cache=False)
    row, step = completion_mask.nonzero(as_tuple=True)
    return hidden[place[row, prompt_lengths[row] + step + offset]]


def lm_head(model: PreTrainedModel) -> nn.Linear:
    """The projection from hidden states to the vocabulary's logits."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise TypeError(f"{type(model).__name__} has no linear LM head")
    return head


def score_head(model: PreTrainedModel) -> nn.Module:
    """The scalar head of a reward or value model."""
    head = model.score
    assert isinstance(head, nn.Module)
    return head


def scatter(flat: Float[Tensor, " N"], mask: Bool[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """The inverse of `x[mask]`: values back at their places, 0 elsewhere."""
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def scatter_states(flat: Float[Tensor, "N H"], mask: Bool[Tensor, "B C"]) -> Float[Tensor, "B C H"]:
    """`scatter` for a vector per True entry, as `completion_hidden` gives them."""
    dense = flat.new_zeros(*mask.shape, flat.size(-1))
    dense[mask] = flat
    return dense


def logps_and_entropy(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "B T"],
    prompt_lengths: Int[Tensor, " B"],
    completion_ids: Int[Tensor, "B C"],
    completion_mask: Bool[Tensor, "B C"],
    temperature: float = 1.0,
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """log pi(token) and the entropy of pi at each completion position, in nats, without the (B, T, V) logits.

    Logits are divided by `temperature` before the softmax. Both are 0 outside the mask. Only completion positions
    reach the LM head, which TRL's kernel projects in tiles.
    """
    hidden = completion_hidden(model.base_model, input_ids, prompt_lengths, completion_mask)
    return token_logps_and_entropy(hidden, lm_head(model), completion_ids, completion_mask, temperature)


def token_logps_and_entropy(
    hidden: Float[Tensor, "N H"],
    head: nn.Linear,
    completion_ids: Int[Tensor, "B C"],
    completion_mask: Bool[Tensor, "B C"],
    temperature: float = 1.0,
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """`logps_and_entropy` from the states that predict the completion's tokens (`completion_hidden`)."""
    logps, entropy, *_ = ChunkedLogProbFunction.apply(
        hidden,
        head.weight.to(hidden.dtype),
        head.bias,
        completion_ids[completion_mask],
        temperature,
        _LOGPROB_CHUNK,
        None,
        1.0,
        ("log_probs", "entropy"),
    )
    return scatter(logps.float(), completion_mask), scatter(entropy.float(), completion_mask)


def token_kl(
    hidden: Float[Tensor, "N H"],
    head: nn.Linear,
    ref_hidden: Float[Tensor, "N H2"],
    ref_head: nn.Linear,
    completion_mask: Bool[Tensor, "B C"],
    temperature: float = 1.0,
) -> Float[Tensor, "B C"]:
    """Exact KL(pi || pi_ref) of the next-token distributions that each completion token is drawn from, in nats.

    Both are at `temperature`; 0 outside the mask. The gradient goes to the policy alone. TRL's kernel projects both
    models' states in tiles, so no (N, V) logits exist.
    """
    divergence, _ = ChunkedDivergenceFunction.apply(
        hidden, head.weight, head.bias, ref_hidden, ref_head.weight, ref_head.bias, 1.0, temperature
    )
    return scatter(divergence.float(), completion_mask)


def completion_values(
    value_model: PreTrainedModel,
    input_ids: Int[Tensor, "B T"],
    prompt_lengths: Int[Tensor, " B"],
    completion_mask: Bool[Tensor, "B C"],
) -> Float[Tensor, "B C"]:
    """V(s) before each completion token is chosen: the value head on the state that predicts the token."""
    hidden = completion_hidden(value_model.base_model, input_ids, prompt_lengths, completion_mask)
    return scatter(score_head(value_model)(hidden).squeeze(-1).float(), completion_mask)


def last_token_scores(
    reward_model: PreTrainedModel,
    input_ids: Int[Tensor, "B T"],
    lengths: Int[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """The reward head at the last real token of each right-padded row of `lengths` tokens."""
    hidden, place = packed_states(reward_model.base_model, input_ids, lengths, use_cache=False)
    last = place.gather(1, lengths[:, None] - 1)[:, 0]
    return score_head(reward_model)(hidden[last]).squeeze(-1).float()
