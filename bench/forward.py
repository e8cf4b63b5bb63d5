"""Forward passes: hidden states at the tokens that count, and what the heads say of them.

Every log-prob of this project comes from here: the policy's and the reference policy's, in training and in evaluation.
Logits are fp32 whatever the model runs in: rounded to bf16's 8 bits, they would differ between two passes of one model
by more than training moves them. Only the completions' positions are projected, a few at a time, and never kept:
(B, T, V) logits do not exist, and the backward pass projects again.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from bench.ops import next_token_kl
from bench.packing import packed_states
from bench.paths import Paths
from bench.records import Rows

_LOGITS = 2**24  # held at once: 64 MiB


def completion_hidden(backbone: nn.Module, rows: Rows, offset: int = -1, pairs: bool = False) -> Float[Tensor, "N H"]:
    """Hidden states at the completions' positions only, row by row; N is the number of True entries of their mask.

    Args:
        offset: -1 gives the states that *predict* each completion token, 0 the states at the tokens themselves.
        pairs: the rows are [chosen; rejected] of the same prompts, which run once.
    """
    hidden, place = packed_states(backbone, rows.input_ids, rows.lengths, pairs, use_cache=False)
    row, step = rows.completion_mask.nonzero(as_tuple=True)
    return hidden[place[row, rows.prompt_lengths[row] + step + offset]]


class _Ran(BaseModelOutputWithPast):
    """What a backbone returns that has run; of all that some models ask it for besides, nothing."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class OwnLogits:
    """The projection of a model that does more than one product with the hidden state (scales, caps): its own forward.

    In the precision of the model's own forward.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @property
    def weight(self) -> Tensor:
        """Of the output embeddings (V, H)."""
        head = self._model.get_output_embeddings()
        assert isinstance(head, nn.Module) and isinstance(head.weight, Tensor)
        return head.weight

    def __call__(self, hidden: Float[Tensor, "n H"]) -> Float[Tensor, "n V"]:
        """The model's forward, of its class (a trainer may have put another in its place), with a backbone that has
        run."""
        model, backbone = self._model, self._model.base_model
        put_aside = vars(backbone).pop("forward", None)
        backbone.forward = lambda *_, **__: _Ran(last_hidden_state=hidden[None])
        try:
            tokens = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
            return type(model).forward(model, input_ids=tokens, use_cache=False).logits[0].float()
        finally:
            del backbone.forward
            if put_aside is not None:
                backbone.forward = put_aside


class Gathered:
    """A linear layer of which each process holds a share, put together; its gradient is summed over the processes."""

    def __init__(self, layer: nn.Module) -> None:
        weight, bias = layer.weight, getattr(layer, "bias", None)
        assert isinstance(weight, DTensor)
        self.weight: Tensor = weight.full_tensor(grad_placements=[Partial()])
        self.bias: Tensor | None = bias.full_tensor(grad_placements=[Partial()]) if isinstance(bias, DTensor) else None

    def __call__(self, hidden: Float[Tensor, "n H"]) -> Float[Tensor, "n V"]:
        return F.linear(hidden, self.weight, self.bias)


Head = nn.Linear | OwnLogits | Gathered


def whole(layer: nn.Module) -> nn.Module | Gathered:
    """The layer, gathered where it lies in shares: every process must ask for it."""
    return Gathered(layer) if isinstance(layer.weight, DTensor) else layer


def lm_head(model: PreTrainedModel) -> Head:
    """The projection from hidden states to the vocabulary's logits."""
    if not Paths.of(model).linear_head:
        return OwnLogits(model)
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise TypeError(f"{type(model).__name__} has no linear LM head")
    head = whole(head)
    assert isinstance(head, nn.Linear | Gathered)
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
    model: PreTrainedModel, rows: Rows, temperature: float = 1.0, pairs: bool = False
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """log pi(token) and the entropy of pi at each completion position, in nats; 0 outside the mask.

    Logits are divided by `temperature` before the softmax. The entropy carries no gradient.

    Args:
        pairs: as in `completion_hidden`.
    """
    hidden = completion_hidden(model.base_model, rows, pairs=pairs)
    return token_logps_and_entropy(hidden, lm_head(model), rows, temperature)


def token_logps_and_entropy(
    hidden: Float[Tensor, "N H"], head: Head, rows: Rows, temperature: float = 1.0
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """`logps_and_entropy` from the states that predict the completions' tokens (`completion_hidden`)."""

    def of_chunk(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        distribution = logits_of(states, head, temperature).log_softmax(-1)
        logps = distribution.gather(1, tokens[:, None])[:, 0]
        with torch.no_grad():
            return logps, -(distribution.exp() * distribution).sum(-1)

    mask = rows.completion_mask
    logps, entropy = _in_chunks(of_chunk, head, hidden, rows.completion_ids[mask])
    return scatter(logps, mask), scatter(entropy, mask)


def token_kl(
    hidden: Float[Tensor, "N H"],
    head: Head,
    ref_hidden: Float[Tensor, "N H2"],
    ref_head: Head,
    mask: Bool[Tensor, "B C"],
    temperature: float = 1.0,
) -> Float[Tensor, "B C"]:
    """Exact KL(pi || pi_ref) of the next-token distributions that each completion token is drawn from, in nats.

    Both are at `temperature`; 0 outside the mask. The gradient goes to the policy alone.
    """

    def of_chunk(states: Tensor, ref_states: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            ref_logits = logits_of(ref_states, ref_head, temperature)
        return (next_token_kl(logits_of(states, head, temperature), ref_logits),)

    return scatter(*_in_chunks(of_chunk, head, hidden, ref_hidden), mask)  # pyright: ignore[reportCallIssue]


def completion_values(value_model: PreTrainedModel, rows: Rows) -> Float[Tensor, "B C"]:
    """V(s) before each completion token is chosen: the value head on the state that predicts the token."""
    hidden = completion_hidden(value_model.base_model, rows)
    return scatter(scores_of(hidden, score_head(value_model)), rows.completion_mask)


def last_token_scores(
    reward_model: PreTrainedModel,
    input_ids: Int[Tensor, "B T"],
    lengths: Int[Tensor, " B"],
    pairs: bool = False,
) -> Float[Tensor, " B"]:
    """The reward head at the last real token of each right-padded row of `lengths` tokens.

    Args:
        pairs: as in `completion_hidden`.
    """
    hidden, place = packed_states(reward_model.base_model, input_ids, lengths, pairs, use_cache=False)
    last = place.gather(1, lengths[:, None] - 1)[:, 0]
    return scores_of(hidden[last], score_head(reward_model))


def _in_chunks(of_chunk: Callable[..., tuple[Tensor, ...]], head: Head, *columns: Tensor) -> tuple[Tensor, ...]:
    """`of_chunk` of the columns (N, ...), some rows at a time, put together; the logits on the way are not kept."""
    size = max(1, _LOGITS // head.weight.size(0))
    chunks = zip(*(column.split(size) for column in columns), strict=True)
    parts = [checkpoint(of_chunk, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def logits_of(hidden: Float[Tensor, "n H"], head: Head, temperature: float = 1.0) -> Float[Tensor, "n V"]:
    """The next token's logits, fp32, divided by `temperature`."""
    if isinstance(head, OwnLogits):
        logits = head(hidden)
    else:
        logits = _Projection.apply(hidden, head.weight)
        assert isinstance(logits, Tensor)
        if head.bias is not None:
            logits = logits + head.bias.float()
    return logits if temperature == 1 else logits / temperature


def scores_of(hidden: Float[Tensor, "n H"], layer: nn.Module) -> Float[Tensor, " n"]:
    """What a scalar head gives, in fp32 like the logits: bf16 holds a score of 5 to .03 only."""
    head = whole(layer)
    fp32 = hidden.dtype == torch.float32 and not torch.is_autocast_enabled(hidden.device.type)
    if fp32 or not isinstance(head, nn.Linear | Gathered):
        return head(hidden).squeeze(-1).float()
    return logits_of(hidden, head).squeeze(-1)


class _Projection(torch.autograd.Function):
    """hidden @ weight.T in fp32, of the numbers as they are: under autocast too."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return _product(hidden, weight.t())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        hidden, weight = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad
        return (
            _product(gradient, weight).to(hidden.dtype) if needs_hidden else None,
            _product(gradient.t(), hidden).to(weight.dtype) if needs_weight else None,
        )


def _product(a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]) -> Float[Tensor, "n m"]:
    with torch.autocast(a.device.type, enabled=False):
        if a.device.type == "cuda" and torch.bfloat16 in (a.dtype, b.dtype):
            return torch.mm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32)  # tensor cores add up in fp32
        return torch.mm(a.float(), b.float())
