"""Models from a config: the same for the same seed, and with a pad token of their own."""

from typing import Any

import pytest
import torch

from bench.errors import ConfigError
from bench.models import tiny
from bench.models.config import ModelConfig

SMALL: dict[str, Any] = dict(hidden_size=16, layers=1, heads=2, vocabulary=260, max_positions=32)


def test_weights_are_a_function_of_the_seed(tokenizer, architecture):
    config = ModelConfig(architecture=architecture, **SMALL)
    first = tiny.build(config, tokenizer, seed=0).state_dict()
    torch.rand(1)  # the global generator plays no part
    again, other = (
        tiny.build(config, tokenizer, seed=0).state_dict(),
        tiny.build(config, tokenizer, seed=1).state_dict(),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_global_generator_alone(tokenizer):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tiny.build(ModelConfig(**SMALL), tokenizer, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_model_and_tokenizer_agree_on_pad_and_eos_which_differ(tokenizer, architecture):
    model = tiny.build(ModelConfig(architecture=architecture, **SMALL), tokenizer, seed=0)
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id == model.config.eos_token_id


def test_the_tokenizer_gives_any_text_back(tokenizer):
    text = "Zoë said: “42 %” — never\n\nseen <before>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.pad_token_id not in tokenizer(text).input_ids


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "huge"),
        ("precision", "fp64"),
        ("architecture", "rnn"),
        ("layers", 0),
        ("vocabulary", 257),
        ("hidden_size", 18),
    ],
)
def test_a_value_out_of_range_is_named(key, value):
    with pytest.raises(ConfigError, match=rf"^model\.{key} must be .*, got {value!r}$"):
        ModelConfig(**{**SMALL, "heads": 2, key: value})
