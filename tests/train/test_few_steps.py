"""A stage moves its parameters however few its steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from ppo_world import PROMPTS, make_transformer_trainer

from bench.models.loading import RewardModel, load_policy, save_policy
from bench.records import Demonstration, PreferencePair
from bench.train.context import RolloutBudget
from bench.train.dpo import pair_logps, train_dpo
from bench.train.log import TrainingLog
from bench.train.reward import train_reward_model
from bench.train.rloo import train_rloo
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

pytestmark = pytest.mark.slow

PAIRS = [
    PreferencePair("a", "POST: the cat sat on the warm mat. TL;DR:", "the cat slept.", "a dog"),
    PreferencePair("b", "POST: a dog ran after the ball. TL;DR:", "the dog lost the ball", "the dog ran in the river"),
    PreferencePair("c", "TL;DR:", "cake", "no cake for my friend at the party"),
    PreferencePair("d", "POST: my friend forgot the sugar. TL;DR:", "no sugar", "sugar"),
]
LONG: dict[str, Any] = dict(learning_rate=1e-3, batch_size=4, micro_batch_size=4, schedule="cosine", warmup_steps=50)
"""The warm-up of the built-in SFT, whose stage has 1,500 steps."""
CPU = torch.device("cpu")
Stage = Callable[[int], tuple[list[torch.Tensor], list[torch.Tensor], TrainingLog]]


@pytest.fixture(params=["sft", "reward", "dpo", "ppo", "rloo", "sft bf16", "dpo bf16", "ppo bf16"])
def stage(request, make_policy, make_classifier, tokenizer, tmp_path: Path) -> Stage:
    """stage(steps): its parameters before and after, and its log."""
    method, _, bf16 = request.param.partition(" ")
    context = a_context(tmp_path / "run", method, bf16=bool(bf16))
    save_policy(make_policy(), tokenizer, tmp_path / "sft")

    def train(steps: int) -> tuple[torch.nn.Module, torch.nn.Module, TrainingLog]:
        if method == "sft":
            model, before = make_policy(), make_policy()
            rows = [Demonstration(p.id, p.prompt, p.chosen) for p in PAIRS]
            return before, model, train_sft(model, tokenizer, rows, SFTSettings(**LONG), context, epochs=steps)
        if method == "reward":
            model, before = make_classifier(), make_classifier()
            settings = RewardSettings(**LONG)
            return before, model, train_reward_model(model, tokenizer, PAIRS, settings, context, epochs=steps)
        before = load_policy(tmp_path / "sft", CPU)
        if method == "dpo":
            ref_logps = None if bf16 else pair_logps(before, tokenizer, PAIRS, 4)
            settings = DPOSettings(**LONG)
            return before, *train_dpo(tmp_path / "sft", tokenizer, PAIRS, ref_logps, settings, context, epochs=steps)
        return before, *train_rloo(
            tmp_path / "sft",
            RewardModel(make_classifier(seed=1)),
            tokenizer,
            [pair.prompt for pair in PAIRS],
            RLOOSettings(**LONG, num_generations=2, missing_eos_score=None),
            RolloutBudget(0.7, episodes=4 * steps, max_new_tokens=6),
            context,
        )

    def ppo(steps: int) -> tuple[list[torch.Tensor], list[torch.Tensor], TrainingLog]:
        trainer = make_transformer_trainer(episodes=4 * steps, bf16=bool(bf16), **LONG)
        optimizers = trainer.learner.optimizers.values()
        weights = [w for o in optimizers for group in getattr(o, "inner", o).param_groups for w in group["params"]]
        before = [weight.detach().clone() for weight in weights]
        log = trainer.train(PROMPTS)
        return before, weights, log

    def other(steps: int) -> tuple[list[torch.Tensor], list[torch.Tensor], TrainingLog]:
        before, after, log = train(steps)
        return list(before.parameters()), list(after.parameters()), log

    return ppo if method == "ppo" else other


@pytest.mark.parametrize("steps", [1, 2])
def test_a_stage_of_few_steps_moves_every_parameter(stage: Stage, steps: int):
    before, after, log = stage(steps)

    assert len(log) == steps
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
