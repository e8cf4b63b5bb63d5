"""Training in bf16 weights over fp32 masters stays within bf16's noise of training in fp32."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from ppo_world import PAD, PROMPTS, SETTINGS, make_trainer, make_transformer_trainer

from bench.forward import last_token_scores, score_head
from bench.models import tiny
from bench.models.config import ModelConfig
from bench.models.loading import RewardModel, load_policy, new_reward_model, save_policy, to_bf16_weights
from bench.records import Demonstration, PreferencePair
from bench.special_tokens import pad_id
from bench.train import dpo, reward, sft
from bench.train.ppo_models import ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PAIRS = [
    PreferencePair("a", "POST: the cat sat on the warm mat. TL;DR:", "the cat slept.", "a dog"),
    PreferencePair("b", "POST: a dog ran after the ball. TL;DR:", "the dog lost the ball", "the dog ran in the river"),
    PreferencePair("c", "TL;DR:", "cake", "no cake for my friend at the party"),
    PreferencePair("d", "POST: my friend forgot the sugar. TL;DR:", "no sugar", "sugar"),
]
BATCH: dict[str, Any] = dict(learning_rate=1e-3, batch_size=4, micro_batch_size=2, schedule="constant")


def trained(method: str, bf16: bool, make_policy, make_classifier, tokenizer, scratch: Path):
    """(the trained network, its losses) after 4 steps."""
    context = a_context(scratch / str(bf16), method, bf16=bf16)
    if method == "sft":
        model = make_policy()
        rows = [Demonstration(p.id, p.prompt, p.chosen) for p in PAIRS]
        log = sft.train_sft(model, tokenizer, rows, SFTSettings(**BATCH), context, epochs=4)
    elif method == "reward":
        model = make_classifier()
        log = reward.train_reward_model(model, tokenizer, PAIRS, RewardSettings(**BATCH), context, epochs=4)
    else:
        save_policy(make_policy(), tokenizer, scratch / "sft")
        ref = None if bf16 else dpo.pair_logps(load_policy(scratch / "sft", CPU), tokenizer, PAIRS, 4)
        model, log = dpo.train_dpo(scratch / "sft", tokenizer, PAIRS, ref, DPOSettings(**BATCH), context, epochs=4)
    return model, [row["loss"] for row in log]


def flat(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("value_model", ["separate", "shared"])
def test_ppo_learns_the_same_from_the_same_rollouts(value_model):
    settings: dict[str, Any] = dict(
        value_model=value_model, ppo_epochs=4, learning_rate=1e-3, num_mini_batches=2, micro_batch_size=2
    )
    full, low = (make_transformer_trainer(bf16=bf16, **settings) for bf16 in (False, True))
    start = {name: flat(network) for name, network in full.models.trained.items()}
    experience = full.collect(PROMPTS)
    found = [trainer.update(experience) for trainer in (full, low)]
    low.learner.restore()

    for key in ("policy_loss", "value_loss", "entropy"):
        assert found[1][key] != found[0][key]  # bf16 was at work
        assert found[1][key] == pytest.approx(found[0][key], rel=0.05, abs=0.05)
    for name, network in low.models.trained.items():
        moved, expected = flat(network) - start[name], flat(full.models.trained[name]) - start[name]
        assert flat(network).dtype is torch.float32
        assert torch.cosine_similarity(moved, expected, dim=0) > 0.9, name


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_losses_and_weights_stay_close(method, make_policy, make_classifier, tokenizer, tmp_path):
    arguments = (make_policy, make_classifier, tokenizer, tmp_path)
    low, low_losses = trained(method, True, *arguments)
    full, full_losses = trained(method, False, *arguments)

    assert low_losses != full_losses  # bf16 was at work
    assert low_losses == pytest.approx(full_losses, rel=0.05, abs=0.05)
    assert full_losses[-1] < full_losses[0] - 0.05  # and so was the training
    for found, wanted in zip(low.parameters(), full.parameters(), strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).abs().mean() < 1e-3  # 4 steps of AdamW move each weight by up to 4e-3
    assert not torch.equal(next(low.parameters()), next(low.parameters()).bfloat16().float())  # the masters are kept


def test_dpos_first_loss_is_that_of_a_policy_that_is_its_reference(make_policy, tokenizer, tmp_path):
    """log 2, however the pairs are packed; with the reference in other packings it would not be."""
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    pairs = [replace(pair, chosen=f"{pair.chosen} {text.chosen}") for pair in PAIRS for text in PAIRS]  # long ones
    settings = DPOSettings(**{**BATCH, "batch_size": 16, "micro_batch_size": 4}, beta=1.0)
    assert not dpo.needs_ref_logps(bf16=True) and dpo.needs_ref_logps(bf16=False)
    found = []
    for ref_logps in (None, dpo.pair_logps(load_policy(tmp_path / "sft", CPU, torch.bfloat16), tokenizer, pairs, 16)):
        context = a_context(tmp_path / str(len(found)), "dpo", bf16=True)
        _, rows = dpo.train_dpo(tmp_path / "sft", tokenizer, pairs, ref_logps, settings, context, epochs=1)
        found.append(rows[0])

    beside, before = found
    assert beside["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert beside["rewards/chosen"] == beside["rewards/rejected"] == 0
    assert abs(before["loss"] - math.log(2)) > 1e-3


@pytest.mark.parametrize(("num_mini_batches", "ppo_epochs"), [(1, 2), (2, 1)])
def test_ppos_ratio_is_1_until_a_step_is_taken(tokenizer, tmp_path, num_mini_batches, ppo_epochs):
    """approx_kl and the largest ratio where nothing moves: rounding alone, of a model wide enough to show it."""
    shape = ModelConfig(hidden_size=256, layers=4, heads=2, vocabulary=300, max_positions=128)
    policy, ref_policy = tiny.build(shape, tokenizer, seed=0), tiny.build(shape, tokenizer, seed=0)
    generator = torch.Generator().manual_seed(0)
    for ours, theirs in zip(policy.parameters(), ref_policy.parameters(), strict=True):
        ours.data += 0.1 * torch.randn(ours.shape, generator=generator)  # or attention would hardly matter
        theirs.data = ours.data.bfloat16()
    save_policy(policy, tokenizer, tmp_path)
    value, scorer = (new_reward_model(tmp_path, pad_id(tokenizer), 0, CPU) for _ in range(2))
    passes: dict[str, Any] = dict(num_mini_batches=num_mini_batches, ppo_epochs=ppo_epochs)
    settings: dict[str, Any] = dict(learning_rate=1e-12, batch_size=16, missing_eos_score=None, **passes)
    models = ppo_models(policy, ref_policy, RewardModel(scorer), value, PPOSettings(**{**SETTINGS, **settings}), 0)
    trainer = make_trainer(models=models, episodes=16, max_new_tokens=16, bf16=True, **settings)
    # Of rows of one length, some attend among longer ones: which is a matter of their order.
    prompts = [torch.randint(PAD + 2, 300, (4 if i < 9 else 44,), generator=generator) for i in range(16)]
    experience = trainer.collect([PromptIds(str(i), ids.tolist()) for i, ids in enumerate(prompts)])
    assert (experience.kl == 0).all()  # the reference is the policy, in the same rows

    found = trainer.update(experience)
    assert found["policy_grad_norm"] > 0 and found["optimizer_steps"] == num_mini_batches * ppo_epochs
    assert found["approx_kl"] == pytest.approx(0, abs=1e-9)  # 3e-6 in other groups; 6e-4 of SmolLM2-135M
    assert found["ratio_max"] == pytest.approx(1, abs=1e-5)


def test_scores_of_bf16_networks_are_not_rounded(make_classifier):
    """They are the products of bf16 numbers, summed up in fp32; bf16 would hold 8 bits of them."""
    network = make_classifier()
    to_bf16_weights(network)
    ids = torch.tensor([[5, 9, 14, 20, 7], [33, 8, 2, 77, 9]])
    lengths = torch.tensor([5, 4])
    with torch.no_grad():
        found = last_token_scores(network, ids, lengths)
        states = network.base_model(input_ids=ids).last_hidden_state[[0, 1], lengths - 1]
    expected = (states.double() * score_head(network).weight.double()).sum(1)  # pyright: ignore[reportOperatorIssue]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    assert (expected - expected.bfloat16().double()).abs().max() > 1e-3
