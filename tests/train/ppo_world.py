"""Small networks that PPO trains in milliseconds, shared by its tests and by the processes that some of them start."""

import copy
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from contexts import a_context
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from bench.files import write_json
from bench.models.loading import RewardModel
from bench.train.context import RolloutBudget
from bench.train.log import TrainingLog
from bench.train.ppo import PPOTrainer
from bench.train.ppo_experience import Experience
from bench.train.ppo_models import PPOModels, ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.settings.ppo import PPOSettings
from bench.train.shards import whole_tensor

PAD, EOS = 0, 1
TOKENS: Any = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
"""All that PPO asks of a tokenizer, unless a gold reward is to be logged."""
PROMPTS = [
    PromptIds("a", [5, 2, 3, 4]),
    PromptIds("b", [6]),
    PromptIds("c", [7, 3]),
    PromptIds("d", [4, 4, 2]),
]
SETTINGS: dict[str, Any] = dict(
    learning_rate=1e-3, batch_size=4, micro_batch_size=4, ppo_epochs=1, schedule="constant", max_grad_norm=1e9
)


class OneHot(nn.Module):
    """A backbone whose state at a token is that token and nothing before it."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.config: Any = PretrainedConfig()
        self.config._attn_implementation = "sdpa"

    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=nn.functional.one_hot(input_ids, self.vocabulary).float())


class ScoreByToken(PreTrainedModel):
    """A reward (or value) network that has one number for each token it may stand on."""

    config_class = PretrainedConfig
    base_model_prefix = "backbone"

    def __init__(self, scores: list[float]) -> None:
        super().__init__(PretrainedConfig())
        self.backbone = OneHot(len(scores))
        self.score = nn.Linear(len(scores), 1, bias=False)
        self.score.weight.data = torch.tensor([scores])


def small_policy(vocabulary: int = 8, seed: int = 0, architecture: str = "llama") -> PreTrainedModel:
    """A model of few tokens, whose EOS comes often."""
    return _small(AutoModelForCausalLM, vocabulary, seed, architecture)


def sft_policy(architecture: str = "llama") -> PreTrainedModel:
    """The policy that `small_models` starts from; most of its completions end within 6 tokens, at different lengths."""
    return small_policy(seed={"llama": 0, "gpt_neox": 2}[architecture], architecture=architecture)


def small_classifier(seed: int = 0, architecture: str = "llama") -> PreTrainedModel:
    """A reward or value network with a transformer of its own."""
    return _small(AutoModelForSequenceClassification, 8, seed, architecture)


def _small(auto: Any, vocabulary: int, seed: int, architecture: str) -> PreTrainedModel:
    kind: Any = LlamaConfig if architecture == "llama" else GPTNeoXConfig
    config = kind(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        num_labels=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def small_models(settings: PPOSettings, architecture: str = "llama") -> PPOModels:
    """Transformers throughout, put together as the settings want them."""
    reward = small_classifier(2, architecture)
    return ppo_models(
        sft_policy(architecture),
        None if settings.lora_rank else small_policy(seed=1, architecture=architecture),
        RewardModel(reward, shift=0.25),
        None if settings.value_model == "shared" else copy.deepcopy(reward),
        settings,
        seed=3,
    )


def make_trainer(
    *,
    models: PPOModels | None = None,
    episodes: int = 4,
    max_new_tokens: int = 6,
    temperature: float = 0.7,
    seed: int = 0,
    bf16: bool = False,
    scratch: Path = Path("unused"),
    checkpoint_every_s: float = 1e9,
    at_once: int | None = None,
    **settings: Any,
) -> PPOTrainer:
    """A trainer whose reference policy is not its policy, so that the KL is not 0."""
    if models is None:
        reward = ScoreByToken([-1.0, 2.0, 0.5, -0.5, 1.0, 0.0, 0.3, -2.0])
        models = PPOModels(
            policy=small_policy(),
            ref_policy=small_policy(seed=1),
            reward=RewardModel(reward, shift=0.25),
            value=copy.deepcopy(reward),
        )
    return PPOTrainer(
        models,
        TOKENS,
        PPOSettings(**{**SETTINGS, **settings}),
        RolloutBudget(temperature, episodes, max_new_tokens, at_once),
        a_context(scratch, "ppo", seed=seed, bf16=bf16, checkpoint_every_s=checkpoint_every_s),
    )


def make_transformer_trainer(architecture: str = "llama", sharded: bool = False, **settings: Any) -> PPOTrainer:
    """`make_trainer` with transformers throughout, as `small_models` puts them together.

    Args:
        sharded: each process holds a share of every network.
    """
    own = {
        key: settings.pop(key)
        for key in ("episodes", "max_new_tokens", "temperature", "seed", "bf16", "scratch", "checkpoint_every_s")
        if key in settings
    }
    models = small_models(PPOSettings(**{**SETTINGS, **settings}), architecture)
    if models.adapter is not None and own.get("bf16") and not sharded:
        models.freeze(bf16=True, four_bit=False)  # as `load_ppo_models` does
    if sharded:
        models.shard(torch.device("cpu"), own.get("bf16", False))
    return make_trainer(models=models, **own, **settings)


def add_gradients(trainer: PPOTrainer, experience: Experience, rows: torch.Tensor, weight: float = 1.0) -> None:
    """Those of all the losses that an update learns from, one after the other."""
    for phase in trainer.learner._phases:
        loss, _ = phase.loss(experience, rows)
        (loss * weight).backward()


def full_logps(model: Any, experience: Experience, temperature: float = 0.7) -> torch.Tensor:
    """(B, C) log-probs of the sampled tokens from the full logits, row by row without padding."""
    rollout = experience.rollout
    table = torch.zeros(rollout.completion_mask.shape)
    for row, (prompt, length) in enumerate(
        zip(rollout.prompt_lengths.tolist(), rollout.completion_mask.sum(1).tolist(), strict=True)
    ):
        ids = rollout.input_ids[row : row + 1, : prompt + length]
        logps = (model(input_ids=ids).logits[0] / temperature).log_softmax(-1)
        for step in range(length):
            table[row, step] = logps[prompt + step - 1, ids[0, prompt + step]]
    return table


def gradients(network: nn.Module) -> list[torch.Tensor]:
    """Of the parameters that are trained."""
    found = []
    for parameter in network.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            found.append(parameter.grad.clone())
    return found


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": dict(ppo_epochs=2, num_mini_batches=2, micro_batch_size=1, kl_target=0.5, kl_horizon=40, beta=0.3),
    "a row per minibatch": dict(num_mini_batches=4, micro_batch_size=1),
    "lora": dict(architecture="gpt_neox", lora_rank=2, kl="full", kl_target=0.5, kl_horizon=40, beta=0.3),
    "shared": dict(value_model="shared", normalize_reward=True, ppo_epochs=2, max_approx_kl=0.05, optimizer="rmsprop"),
}
"""Runs of 4 updates that use every option that lives from one update to the next."""

BF16 = {
    "bf16": dict(bf16=True, ppo_epochs=2, num_mini_batches=2, micro_batch_size=1),
    "bf16, lora": dict(bf16=True, lora_rank=2),
}
"""The same for what bf16 adds."""

CRITIC_FIRST: dict[str, dict[str, Any]] = {
    "critic first": dict(critic_warmup_updates=3, ppo_epochs=2, kl_target=0.5, kl_horizon=40, beta=0.3),
    "critic first, bf16": dict(critic_warmup_updates=3, bf16=True),
}
"""Three updates of the value model alone, and one of both."""


def variant_trainer(name: str, checkpoints: Path | None = None, sharded: bool = False) -> PPOTrainer:
    """Of a run that keeps checkpoints below the folder, if one is named."""
    kept = {} if checkpoints is None else {"scratch": checkpoints / name, "checkpoint_every_s": 0.0}
    settings = {"episodes": 16, "schedule": "linear", **{**VARIANTS, **BF16, **CRITIC_FIRST}[name]}
    return make_transformer_trainer(**settings, **kept, sharded=sharded)


def train_variant(
    name: str, checkpoints: Path | None = None, sharded: bool = False
) -> tuple[dict[str, torch.Tensor], TrainingLog]:
    """The parameters that the run ends with, and its log; with `checkpoints` it goes on from the one found there."""
    trainer = variant_trainer(name, checkpoints, sharded)
    log = trainer.train(PROMPTS[:3])
    return parameters_of(trainer), log


def parameters_of(trainer: PPOTrainer) -> dict[str, torch.Tensor]:
    """Of the networks that learn, whole."""
    networks = trainer.models.trained.items()
    return {
        f"{part}.{key}": whole_tensor(p.detach()) for part, network in networks for key, p in network.named_parameters()
    }


def train_all(
    folder: Path,
    rank: int = 0,
    count: int = 1,
    port: int = 0,
    names: Sequence[str] = tuple(VARIANTS),
    sharded: bool = False,
) -> None:
    """Run as a process: each variant with its checkpoints in the folder, and what it ended with written beside them.

    With `count` above 1 this is process `rank` of so many, as `accelerate launch` would start it.
    """
    join(rank, count, port)
    for name in names:
        parameters, log = train_variant(name, folder, sharded)
        save_file({key: p.contiguous() for key, p in parameters.items()}, folder / f"{name}-{rank}.safetensors")
        write_json(folder / f"{name}-{rank}.json", log)


def join(rank: int, count: int, port: int) -> None:
    """Make this process one of `count`."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # so that the progress bar's lock outlives no kill
    if count > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }


if __name__ == "__main__":  # accelerate launch --config_file conf/accelerate/cpu_2.yaml tests/train/ppo_world.py FOLDER
    train_all(Path(sys.argv[1]), rank=int(os.environ.get("RANK", "0")))
