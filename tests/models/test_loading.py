"""What is saved comes back the same, and a model that is not there is one clear line."""

import huggingface_hub.constants
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bench.errors import ConfigError, ResourceError
from bench.forward import last_token_scores, score_head
from bench.models.config import ModelConfig
from bench.models.loading import (
    RewardModel,
    base_context_length,
    base_model,
    base_tokenizer,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    pick_device,
    save_policy,
    save_reward_model,
)

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 12, 40, 7], [33, 21, 22, 0, 0]])
LENGTHS = torch.tensor([5, 3])
NO_WORDS = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel()))


def assert_same_weights(found: PreTrainedModel, expected: PreTrainedModel) -> None:
    """To the bit, as a file holds what was saved. Not so what they give: weights out of a file lie at other addresses,
    and which kernel multiplies them depends on the alignment."""
    wanted = expected.state_dict()
    assert set(found.state_dict()) == set(wanted)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())


@pytest.fixture
def sft_folder(make_policy, tokenizer, architecture, tmp_path):
    save_policy(make_policy(architecture), tokenizer, tmp_path / "sft")
    return tmp_path / "sft"


@torch.no_grad()
def test_a_policy_comes_back_as_it_was(make_policy, tokenizer, architecture, sft_folder):
    loaded = load_policy(sft_folder, CPU)
    assert_same_weights(loaded, make_policy(architecture))
    torch.testing.assert_close(loaded(input_ids=IDS).logits, make_policy(architecture)(input_ids=IDS).logits)
    assert not loaded.training
    assert loaded.config.pad_token_id == tokenizer.pad_token_id
    text = " the cat slept."
    again = load_tokenizer(sft_folder)
    assert again(text).input_ids == tokenizer(text).input_ids
    assert (again.pad_token_id, again.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)


@torch.no_grad()
def test_a_reward_model_comes_back_with_its_shift(make_classifier, tokenizer, architecture, tmp_path):
    model = make_classifier(architecture)
    save_reward_model(RewardModel(model, shift=1.25), tokenizer, tmp_path)
    loaded = load_reward_model(tmp_path, CPU)
    assert loaded.shift == 1.25
    assert_same_weights(loaded.model, model)
    torch.testing.assert_close(last_token_scores(loaded.model, IDS, LENGTHS), last_token_scores(model, IDS, LENGTHS))


def test_a_new_reward_model_is_the_sft_backbone_with_a_drawn_head(tokenizer, sft_folder):
    first, again, other = (new_reward_model(sft_folder, tokenizer.pad_token_id, seed, CPU) for seed in (0, 0, 1))
    assert torch.equal(first.get_parameter("score.weight"), again.get_parameter("score.weight"))
    assert not torch.equal(first.get_parameter("score.weight"), other.get_parameter("score.weight"))
    backbone = load_policy(sft_folder, CPU).base_model.state_dict()
    assert all(torch.equal(first.base_model.state_dict()[name], backbone[name]) for name in backbone)
    assert [name for name, _ in score_head(first).named_parameters()] == ["weight"]  # no bias
    assert first.config.pad_token_id == tokenizer.pad_token_id


def test_the_head_is_drawn_with_variance_1_over_d_plus_1(tokenizer, sft_folder):
    draws = [new_reward_model(sft_folder, tokenizer.pad_token_id, seed, CPU) for seed in range(20)]
    weights = torch.cat([model.get_parameter("score.weight").flatten() for model in draws])
    n, variance = weights.numel(), 1 / (32 + 1)
    assert weights.mean().abs() < 4 * (variance / n) ** 0.5
    assert weights.var().item() == pytest.approx(variance, abs=4 * variance * (2 / n) ** 0.5)


def test_a_saved_folder_serves_as_a_hub_model(tokenizer, sft_folder, architecture, tmp_path):
    config = ModelConfig(kind="hub", name=str(sft_folder))
    found = base_tokenizer(config, [], tmp_path)
    assert found.pad_token_id == tokenizer.pad_token_id
    model = base_model(config, found, seed=0, cache_dir=tmp_path)
    assert_same_weights(model, load_policy(sft_folder, CPU))
    assert base_context_length(config) == 128


@pytest.mark.parametrize("pad", [None, "<|endoftext|>"])
@pytest.mark.parametrize("tokens", [290, 300])  # the embedding has 300 rows: room for a pad token, and none
@torch.no_grad()
def test_a_hub_model_without_a_pad_of_its_own_gets_one(make_policy, tmp_path, pad, tokens):
    """Qwen, Llama and GPT-J ship without a pad token or with pad = EOS."""
    vocabulary = {chr(0x4E00 + i): i for i in range(tokens - 1)} | {"<|endoftext|>": tokens - 1}
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary)), eos_token="<|endoftext|>", pad_token=pad
    )
    save_policy(make_policy(), bare, tmp_path / "hub")
    config = ModelConfig(kind="hub", name=str(tmp_path / "hub"))
    found = base_tokenizer(config, [], tmp_path)
    model = base_model(config, found, seed=0, cache_dir=tmp_path)
    assert found.pad_token_id == tokens and found.eos_token_id == tokens - 1
    assert model.get_input_embeddings().num_embeddings == max(300, tokens + 1)
    assert model.config.pad_token_id == model.generation_config.pad_token_id == found.pad_token_id
    torch.testing.assert_close(model(input_ids=IDS).logits[..., :300], make_policy()(input_ids=IDS).logits)


@pytest.mark.parametrize(
    "load",
    [
        lambda config, path: base_tokenizer(config, [], path),
        lambda config, path: base_model(config, NO_WORDS, 0, path),
        lambda config, path: base_context_length(config),
    ],
)
def test_a_model_that_is_not_there_is_one_line_with_the_hub_named(load, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ResourceError, match=r"^model 'nobody/no-such-model' is not there: .*hub") as caught:
        load(ModelConfig(kind="hub", name="nobody/no-such-model"), tmp_path)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1


def test_device_names():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match=r"^model\.device must be .*, got 'gpu please'$"):
        pick_device("gpu please")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ResourceError, match=rf"^model\.device is {absent}, but torch .* sees .* GPUs here"):
        pick_device(absent)
