"""A trainer's value out of range is one line that names the key."""

import pytest

from bench.errors import ConfigError
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.settings.sft import SFTSettings


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        (SFTSettings, "sft.learning_rate", 0.0),
        (SFTSettings, "sft.micro_batch_size", 0),
        (RLOOSettings, "rloo.micro_batch_size", 48),  # does not divide 64
        (RewardSettings, "reward.warmup_steps", -1),
        (RewardSettings, "reward.schedule", "stepwise"),
        (RewardSettings, "reward.optimizer", "sgd"),
        (DPOSettings, "dpo.beta", 0.0),
        (DPOSettings, "dpo.loss_type", "nonsense"),
        (DPOSettings, "dpo.label_smoothing", 0.5),
        (DPOSettings, "dpo.sft_weight", -1.0),
        (RLOOSettings, "rloo.beta", -1.0),
        (RLOOSettings, "rloo.prompts", "posts"),
        (RLOOSettings, "rloo.num_generations", 1),
        (RLOOSettings, "rloo.num_iterations", 0),
        (RLOOSettings, "rloo.num_generations", 5),  # does not divide 64
        (PPOSettings, "ppo.beta", -1.0),
        (PPOSettings, "ppo.num_mini_batches", 3),
        (PPOSettings, "ppo.gamma", 0.0),
        (PPOSettings, "ppo.lam", 1.5),
        (PPOSettings, "ppo.clip_range", 0.0),
        (PPOSettings, "ppo.value_learning_rate", 0.0),
    ],
)
def test_a_value_out_of_range_is_named(settings, key, value):
    with pytest.raises(ConfigError, match=rf"^{key} must .*, got {value!r}$"):
        settings(**{key.split(".")[1]: value})


def test_smoothing_is_refused_where_a_loss_does_not_read_it_and_robust_needs_it():
    with pytest.raises(ConfigError, match=r"^dpo.label_smoothing must .*, got 0.1$"):
        DPOSettings(loss_type="ipo", label_smoothing=0.1)
    with pytest.raises(ConfigError, match=r"^dpo.label_smoothing must .*, got 0.0$"):
        DPOSettings(loss_type="robust")
    assert DPOSettings(label_smoothing=0.1).loss_type == "sigmoid"


def test_beta_0_switches_the_kl_pull_of_ppo_off():
    assert PPOSettings(beta=0.0).beta == 0
