"""Loading and saving models: the base model, policies, reward models. Safetensors only; remote code stays off."""

from bench.models.config import ModelConfig
from bench.models.loading import (
    RewardModel,
    load_base,
    load_policy,
    load_reward_model,
    load_tokenizer,
    pick_device,
    save_policy,
    save_reward_model,
)

__all__ = [
    "ModelConfig",
    "RewardModel",
    "load_base",
    "load_policy",
    "load_reward_model",
    "load_tokenizer",
    "pick_device",
    "save_policy",
    "save_reward_model",
]
