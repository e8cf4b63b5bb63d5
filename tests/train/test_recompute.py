"""Activation checkpointing changes what is kept, and no loss and no gradient."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from ppo_world import PROMPTS, make_transformer_trainer
from test_few_steps import PAIRS
from test_sft import DEMONSTRATIONS
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from bench.errors import ConfigError
from bench.forecast.shape import saved_bytes
from bench.forward import completion_hidden
from bench.models.loading import load_policy, save_policy
from bench.records import Rows
from bench.train.dpo import pair_logps, train_dpo
from bench.train.log import TrainingLog
from bench.train.recompute import blocks_of, keep, recompute
from bench.train.reward import train_reward_model
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

BATCH: dict[str, Any] = dict(learning_rate=1e-2, batch_size=4, micro_batch_size=3, schedule="constant")


def deep_llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=8, num_attention_heads=2, pad_token_id=0
    )
    return AutoModelForCausalLM.from_config(config)


def test_a_block_keeps_its_input_alone_and_gives_the_same_gradients():
    """Eight blocks: of each remain its input (32 numbers a token), the rotary tables and masks that all share, and at
    the end the last norm; plainly a block keeps more than ten times its input."""
    plain = deep_llama()
    again = copy.deepcopy(plain)
    recompute(again)
    rows = Rows.of(torch.randint(1, 50, (3, 20)), torch.tensor([5, 8, 11]), torch.tensor([20, 18, 15]))
    kept = {}
    for name, model in (("plain", plain), ("again", again)):
        states = []
        kept[name] = saved_bytes(lambda m=model, s=states: s.append(completion_hidden(m.base_model, rows)), model)
        (states[0] ** 2).sum().backward()
    assert kept["again"] < 0.2 * kept["plain"]
    for (name, one), two in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert name == "lm_head.weight" or one.grad is not None
        torch.testing.assert_close(one.grad, two.grad, atol=1e-6, rtol=1e-5)
    keep(again)
    assert saved_bytes(lambda: completion_hidden(again.base_model, rows), again) == kept["plain"]


def test_a_copy_runs_its_own_weights():
    model = deep_llama()
    recompute(model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    ids = torch.tensor([[1, 2, 3]])
    assert copied(input_ids=ids).logits.abs().max() == 0 < model(input_ids=ids).logits.abs().max()


def test_an_architecture_without_named_blocks_is_refused():
    model = deep_llama()
    model._no_split_modules = []
    with pytest.raises(ConfigError, match="set activation_checkpointing=false"):
        recompute(model)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "ppo", "ppo lora"])
def test_every_trainer_takes_the_same_steps(method: str, make_policy, make_classifier, tokenizer, tmp_path: Path):
    """Micro-batches of 3 do not divide the batch of 4, which they need not."""
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    ref_logps = pair_logps(load_policy(tmp_path / "sft", torch.device("cpu")), tokenizer, PAIRS, 4)

    def train(recomputes: bool) -> tuple[PreTrainedModel, TrainingLog]:
        context = a_context(tmp_path / f"{recomputes}", method)
        settings: dict[str, Any] = BATCH | {"activation_checkpointing": recomputes}
        if method == "sft":
            model = make_policy()
            return model, train_sft(model, tokenizer, DEMONSTRATIONS, SFTSettings(**settings), context, epochs=2)
        if method == "reward":
            model = make_classifier()
            return model, train_reward_model(model, tokenizer, PAIRS, RewardSettings(**settings), context, epochs=2)
        if method == "dpo":
            return train_dpo(tmp_path / "sft", tokenizer, PAIRS, ref_logps, DPOSettings(**settings), context, epochs=2)
        trainer = make_transformer_trainer(episodes=8, lora_rank=2 * ("lora" in method), **settings)
        log = trainer.train(PROMPTS)
        return trainer.models.trained_policy(), log

    (plain, log), (again, other) = train(False), train(True)
    for found, wanted in zip(again.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    shown = "accuracy" if method == "reward" else "score" if "ppo" in method else "loss"
    assert [row[shown] for row in other] == pytest.approx([row[shown] for row in log], rel=1e-4)
    assert not any("forward" in vars(block) for block in blocks_of(again))
