"""The shape of a model is that of the model: parameters by hand, activations against those that a step saves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forecast_world import CONFIG
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from bench.forecast import shape as module
from bench.forecast.shape import ModelShape, model_shape, saved_bytes, shape_of
from bench.models.loading import to_bf16_weights
from bench.packing import packed_states


def test_parameters_of_the_tiny_model(shape: ModelShape):
    hidden, layers = 32, 2
    # Queries, keys, values, output: 4 H^2. Gate, up, down of width 3 H: 9 H^2. Two norms a layer, one behind them.
    matrices = layers * 13 * hidden**2
    assert shape.matrices == matrices
    assert shape.parameters == 300 * hidden + matrices + (2 * layers + 1) * hidden  # embedding and head are one
    assert shape.head == 300 * hidden
    assert (shape.queries, shape.keys, shape.layers, shape.packed) == (32, 32, 2, True)


def test_a_head_of_its_own_and_shared_keys_count():
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip

    shape = shape_of(config)

    assert shape.parameters == sum(p.numel() for p in LlamaForCausalLM(config).parameters())
    assert shape.matrices == 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    assert (shape.queries, shape.keys) == (32, 16)


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_are_those_that_a_packed_step_saves(
    architecture: str, bf16: bool, make_policy: Callable[..., PreTrainedModel]
):
    model = make_policy(architecture)
    shape = shape_of(model.config)
    if bf16:
        to_bf16_weights(model)
    ids, lengths = torch.randint(5, 299, (6, 100)), torch.full((6,), 100)

    saved = saved_bytes(lambda: packed_states(model.base_model, ids, lengths, use_cache=False), model)

    assert shape.saved[2 if bf16 else 4] * 600 == pytest.approx(saved, rel=0.05)


def test_eager_attention_keeps_a_square_of_the_row():
    config = LlamaConfig(vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    config.num_attention_heads = config.num_key_value_heads = 4
    config._attn_implementation = "eager"
    shape, model = shape_of(config), LlamaForCausalLM(config)
    ids, mask = torch.randint(0, 99, (1, 90)), torch.zeros(1, 1, 90, 90)

    saved = saved_bytes(lambda: model.base_model(input_ids=ids, attention_mask=mask, use_cache=False), model)

    assert not shape.packed and shape.saved_of_pairs[4] >= 2 * 4 * 4  # two layers of four heads, at least once
    assert 90 * shape.saved[4] + 90**2 * shape.saved_of_pairs[4] == pytest.approx(saved, rel=0.05)


def test_the_shape_is_that_of_the_attention_that_is_set(prepared, shape: ModelShape, tmp_path: Path):
    _, tokenizer, _ = prepared
    by = {
        attention: model_shape(replace(CONFIG.model, attn_implementation=attention), tokenizer, tmp_path)
        for attention in ("sdpa", "eager", "flash_attention_2")
    }

    assert by["sdpa"] == shape and by["flash_attention_2"] == replace(shape, packed=False)
    assert not by["eager"].packed and by["eager"].saved_of_pairs[4] > 0 == shape.saved_of_pairs[4]


def test_a_shape_is_kept(prepared, shape: ModelShape, monkeypatch: pytest.MonkeyPatch):
    _, tokenizer, folder = prepared
    monkeypatch.setattr(module, "shape_of", lambda config: pytest.fail("read again"))

    assert model_shape(CONFIG.model, tokenizer, Path(folder)) == shape
