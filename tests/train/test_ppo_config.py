"""PPO's own settings: a value out of range is one line that names the key; the presets are what they say."""

from pathlib import Path

import pytest
import yaml

from bench.errors import ConfigError
from bench.train.settings.ppo import PPOSettings


@pytest.mark.parametrize(
    ("key", "value", "others"),
    [
        ("kl", "k3", {}),  # k3 in the reward has a wrong gradient
        ("kl_target", 0.0, {}),
        ("kl_target", 6.0, {"beta": 0.0}),  # would stay 0 whatever the KL
        ("kl_horizon", 63, {}),  # below the 64 episodes of a batch
        ("missing_eos", "ignore", {}),
        ("missing_eos_score", 1.0, {"missing_eos": "subtract"}),  # would be a bonus
        ("max_approx_kl", 0.0, {}),
        ("value_model", "both", {}),
        ("lora_rank", -1, {}),
        ("lora_alpha", 0, {}),
    ],
)
def test_a_value_out_of_range_is_named(key, value, others):
    with pytest.raises(ConfigError, match=rf"^ppo\.{key} must .*, got {value!r}$"):
        PPOSettings(**{key: value, **others})


def test_the_nplus_preset_has_the_values_of_the_paper():
    """Huang et al. 2024, and the code at vwxyzjn/summarize_from_feedback_details."""
    conf = Path(__file__).parents[2] / "conf" / "ppo" / "nplus.yaml"
    values = yaml.safe_load(conf.read_text(encoding="utf-8"))
    values["learning_rate"] = float(values["learning_rate"])  # YAML 1.1 reads 3e-6 as text; hydra does not
    values["eps"] = float(values["eps"])
    expected = {
        "batch_size": 512,
        "ppo_epochs": 4,
        "num_mini_batches": 1,
        "learning_rate": 3e-6,
        "eps": 1e-5,
        "optimizer": "adamw",
        "schedule": "linear",
        "warmup_steps": 0,
        "beta": 0.05,
        "kl": "k1",
        "kl_target": None,
        "gamma": 1.0,
        "lam": 0.95,
        "clip_range": 0.2,
        "value_clip_range": 0.2,
        "vf_coef": 0.1,
        "missing_eos": "replace",
        "missing_eos_score": -1.0,
        "whiten_advantages": True,
        "normalize_reward": False,
        "value_model": "separate",
        "lora_rank": 0,
    }
    assert {key: values[key] for key in expected} == expected
    PPOSettings(**values)
