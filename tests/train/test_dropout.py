"""Dropout is off in every trainer that promises it, also where an architecture keeps its rates as numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import config_of, make
from contexts import a_context
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from bench.models.loading import RewardModel, load_policy, save_policy
from bench.records import Demonstration, PreferencePair
from bench.train.context import RolloutBudget
from bench.train.dpo import pair_logps, train_dpo
from bench.train.ppo import PPOTrainer
from bench.train.ppo_models import ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.reward import train_reward_model
from bench.train.rloo import train_rloo
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

PAIRS = [
    PreferencePair("a", "POST: the cat sat on the warm mat. TL;DR:", "the cat slept.", "a dog"),
    PreferencePair("b", "POST: a dog ran after the ball. TL;DR:", "the dog lost the ball", "the dog ran in the river"),
]
STEP: dict[str, Any] = dict(learning_rate=1e-3, batch_size=2, micro_batch_size=2, schedule="constant")
ROLLOUTS = RolloutBudget(0.7, episodes=2, max_new_tokens=4)
RATES: dict[str, dict[str, Any]] = {
    "llama": {"attention_dropout": 0.5},
    "opt": {"dropout": 0.5, "attention_dropout": 0.5},
    "gpt_bigcode": {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5},
}
"""All as numbers; as numbers, of all parts; as numbers and as modules."""


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rate of every dropout that took place."""
    rates: list[float] = []
    dropout, attention = nn.functional.dropout, nn.functional.scaled_dot_product_attention

    def watched_dropout(input, p=0.5, training=True, inplace=False):
        rates.extend([p] if training and p else [])
        return dropout(input, p, training, inplace)

    def watched_attention(*states, dropout_p=0.0, **more):
        rates.extend([dropout_p] if dropout_p else [])
        return attention(*states, dropout_p=dropout_p, **more)

    monkeypatch.setattr(nn.functional, "dropout", watched_dropout)
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched_attention)
    return rates


def classifier(name: str) -> PreTrainedModel:
    config = config_of(name, **RATES[name])
    config.num_labels = 1
    return AutoModelForSequenceClassification.from_config(config)


@pytest.fixture(params=RATES)
def train(request: pytest.FixtureRequest, tokenizer, tmp_path: Path) -> Callable[[str], object]:
    """train(method): one step of it on a model of the architecture."""
    name = request.param
    save_policy(make(name, **RATES[name]), tokenizer, tmp_path / "sft")

    def policy() -> PreTrainedModel:
        return load_policy(tmp_path / "sft", torch.device("cpu"))

    def one_step(method: str) -> object:
        context = a_context(tmp_path / "run", method)
        if method == "sft":
            rows = [Demonstration(p.id, p.prompt, p.chosen) for p in PAIRS]
            return train_sft(policy().train(), tokenizer, rows, SFTSettings(**STEP), context, epochs=1)
        if method == "reward":
            return train_reward_model(classifier(name), tokenizer, PAIRS, RewardSettings(**STEP), context, epochs=1)
        if method == "dpo":
            logps = pair_logps(policy(), tokenizer, PAIRS, 2)
            return train_dpo(tmp_path / "sft", tokenizer, PAIRS, logps, DPOSettings(**STEP), context, epochs=1)
        reward = RewardModel(classifier(name).eval())
        if method == "rloo":
            settings = RLOOSettings(**STEP, num_generations=2, missing_eos_score=None)
            prompts = [pair.prompt for pair in PAIRS]
            return train_rloo(tmp_path / "sft", reward, tokenizer, prompts, settings, ROLLOUTS, context)
        settings = PPOSettings(**STEP)
        models = ppo_models(policy().train(), policy(), reward, classifier(name).train(), settings, seed=0)
        prompts = [PromptIds(pair.id, tokenizer(pair.prompt).input_ids) for pair in PAIRS]
        return PPOTrainer(models, tokenizer, settings, ROLLOUTS, context).train(prompts)

    return one_step


@pytest.mark.parametrize("method", ["reward", "dpo", "ppo", "rloo"])
def test_nothing_is_dropped(train: Callable[[str], object], dropped: list[float], method: str):
    train(method)

    assert dropped == []


def test_sft_keeps_the_rates_of_the_model(train: Callable[[str], object], dropped: list[float]):
    """As stock TRL does; and the test above could fail."""
    train("sft")

    assert set(dropped) == {0.5}
