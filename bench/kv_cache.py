"""The sampler's KV cache: prompts run without padding to speak of, and tokens are written in place.

transformers' own cache is copied whole at every token (`torch.cat`), which on a CPU takes longer than the attention.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from bench.micro_batches import similar_lengths
from bench.packing import packed_states

PREFILL_TOKENS = 4096
"""Prompts that run through the model at once, in tokens."""


class _Block(DynamicLayer):
    """One layer's keys and values in blocks (B, heads, capacity, D) of which `filled` columns are in use."""

    def __init__(self, keys: Tensor, values: Tensor, rows: int, width: int, room: int) -> None:
        """Room for `rows` prompts of up to `width` tokens and `room` tokens more, in the like of `keys` and `values`.

        What no prompt fills is finite (zeros, or a state of the row): the attention bias hides it, but a NaN would come
        through.
        """
        super().__init__()
        self._keys, self._values = (
            like.new_zeros(rows, like.size(1), width + room, like.size(3)) for like in (keys, values)
        )
        self.filled = width
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self.filled + key_states.size(2)
        self._keys[:, :, self.filled : end] = key_states
        self._values[:, :, self.filled : end] = value_states
        self.filled = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.filled

    def batch_select_indices(self, indices: Tensor) -> None:
        self._keys, self._values = self._keys[indices], self._values[indices]

    def write_prompts(self, rows: Tensor, place: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put states (1, heads, N, D), or (R, heads, L, D) with N = R L, into `rows` (R,), by their `place` (R, L)."""
        for block, states in ((self._keys, keys), (self._values, values)):
            flat = states.transpose(0, 1).flatten(1, 2)
            block[rows, :, : place.size(1)] = flat[:, place].transpose(0, 1)


@torch.no_grad()
def prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Cache, Tensor, Tensor]:
    """Run the prompts, packed.

    Each row of the cache is [prompt | gap up to the longest prompt | room for `new_tokens` tokens].

    Returns:
        The cache; the additive attention bias (B, 1, 1, W) over its prompt part, which hides the gaps (additive,
        because eager attention takes a bool mask for numbers); and the last hidden state (B, H) of each prompt.
    """
    device, width = model.device, max(map(len, prompts))
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    layers: list[_Block] = []
    last = torch.empty(0)
    for rows in similar_lengths([len(p) for p in prompts], max_tokens=PREFILL_TOKENS):
        tokens = pad_sequence([torch.tensor(prompts[row]) for row in rows], batch_first=True)
        index = torch.tensor(rows, device=device)
        part = DynamicCache()  # of the config it would forget what is beyond a window of the longest row
        hidden, place = packed_states(
            model.base_model, tokens.to(device), lengths[index], past_key_values=part, use_cache=True
        )
        states = [_written(layer) for layer in part.layers]
        if not layers:
            last = hidden.new_empty(len(prompts), hidden.size(-1))
            layers = [_Block(k, v, len(prompts), width, new_tokens) for k, v in states]
        last[index] = hidden[place.gather(1, lengths[index, None] - 1)[:, 0]]
        for block, (keys, values) in zip(layers, states, strict=True):
            block.write_prompts(index, place, keys, values)
    gap = torch.arange(width, device=device) >= lengths[:, None]
    bias = torch.zeros(gap.shape, dtype=model.dtype, device=device).masked_fill(gap, torch.finfo(model.dtype).min)
    return Cache(layers=list(layers)), bias[:, None, None], last


def _written(layer: object) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
    return layer.keys, layer.values
