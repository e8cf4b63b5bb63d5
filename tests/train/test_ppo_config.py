"""PPO's own settings: a value out of range is one line that names the key."""

import pytest

from bench.errors import ConfigError
from bench.train.settings.ppo import PPOSettings


@pytest.mark.parametrize(
    ("key", "value", "others"),
    [
        ("kl", "k3", {}),  # k3 in the reward has a wrong gradient
        ("prompts", "posts", {}),
        ("temperature", 0.0, {}),  # greedy rollouts explore nothing, and their log-probs are at another temperature
        ("whiten_rewards", True, {"kl": "full"}),  # the KL in the loss would keep its scale
        ("max_grad_norm", 0.0, {}),
        ("kl_target", 0.0, {}),
        ("kl_target", 6.0, {"beta": 0.0}),  # would stay 0 whatever the KL
        ("kl_horizon", 63, {}),  # below the 64 episodes of a batch
        ("missing_eos", "ignore", {}),
        ("missing_eos_score", 1.0, {"missing_eos": "subtract"}),  # would be a bonus
        ("max_approx_kl", 0.0, {}),
        ("reward_clip", 0.0, {}),
        ("critic_warmup_updates", -1, {}),
        ("critic_warmup_updates", 1, {"value_model": "shared"}),  # the backbone that learns is the policy's
        ("value_model", "both", {}),
        ("vllm_memory_share", 1.0, {}),
        ("lora_rank", -1, {}),
        ("lora_alpha", 0, {}),
    ],
)
def test_a_value_out_of_range_is_named(key, value, others):
    with pytest.raises(ConfigError, match=rf"^ppo\.{key} must .*, got {value!r}$"):
        PPOSettings(**{key: value, **others})
