"""Packing: a batch goes through a backbone as one row of the tokens that differ, without padding.

Right-padded rows lose their pads, and a prompt that two completions share runs once (TL;DR prompts are ten times as
long as their summaries, and pairwise trainers run each prompt twice). Embeddings, norms and matrix products see N
tokens; only attention sees rows again, those of similar length together, and of a shared prompt only its keys and
values a second time. Hidden states are those of the padded rows.
"""

import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bench.paths import Paths

_ATTENTION = "packed_sdpa"
_PADDING_SHARE = 0.125  # of the tokens of rows that attend together, at most
_SHORT = 64  # tokens: rows up to there attend together whatever their padding, which costs less than another call


@dataclass(frozen=True)
class Group:
    """Rows of similar length that attend together: which packed tokens ask, and which they ask.

    Attributes:
        queries: the rows' own tokens, padded with their last one.
        keys: the whole rows, a shared prefix included; the same as `queries` where nothing is shared.
        mask: which keys each query sees; None where that is plainly causal.
    """

    queries: Int[Tensor, "R_g Q"]
    keys: Int[Tensor, "R_g K"]
    mask: Bool[Tensor, "R_g 1 Q K"] | None


@dataclass(frozen=True)
class Packing:
    """N tokens that stand for R right-padded rows of L tokens, and how attention finds the rows again.

    Attributes:
        source: the packed token of every place of the rows; at a pad, the row's last token.
        inverse: where in the groups' queries, one after the other, each packed token stands.
    """

    input_ids: Int[Tensor, "1 N"]
    position_ids: Int[Tensor, "1 N"]
    source: Int[Tensor, "R L"]
    groups: list[Group]
    inverse: Int[Tensor, " N"]


def pack(input_ids: Int[Tensor, "R L"], lengths: Int[Tensor, " R"], pairs: bool = False) -> Packing:
    """Pack rows of `lengths` (at least 1) real tokens.

    Args:
        pairs: the rows are [chosen; rejected]: row i + R/2 shares the longest prefix it has in common with row i.
    """
    rows, width = input_ids.shape
    column = torch.arange(width, device=input_ids.device)
    shared = torch.zeros_like(lengths)
    if pairs:
        chosen, rejected = input_ids.chunk(2)
        common = (chosen == rejected) & (column < torch.minimum(*lengths.chunk(2))[:, None])
        shared[rows // 2 :] = common.long().cumprod(1).sum(1)
    own = (column >= shared[:, None]) & (column < lengths[:, None])
    position = own.nonzero()[:, 1]
    counts = own.sum(1)
    start = counts.cumsum(0) - counts
    place = torch.minimum(column, lengths[:, None] - 1)
    chosen_start = start.roll(rows // 2)[:, None]  # of row i, where row i + R/2 looks for the prefix
    source = torch.where(place < shared[:, None], chosen_start + place, start[:, None] + place - shared[:, None])

    groups, inverse = _groups(source, lengths, shared)
    return Packing(input_ids[own][None], position[None], source, groups, inverse)


def window(config: PreTrainedConfig) -> int | None:
    """Tokens that the layers with a sliding window look back at; None where no layer has one."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    slides = kinds is None or "sliding_attention" in kinds
    return getattr(text, "sliding_window", None) if slides else None


def other_layers(config: PreTrainedConfig) -> set[str]:
    """The kinds of layers that attend neither to all of a row nor to a window of it, where the config names them."""
    return layer_kinds(config) - {"full_attention", "sliding_attention"}


def layer_kinds(config: PreTrainedConfig) -> set[str]:
    return set(getattr(config.get_text_config(), "layer_types", None) or ())


def packs(backbone: nn.Module, width: int = 0) -> bool:
    """Whether rows of up to `width` tokens can be packed: every layer attends to all of them, by sdpa, which then
    learns to.

    Others (eager attention only, rows beyond a sliding window, convolutions or states that run along the row, and what
    a probe has found) keep their padding.
    """
    config = backbone.config
    assert isinstance(config, PreTrainedConfig)
    reach = window(config)
    if other_layers(config) or (reach is not None and width > reach) or not Paths.of(backbone).packed:
        return False
    if config._attn_implementation == "sdpa":
        config._attn_implementation = _ATTENTION  # which is sdpa for every call that is not packed
    return config._attn_implementation == _ATTENTION


def unlearn(backbone: nn.Module) -> None:
    """Undo what `packs` has done to the model."""
    config = backbone.config
    assert isinstance(config, PreTrainedConfig)
    if config._attn_implementation == _ATTENTION:
        config._attn_implementation = "sdpa"


def packed_inputs(packing: Packing) -> dict[str, Any]:
    """What a backbone is called with to run the packed row; its `last_hidden_state` is then (1, N, H)."""
    return {
        "input_ids": packing.input_ids,
        # A mask of four dimensions is taken as it is; this one fits no attention that does not know packings.
        "attention_mask": torch.zeros(1, 1, 0, 0, dtype=torch.bool, device=packing.input_ids.device),
        "position_ids": packing.position_ids,
        "packing": packing,
    }


def packed_states(
    backbone: nn.Module,
    input_ids: Int[Tensor, "R L"],
    lengths: Int[Tensor, " R"],
    pairs: bool = False,
    **kwargs: Any,
) -> tuple[Float[Tensor, "N H"], Int[Tensor, "R L"]]:
    """The hidden states of right-padded rows, and for every place of the rows its index into them.

    Args:
        pairs: as in `pack`.
        kwargs: for the backbone; a cache is filled with the N states.
    """
    if not packs(backbone, input_ids.size(1)):
        # Causal and right-padded: no token sees a pad behind it, so neither mask nor position ids are needed.
        hidden = backbone(input_ids=input_ids, **kwargs).last_hidden_state
        return hidden.flatten(0, 1), torch.arange(input_ids.numel(), device=input_ids.device).view(input_ids.shape)
    packing = pack(input_ids, lengths, pairs)
    return backbone(**packed_inputs(packing), **kwargs).last_hidden_state[0], packing.source


@contextmanager
def packed(backbone: nn.Module) -> Iterator[None]:
    """Within the context, right-padded batches with an attention mask run packed; other calls pass unchanged.

    The output is that of the padded batch, except behind a row's last token. For trainers that are not ours.
    """

    def forward(
        module: nn.Module, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        plain = type(module).forward  # of the class: a deep copy must not run the original's weights
        if input_ids is None or attention_mask is None or attention_mask.ndim != 2 or kwargs.get("use_cache"):
            return plain(module, input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        if not packs(module, input_ids.size(1)):
            return plain(module, input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        packing = pack(input_ids, attention_mask.sum(1))
        output = plain(module, **kwargs | packed_inputs(packing))
        output.last_hidden_state = output.last_hidden_state[0][packing.source]
        return output

    if not packs(backbone):
        yield
        return
    backbone.forward = types.MethodType(forward, backbone)
    try:
        yield
    finally:
        del backbone.forward  # uncovers the class's own


def _groups(
    source: Int[Tensor, "R L"], lengths: Int[Tensor, " R"], shared: Int[Tensor, " R"]
) -> tuple[list[Group], Int[Tensor, " N"]]:
    """The groups of a packing, whole rows first, and its `inverse`."""
    counts = lengths - shared
    sizes, own = lengths.tolist(), counts.tolist()
    whole = [row for row, size in enumerate(sizes) if own[row] == size]
    continued = [row for row, size in enumerate(sizes) if 0 < own[row] < size]
    column = torch.arange(source.size(1), device=source.device)
    groups, inverse, before = [], torch.empty(sum(own), dtype=torch.long, device=source.device), 0
    for members in _attending_together(sizes, whole) + _attending_together(sizes, continued):
        index = torch.tensor(members, device=source.device)
        keys, first, count = source[index, : sizes[members[-1]]], shared[index, None], counts[index, None]
        nth = column[: max(own[row] for row in members)]
        place = first + torch.minimum(nth, count - 1)  # of a query in its row
        queries = keys.gather(1, place)
        mask = (column[: keys.size(1)] <= place[..., None])[:, None] if own[members[0]] < sizes[members[0]] else None
        real = (nth < count).flatten().nonzero()[:, 0]
        inverse[queries.flatten()[real]] = before + real
        before += queries.numel()
        groups.append(Group(queries, keys, mask))
    return groups, inverse


def _attending_together(lengths: Sequence[int], rows: Iterable[int]) -> list[list[int]]:
    """The rows in groups of similar length, the longest of each group last."""
    groups: list[list[int]] = []
    tokens = 0
    for row in sorted(rows, key=lengths.__getitem__):
        tokens += lengths[row]
        padded = (len(groups[-1]) + 1) * lengths[row] if groups else 0
        if not groups or (lengths[row] > _SHORT and padded - tokens > _PADDING_SHARE * padded):
            groups.append([])
            tokens = lengths[row]
        groups[-1].append(row)
    return groups


def _attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads N D"],
    key: Float[Tensor, "1 kv_heads N D"],
    value: Float[Tensor, "1 kv_heads N D"],
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 N heads D"], None]:
    """Causal attention of a packed row's own rows; sdpa for whatever is not packed."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    parts = []
    for group in packing.groups:
        queries, keys, values = _rows(query, group.queries), _rows(key, group.keys), _rows(value, group.keys)
        attended, _ = sdpa_attention_forward(module, queries, keys, values, group.mask, **kwargs)
        parts.append(attended.flatten(0, 1))
    return torch.cat(parts).index_select(0, packing.inverse)[None], None


def _rows(states: Float[Tensor, "1 heads N D"], group: Int[Tensor, "R L"]) -> Float[Tensor, "R heads L D"]:
    return states[0].transpose(0, 1).index_select(0, group.flatten()).unflatten(0, group.shape).transpose(1, 2)


AttentionInterface.register(_ATTENTION, _attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
