"""Token by token: the state that predicts each row's next token, from a KV cache or, where that is not exact, without.

With the cache a step runs one token a row. Without, it runs the whole rows again, which is exact for every causal
model.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from bench.kv_cache import PREFILL_TOKENS, prefill
from bench.micro_batches import similar_lengths
from bench.packing import layer_kinds, other_layers, packed_states, window
from bench.paths import Paths


class Decoder(Protocol):
    """Rows that grow; `hidden` (B, H) is the state that predicts each row's next token."""

    hidden: Float[Tensor, "B H"]

    def advance(self, tokens: Int[Tensor, " B"]) -> None:
        """Put a token behind each row."""
        ...

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        """Go on with these rows of those that are left."""
        ...


def decoder(model: PreTrainedModel, prompts: Sequence[Sequence[int]], samples: int, new_tokens: int) -> Decoder:
    """`samples` rows for each prompt, one prompt's together, with room for `new_tokens` tokens behind it."""
    return (_Cached if runs_cached(model) else _Uncached)(model, prompts, samples, new_tokens)


def runs_cached(model: PreTrainedModel) -> bool:
    """Whether the cache knows every kind of the model's layers, and a probe has found nothing against it."""
    return Paths.of(model).cached and not other_layers(model.config)


class _Cached:
    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], samples: int, new_tokens: int) -> None:
        self._model = model
        device = model.device
        rows = torch.arange(len(prompts), device=device).repeat_interleave(samples)
        self._cache, bias, hidden = prefill(model, prompts, new_tokens)
        if samples > 1:
            self._cache.batch_select_indices(rows)
        self._bias, self.hidden = bias[rows], hidden[rows]
        self._prompts = torch.tensor([len(p) for p in prompts], device=device)[rows, None]
        self._step = 0
        # Where no row grows beyond the window, layers with one are layers without.
        reach = window(model.config)
        self._window = reach if reach is not None and max(map(len, prompts)) + new_tokens > reach else None

    def advance(self, tokens: Int[Tensor, " B"]) -> None:
        rows = len(tokens)
        self._step += 1
        bias = torch.cat([self._bias, self._bias.new_zeros(rows, 1, 1, self._step)], dim=-1)
        positions = self._prompts + self._step - 1
        self.hidden = self._model.base_model(
            input_ids=tokens[:, None],
            attention_mask=bias if self._window is None else self._masks(bias, positions),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        self._cache.batch_select_indices(rows)
        self._bias, self._prompts, self.hidden = self._bias[rows], self._prompts[rows], self.hidden[rows]

    def _masks(self, bias: Tensor, positions: Int[Tensor, "B 1"]) -> Tensor | dict[str, Tensor]:
        """The bias as layers with a window see it; one for each kind of layer where the model has several."""
        assert self._window is not None
        width = self._bias.size(-1)
        column = torch.arange(bias.size(-1), device=bias.device)
        # The tokens behind the gap stand next to the prompt's last one, whatever their column.
        place = torch.where(column < width, column, self._prompts + column - width)
        beyond = (place <= positions - self._window)[:, None, None]
        sliding = bias.masked_fill(beyond, torch.finfo(bias.dtype).min)
        several = len(layer_kinds(self._model.config)) > 1
        return {"full_attention": bias, "sliding_attention": sliding} if several else sliding


class _Uncached:
    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], samples: int, new_tokens: int) -> None:
        self._model = model
        lengths = [len(prompt) for prompt in prompts for _ in range(samples)]
        # What stands behind a row's last token is seen by no token before it.
        self._ids = torch.zeros(len(lengths), max(lengths) + new_tokens, dtype=torch.long, device=model.device)
        for row in range(len(lengths)):
            self._ids[row, : lengths[row]] = torch.tensor(prompts[row // samples])
        self._lengths = torch.tensor(lengths, device=model.device)
        self.hidden = self._last()

    def advance(self, tokens: Int[Tensor, " B"]) -> None:
        self._ids[torch.arange(len(tokens), device=tokens.device), self._lengths] = tokens
        self._lengths = self._lengths + 1
        self.hidden = self._last()

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        self._ids, self._lengths, self.hidden = self._ids[rows], self._lengths[rows], self.hidden[rows]

    def _last(self) -> Float[Tensor, "B H"]:
        """The hidden state at each row's last token."""
        found: dict[int, Tensor] = {}
        for rows in similar_lengths(self._lengths.tolist(), max_tokens=PREFILL_TOKENS):
            lengths = self._lengths[rows]
            hidden, place = packed_states(
                self._model.base_model, self._ids[rows, : int(lengths.max())], lengths, use_cache=False
            )
            found |= zip(rows, hidden[place.gather(1, lengths[:, None] - 1)[:, 0]], strict=True)
        return torch.stack([found[row] for row in range(len(self._lengths))])
