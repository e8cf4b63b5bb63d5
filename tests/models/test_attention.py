"""The attention that the config names goes with the weights, and is refused where it cannot be."""

import importlib.util
from pathlib import Path
from typing import get_args

import pytest
import torch
from architectures import make

from bench.encoding import rows_of
from bench.errors import ConfigError, ResourceError
from bench.files import read_json
from bench.forward import logps_and_entropy
from bench.generation import sample
from bench.models import loading
from bench.models.config import Attention, ModelConfig, Precision
from bench.models.loading import load_policy, load_reward_model, new_reward_model, require_attention, save_reward_model
from bench.models.probe import probe, probe_reward
from bench.packing import packs
from bench.paths import Paths

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7, 8, 9, 10], [11, 12], [13]]


def test_it_goes_with_the_weights_into_every_model(make_policy, tokenizer, tmp_path: Path):
    model = make_policy()
    found = probe(model, "it", "eager")
    loading.save_policy(model, tokenizer, tmp_path / "sft")
    policy = load_policy(tmp_path / "sft", CPU)
    reward = new_reward_model(tmp_path / "sft", 0, seed=0, device=CPU)
    save_reward_model(loading.RewardModel(reward), tokenizer, tmp_path / "reward")
    again = load_reward_model(tmp_path / "reward", CPU).model

    assert found.paths == Paths() and "rows run padded, not packed (it attends by eager)" in " ".join(found.said)
    for each in (policy, reward, again):
        assert each.config._attn_implementation == "eager" and not packs(each.base_model)


def test_auto_leaves_no_trace(make_policy, tokenizer, tmp_path: Path):
    model = make_policy()
    probe(model, "it")
    loading.save_policy(model, tokenizer, tmp_path)

    assert "attends_by" not in read_json(tmp_path / "config.json") and packs(load_policy(tmp_path, CPU).base_model)


@torch.no_grad()
def test_eager_says_what_sdpa_says(make_policy, architecture):
    by_sdpa, by_eager = make_policy(architecture), make_policy(architecture)
    probe(by_sdpa, "it", "sdpa")
    probe(by_eager, "it", "eager")
    drawn = [
        sample(
            model,
            PROMPTS,
            max_new_tokens=6,
            eos_token_id=-1,
            pad_token_id=0,
            temperature=0.7,
            generator=torch.Generator().manual_seed(0),
        )
        for model in (by_sdpa, by_eager)
    ]
    assert torch.equal(drawn[0].completion_ids, drawn[1].completion_ids)
    rows = rows_of([(p, ids.tolist()) for p, ids in zip(PROMPTS, drawn[0].completion_ids, strict=True)], 0, CPU)
    logps = [logps_and_entropy(model, rows)[0] for model in (by_sdpa, by_eager)]
    torch.testing.assert_close(*logps, atol=1e-4, rtol=1e-5)


def test_by_a_kernel_of_a_gpu_rows_are_neither_packed_nor_cached(make_policy, tokenizer, tmp_path: Path):
    model = make_policy()
    found = probe(model, "it", "flex_attention")
    loading.save_policy(model, tokenizer, tmp_path)
    loaded = load_policy(tmp_path, CPU)

    assert found.paths == Paths(packed=False, cached=False) == Paths.of(loaded) == Paths.of(loaded.base_model)
    assert loaded.config._attn_implementation == "flex_attention" and not packs(loaded.base_model)
    assert found.said == (
        "it: rows run padded, not packed, and sampling runs whole rows for every token, which is slow (flex_attention)",
    )


def test_a_given_reward_model_attends_alike(make_classifier):
    for attention in ("eager", "flex_attention"):
        reward = make_classifier()
        probe_reward(reward, "given.reward", attention)
        assert reward.config._attn_implementation == attention


def test_a_model_that_cannot_attend_so_is_refused():
    with pytest.raises(
        ConfigError, match=r"^model\.attn_implementation is sdpa, by which j cannot attend .*; use auto$"
    ):
        probe(make("gptj"), "j", "sdpa")


def test_what_the_machine_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch):
    def refusal(attention: Attention, precision: Precision = "bf16") -> str:
        with pytest.raises((ConfigError, ResourceError)) as caught:
            require_attention(ModelConfig(attn_implementation=attention, precision=precision, device="cpu"))
        return str(caught.value)

    assert refusal("flash_attention_2").endswith("which needs a GPU, not cpu; use auto")
    assert refusal("flex_attention").endswith("which needs a GPU, not cpu; use auto")
    monkeypatch.setattr(loading, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    assert "the package flash-attn is not installed" in refusal("flash_attention_2")
    monkeypatch.setattr(loading, "find_spec", lambda name: importlib.util.find_spec("torch"))
    assert "which does not compute in fp32" in refusal("flash_attention_2", "fp32")
    for attention in get_args(Attention):
        require_attention(ModelConfig(attn_implementation=attention, precision="bf16"))
    with pytest.raises(ConfigError, match=r"^model\.attn_implementation must be one of auto, sdpa, .*, got 'fast'$"):
        ModelConfig(attn_implementation="fast")  # pyright: ignore[reportArgumentType]
