"""Shared-prefix packing: a prompt that two completions share runs through the backbone once.

TL;DR prompts are ten times as long as their summaries, and pairwise trainers run each prompt twice. Inside
`shared_prefix`, a [chosen; rejected] batch of 2B right-padded rows goes through the backbone as B rows
[prompt | chosen | rejected] under a tree mask, and comes back as the hidden states of the 2B rows, so that the trainers
around it stay as they are.
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

_PROMPT, _CHOSEN, _REJECTED, _PAD = range(4)


class PackedPairs(NamedTuple):
    """B packed rows of S tokens, and where each token of the 2B original rows of L tokens went."""

    input_ids: Int[Tensor, "B S"]
    position_ids: Int[Tensor, "B S"]
    branch: Int[Tensor, "B S"]  # prompt, chosen, rejected or pad
    source: Int[Tensor, "B2 L"]  # packed index of every original position


def pack_pairs(input_ids: Int[Tensor, "B2 L"], attention_mask: Int[Tensor, "B2 L"]) -> PackedPairs:
    """Rows i and i + B, right-padded, packed at the end of their longest common prefix."""
    pairs, width = input_ids.size(0) // 2, input_ids.size(1)
    chosen, rejected = input_ids.chunk(2)
    chosen_mask, rejected_mask = attention_mask.bool().chunk(2)
    shared = (chosen == rejected) & chosen_mask & rejected_mask
    prefix = shared.long().cumprod(1).sum(1, keepdim=True)
    n_chosen, n_rejected = chosen_mask.sum(1, keepdim=True), rejected_mask.sum(1, keepdim=True)

    packed_width = int((n_chosen + n_rejected - prefix).max())
    slot = torch.arange(packed_width, device=input_ids.device).expand(pairs, -1)
    in_chosen = slot < n_chosen
    rejected_position = slot - (n_chosen - prefix)
    in_rejected = ~in_chosen & (rejected_position < n_rejected)
    position = torch.where(in_chosen, slot, torch.where(in_rejected, rejected_position, 0))
    tokens = torch.where(
        in_chosen, chosen.gather(1, position.clamp(max=width - 1)), rejected.gather(1, position.clamp(max=width - 1))
    )
    branch = torch.full_like(slot, _PAD)
    branch = torch.where(in_rejected, _REJECTED, branch)
    branch = torch.where(in_chosen, _CHOSEN, branch)
    branch = torch.where(slot < prefix, _PROMPT, branch)

    column = torch.arange(width, device=input_ids.device).expand(pairs, -1)
    chosen_source = column
    rejected_source = torch.where(column < prefix, column, column + n_chosen - prefix)
    source = torch.cat([chosen_source, rejected_source]).clamp(max=packed_width - 1)
    return PackedPairs(tokens, position, branch, source)


def tree_mask(branch: Int[Tensor, "B S"]) -> Bool[Tensor, "B 1 S S"]:
    """True where a query (row) may attend to a key (column): earlier, and in the prompt or in its own branch."""
    size = branch.size(1)
    causal = torch.ones(size, size, dtype=torch.bool, device=branch.device).tril()
    key, query = branch[:, None, :], branch[:, :, None]
    allowed = causal & ((key == _PROMPT) | (key == query))
    # A pad attends to itself at least: a row without any key would be NaN.
    return (allowed | torch.eye(size, dtype=torch.bool, device=branch.device))[:, None]


@contextmanager
def shared_prefix(*backbones: nn.Module) -> Iterator[None]:
    """Within the context, the backbones run [chosen; rejected] batches packed; other calls pass unchanged."""
    for backbone in backbones:
        backbone.forward = types.MethodType(_packed_forward, backbone)
    try:
        yield
    finally:
        for backbone in backbones:
            del backbone.forward  # uncovers the class's own


def _packed_forward(backbone: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
    # The class's forward, not a bound method: a deep copy of the backbone must not run the original's weights.
    plain = type(backbone).forward
    if attention_mask is None or attention_mask.ndim != 2 or input_ids.size(0) % 2 or kwargs.get("use_cache"):
        return plain(backbone, input_ids=input_ids, attention_mask=attention_mask, **kwargs)
    kwargs.pop("position_ids", None)
    packed = pack_pairs(input_ids, attention_mask)
    output = plain(
        backbone,
        input_ids=packed.input_ids,
        attention_mask=tree_mask(packed.branch),
        position_ids=packed.position_ids,
        **kwargs,
    )
    rows = torch.arange(input_ids.size(0) // 2, device=input_ids.device).repeat(2)[:, None]
    output.last_hidden_state = output.last_hidden_state[rows, packed.source]
    return output
