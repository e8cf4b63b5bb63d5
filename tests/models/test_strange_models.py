"""Models that cannot be compared are refused in one line that names the reason; what can be mended is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from architectures import config_of, make
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, T5Config

from bench.errors import ConfigError
from bench.models import tiny
from bench.models.config import ModelConfig
from bench.models.loading import (
    base_context_length,
    base_model,
    base_tokenizer,
    causal_config,
    load_policy,
    save_policy,
)

TEXTS = ["POST: the cat sat on the warm mat. TL;DR: the cat sat."]


@pytest.fixture
def own_tokenizer() -> PreTrainedTokenizerFast:
    """One that a test may change."""
    return tiny.train_tokenizer(TEXTS, vocabulary=300, max_length=128)


def hub(folder: Path) -> ModelConfig:
    return ModelConfig(kind="hub", name=str(folder))


@pytest.mark.parametrize(
    "load",
    [
        lambda config, path: base_tokenizer(config, [], path),
        lambda config, path: base_context_length(config),
        lambda config, path: base_model(config, tiny.train_tokenizer(TEXTS, 300, 128), 0, path),
    ],
)
def test_code_that_a_model_brings_is_neither_run_nor_asked_about(
    load: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ran = tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "code.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(ran)!r}).touch()\n"
        "from transformers import PretrainedConfig, PreTrainedTokenizerFast\n"
        "class Config(PretrainedConfig):\n    model_type = 'strange'\n"
        "class Tokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    auto = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    config = {"model_type": "strange", "architectures": ["Strange"], "auto_map": auto}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    tokenizer = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    (tmp_path / "hub" / "tokenizer_config.json").write_text(json.dumps(tokenizer))

    with pytest.raises(ConfigError, match=r"^model '.*hub' brings code of its own, which is never run here; choose"):
        load(hub(tmp_path / "hub"), tmp_path)
    assert not ran.exists()


def test_an_encoder_decoder_is_refused_by_its_config(tmp_path: Path):
    T5Config(d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16).save_pretrained(tmp_path)

    with pytest.raises(ConfigError, match=r"^model .* is an encoder-decoder \(t5\); choose a causal language model"):
        base_context_length(hub(tmp_path))


def test_a_model_of_another_kind_is_refused_by_its_config(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')

    with pytest.raises(ConfigError, match=r"^model .* \(vit\) is no causal language model that transformers"):
        causal_config(str(tmp_path))


def test_a_model_that_transformers_does_not_know_is_not_called_absent(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "from_next_year"}')

    with pytest.raises(ConfigError, match=r"^model .* cannot be read: .*from_next_year"):
        causal_config(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "positions"), [("gpt2", 512), ("llama", 512), ("mpt", 512), ("bloom", None), ("falcon_alibi", None)]
)
def test_how_many_positions_a_model_has(tmp_path: Path, name: str, positions: int | None):
    config_of(name).save_pretrained(tmp_path)

    assert base_context_length(hub(tmp_path)) == positions


def test_no_eos_is_refused(own_tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    own_tokenizer.eos_token = None
    make("llama").config.save_pretrained(tmp_path)
    own_tokenizer.save_pretrained(tmp_path)

    with pytest.raises(ConfigError, match=r"^the tokenizer of .* has no EOS token, so no summary could end; give"):
        base_tokenizer(hub(tmp_path), [], tmp_path)


@pytest.mark.parametrize("before", ["", "<|pad|>:0 "])
def test_an_eos_behind_every_text_is_taken_away(own_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, before: str):
    """And only that: what stands before a text is the model's way to begin."""
    prompt = "POST: the cat. TL;DR:"
    bare = own_tokenizer(prompt).input_ids
    own_tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{before}$A:0 <|endoftext|>:0", special_tokens=[("<|pad|>", 0), ("<|endoftext|>", 1)]
    )
    make("llama").config.save_pretrained(tmp_path)
    own_tokenizer.save_pretrained(tmp_path)
    start = [0] if before else []
    assert own_tokenizer(prompt).input_ids == [*start, *bare, 1]

    found = base_tokenizer(hub(tmp_path), [], tmp_path)

    assert found(prompt).input_ids == [*start, *bare]
    found.save_pretrained(tmp_path / "again")
    assert base_tokenizer(hub(tmp_path / "again"), [], tmp_path)(prompt).input_ids == [*start, *bare]


def test_a_generation_config_that_cannot_be_saved_is_left_out(own_tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    """As of models that were saved with do_sample=False and a temperature."""
    save_policy(make("llama"), own_tokenizer, tmp_path / "hub")
    bad = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 1}
    (tmp_path / "hub" / "generation_config.json").write_text(json.dumps(bad))

    model = base_model(hub(tmp_path / "hub"), own_tokenizer, 0, tmp_path)
    save_policy(model, own_tokenizer, tmp_path / "saved")

    assert model.generation_config.eos_token_id == 1 and model.generation_config.temperature is None
    assert load_policy(tmp_path / "saved", model.device).config.model_type == "llama"
