"""Runs made sick on purpose, with the real trainers: each check fires, NaN never reaches the weights."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from ppo_world import EOS, PROMPTS, ScoreByToken, make_trainer, small_policy
from trl import RLOOTrainer, SFTTrainer

from bench.models.loading import RewardModel, load_policy, save_policy
from bench.records import Demonstration, PreferencePair, one_by_one
from bench.train import dpo, ppo_update, reward
from bench.train import ppo as ppo_module
from bench.train.context import RolloutBudget, TrainingContext
from bench.train.dpo import pair_logps, train_dpo
from bench.train.health.record import health_record
from bench.train.health.settings import HealthSettings
from bench.train.ppo_models import PPOModels
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
DEMONSTRATIONS = [Demonstration(p.id, p.prompt, p.chosen) for p in PAIRS]
BATCH: dict[str, Any] = dict(learning_rate=1e-3, batch_size=4, micro_batch_size=4, schedule="constant")
SOON = HealthSettings(window=4, updates=2, patience=10, unexplained_updates=3)
"""The thresholds as they are, over fewer steps."""
CPU = torch.device("cpu")


class Room:
    """One tiny SFT model and the four TRL trainers on it."""

    def __init__(self, policy, classifier, tokenizer, folder: Path) -> None:
        self.classifier, self.tokenizer, self.sft_folder = classifier, tokenizer, folder / "sft"
        self.scratch, self.runs = folder, 0
        save_policy(policy, tokenizer, self.sft_folder)

    def context(self, stage: str, **more: Any) -> TrainingContext:
        self.runs += 1
        return a_context(self.scratch / f"run{self.runs}", stage, health=SOON, **more)

    def sft(self, steps: int, **settings: Any):
        model = load_policy(self.sft_folder, CPU)
        of_sft = SFTSettings(**{**BATCH, **settings})
        return model, train_sft(model, self.tokenizer, DEMONSTRATIONS, of_sft, self.context("sft"), epochs=steps)

    def reward(self, steps: int, pairs=PAIRS, **settings: Any):
        model = copy.deepcopy(self.classifier)
        return model, train_reward_model(
            model,
            self.tokenizer,
            pairs,
            RewardSettings(**{**BATCH, **settings}),
            self.context("reward"),
            epochs=steps,
        )

    def dpo(self, steps: int, pairs=PAIRS, **settings: Any):
        logps = pair_logps(load_policy(self.sft_folder, CPU), self.tokenizer, pairs, batch_size=4)
        return train_dpo(
            self.sft_folder,
            self.tokenizer,
            pairs,
            logps,
            DPOSettings(**{**BATCH, "beta": 0.3, **settings}),
            self.context("dpo"),
            epochs=steps,
        )

    def rloo(self, steps: int, max_new_tokens: int = 6, **settings: Any):
        own = {"num_generations": 2, "beta": 0.05, "missing_eos_score": None}
        return train_rloo(
            self.sft_folder,
            RewardModel(self.classifier),
            self.tokenizer,
            [p.prompt for p in PAIRS],
            RLOOSettings(**{**BATCH, **own, **settings}),
            RolloutBudget(1.0, episodes=4 * steps, max_new_tokens=max_new_tokens),
            self.context("rloo"),
        )


@pytest.fixture
def room(make_policy, make_classifier, tokenizer, tmp_path) -> Room:
    return Room(make_policy(), make_classifier(), tokenizer, tmp_path)


def found(stage: str, rows: list[dict[str, Any]], settings: HealthSettings = SOON) -> dict[str, Any]:
    return {finding["check"]: finding for finding in health_record(stage, rows, settings)["findings"]}


def poison(monkeypatch: pytest.MonkeyPatch, trainer: Any, at: int, factor: float = math.inf) -> None:
    """From its `at`-th call on, the trainer's loss, and so its gradient, is multiplied."""
    calls, compute = [], trainer.compute_loss

    def poisoned(*arguments: Any, **options: Any):
        calls.append(1)
        result = compute(*arguments, **options)
        return result * factor if len(calls) >= at else result

    monkeypatch.setattr(trainer, "compute_loss", poisoned)


@pytest.mark.parametrize(
    ("stage", "trainer"),
    [
        ("sft", SFTTrainer),
        pytest.param("reward", reward._Trainer, marks=pytest.mark.long),  # which ends as DPO's does
        ("dpo", dpo._Trainer),
        ("rloo", RLOOTrainer),
    ],
)
def test_a_gradient_that_is_not_finite_ends_the_run_before_its_step(
    room: Room, stage: str, trainer: type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Poisoned at step 3, the weights are those of a run of 2 steps, to the last bit."""
    train = getattr(room, stage)
    expected, healthy = train(2)
    poison(monkeypatch, trainer, at=3)
    capsys.readouterr()
    model, rows = train(6)

    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["loss"] for row in rows[:2]] == [row["loss"] for row in healthy]
    assert rows[2]["loss"] is None and rows[2]["grad_norm"] is None
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other) and torch.isfinite(one).all()
    record = health_record(stage, rows, SOON)
    assert record["collapsed"] and record["step"] == 3 and "not a finite number" in record["why"]
    assert capsys.readouterr().err.count(f"{stage}, step 3: collapse: ") == 1


def test_ppo_ends_before_the_step_on_a_gradient_that_is_not_finite(monkeypatch: pytest.MonkeyPatch):
    """The value model's, poisoned in the second of two minibatches of update 2: its first three steps stay."""
    settings: dict[str, Any] = dict(episodes=32, batch_size=8, num_mini_batches=2, max_new_tokens=3)
    expected, trainer = make_trainer(**settings), make_trainer(**settings)
    steps: list[int] = []
    states: list[dict[str, torch.Tensor]] = []
    value_states: list[dict[str, torch.Tensor]] = []
    for name in ("policy", "value"):
        expected.learner.optimizers[name].register_step_post_hook(lambda *_: steps.append(1))
    expected.learner.optimizers["policy"].register_step_post_hook(
        lambda *_: states.append(copy.deepcopy(expected.models.policy.state_dict()))
    )
    expected.learner.optimizers["value"].register_step_post_hook(
        lambda *_: value_states.append(copy.deepcopy(expected.models.value.state_dict()))
    )
    expected.train(PROMPTS)
    assert len(steps) == 16

    calls, loss = [], ppo_update.ppo_value_loss

    def poisoned(*arguments: Any):
        calls.append(1)
        return loss(*arguments) * (math.inf if len(calls) == 4 else 1)

    monkeypatch.setattr(ppo_update, "ppo_value_loss", poisoned)
    rows = trainer.train(PROMPTS)

    assert len(rows) == 2 and rows[1]["value_grad_norm"] is None and rows[0]["value_grad_norm"] is not None
    for name, parameter in trainer.models.policy.state_dict().items():
        assert torch.equal(parameter, states[3][name])  # the policy's gradient was sound, and it steps first
    for name, parameter in trainer.models.value.state_dict().items():
        assert torch.equal(parameter, value_states[2][name])
    record = health_record("ppo", rows, SOON)
    assert (record["collapsed"], record["step"]) == (True, 2)


def test_ppo_that_was_stopped_leaves_no_checkpoint_of_the_update_it_did_not_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same command again meets the same gradient, instead of going on behind it."""
    loss = ppo_update.ppo_value_loss
    calls: list[int] = []

    def poisoned(*arguments: Any):
        calls.append(1)
        return loss(*arguments) * (math.inf if len(calls) >= 2 else 1)

    monkeypatch.setattr(ppo_update, "ppo_value_loss", poisoned)
    settings: dict[str, Any] = dict(episodes=16, max_new_tokens=3, scratch=tmp_path, checkpoint_every_s=0.0)
    first = make_trainer(**settings).train(PROMPTS)
    again = make_trainer(**settings).train(PROMPTS)

    assert [row["step"] for row in first] == [row["step"] for row in again] == [1, 2]
    assert again[1]["value_grad_norm"] is None


def test_a_stopped_trainer_leaves_no_checkpoint_of_the_step_it_did_not_take(room, monkeypatch):
    poison(monkeypatch, SFTTrainer, at=3)
    train_sft(
        load_policy(room.sft_folder, CPU),
        room.tokenizer,
        DEMONSTRATIONS,
        SFTSettings(**BATCH),
        room.context("sft", checkpoint_every_s=0.0),
        epochs=6,
    )
    names = {path.name for path in (room.scratch / f"run{room.runs}").glob("checkpoint-*")}
    assert names == {"checkpoint-1", "checkpoint-2"}


Sick = tuple[str, Callable[[Room], Any], set[str]]
NO_DIFFERENCE = [PreferencePair(p.id, p.prompt, p.chosen, p.rejected) for p in PAIRS] + [
    PreferencePair(f"{p.id}'", p.prompt, p.rejected, p.chosen) for p in PAIRS
]
"""Every pair comes both ways round, in one batch: there is nothing to learn."""
HALF: dict[str, Any] = dict(batch_size=8, micro_batch_size=8)
SICK: dict[str, Sick] = {
    "SFT that hardly steps": ("sft", lambda r: r.sft(20, learning_rate=1e-12), {"loss_not_falling"}),
    "SFT that steps too far": (
        "sft",
        lambda r: r.sft(18, learning_rate=30.0, warmup_steps=300, schedule="constant_with_warmup", max_grad_norm=1e9),
        {"loss_rising"},
    ),
    "a reward model of pairs that contradict each other": (
        "reward",
        lambda r: r.reward(14, NO_DIFFERENCE, **HALF),
        {"accuracy_stuck"},
    ),
    "a reward model that steps too far": (
        "reward",
        lambda r: r.reward(14, NO_DIFFERENCE, learning_rate=3.0, **HALF),
        {"loss_above_start"},
    ),
    "DPO of pairs that contradict each other": ("dpo", lambda r: r.dpo(12, NO_DIFFERENCE, **HALF), {"accuracy_stuck"}),
    "DPO that steps too far": (
        "dpo",
        lambda r: r.dpo(14, NO_DIFFERENCE, learning_rate=1.0, **HALF),
        {"loss_above_start", "both_logps_falling"},
    ),
    "DPO of four pairs, over and over": ("dpo", lambda r: r.dpo(16, learning_rate=1e-2), {"memorised"}),
}


@pytest.mark.parametrize("case", SICK)
def test_a_sick_trainer_says_so(room: Room, case: str, capsys: pytest.CaptureFixture[str]):
    stage, train, expected = SICK[case]
    _, rows = train(room)
    checks = found(stage, rows)
    printed = capsys.readouterr().err
    assert expected <= set(checks)
    for finding in checks.values():  # said when it was found, and once
        assert (
            printed.count(f"{stage}, step {finding['step']}: {finding['severity']}: {finding['message']}; try: ") == 1
        )


def test_a_batch_unlike_the_others_is_a_spike(room: Room, monkeypatch: pytest.MonkeyPatch):
    poison(monkeypatch, dpo._Trainer, at=12, factor=100)
    _, rows = room.dpo(12)

    (spike,) = [finding for name, finding in found("dpo", rows).items() if name == "grad_spike"]
    assert spike["step"] == 12 and spike["value"] > 10


def test_rloo_on_a_constant_reward_and_too_few_tokens_says_so(room: Room):
    torch.nn.init.zeros_(room.classifier.score.weight)
    _, rows = room.rloo(3, max_new_tokens=1)

    checks = found("rloo", rows)
    assert checks["score_constant"]["value"] == 0
    assert checks["eos_rate"]["value"] < 0.5


def test_rloo_that_steps_too_far_leaves_the_sft_model(room: Room):
    """The KL that TRL logs per token is counted per completion."""
    _, rows = room.rloo(6, learning_rate=1.0)

    kl = [(row["kl"] or 0.0) * (row["completions/mean_length"] or 0.0) for row in rows]
    checks = found("rloo", rows, replace(SOON, kl_collapse=10.0))
    runaway = checks["kl_runaway"]
    assert (
        runaway["value"] == pytest.approx(sum(kl[runaway["step"] - 2 : runaway["step"]]) / 2) and runaway["value"] > 10
    )
    assert checks["entropy_collapse"]["value"] < 0.2


def ppo_models(scores: list[float], value: list[float] | None = None) -> PPOModels:
    """A policy of eight tokens and a reward model with one score for each; its value model has others if given."""
    return PPOModels(
        policy=small_policy(),
        ref_policy=small_policy(),
        reward=RewardModel(ScoreByToken(scores)),
        value=ScoreByToken(value or scores),
    )


EIGHT = [0.0] * 8
FEW: dict[str, Any] = dict(batch_size=32, micro_batch_size=32, missing_eos_score=None, beta=0.0)


def ppo(updates: int, scores: list[float], gold=None, value=None, **settings: Any) -> list[dict[str, Any]]:
    trainer = make_trainer(
        models=ppo_models(scores, value=value), episodes=32 * updates, temperature=1.0, **{**FEW, **settings}
    )
    return trainer.train(PROMPTS, gold)


def only(token: int, score: float = 3.0) -> list[float]:
    return [score if i == token else 0.0 for i in range(8)]


PPO_CASES: dict[str, tuple[Callable[[], list[dict[str, Any]]], set[str]]] = {
    "far too large steps": (
        lambda: ppo(6, only(5), learning_rate=0.3, ppo_epochs=6, max_new_tokens=16),
        {"ratio_spike", "approx_kl", "entropy_collapse", "kl_runaway"},
    ),
    "a reward for ending": (lambda: ppo(12, only(EOS), learning_rate=0.05, max_new_tokens=20), {"length_collapse"}),
    "a reward for not ending": (
        lambda: ppo(12, only(EOS, -3.0), learning_rate=0.05, max_new_tokens=20),
        {"length_explosion", "finished_falls", "eos_rate"},
    ),
    "a constant reward": (lambda: ppo(3, EIGHT), {"score_constant"}),
    "values that know nothing and do not learn": (
        lambda: ppo(4, only(5), value=[9.0, -9.0] * 4, learning_rate=1e-6),
        {"value_unexplained"},
    ),
}


@pytest.mark.parametrize("case", PPO_CASES)
def test_sick_ppo_says_so(case: str):
    train, expected = PPO_CASES[case]
    assert expected <= set(found("ppo", train(), replace(SOON, kl_collapse=10.0)))


def test_samples_that_are_not_the_policys_have_a_negative_kl(monkeypatch: pytest.MonkeyPatch):
    """A sampler with old weights: E_old[log policy - log old] = -KL(old || policy)."""
    trainer = make_trainer(models=ppo_models(only(5)), episodes=128, temperature=1.0, **FEW)
    trainer.models.policy.load_state_dict(small_policy(seed=1).state_dict())
    stale = make_trainer(models=ppo_models(only(5)), episodes=128, temperature=1.0, **FEW)
    monkeypatch.setattr(trainer, "roll_out", stale.roll_out)
    checks = found("ppo", trainer.train(PROMPTS))
    assert checks["kl_negative"]["value"] < -0.1


def test_a_reward_model_that_is_exploited_is_found_where_the_truth_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ppo_module, "decode", lambda tokenizer, ids: ids)
    gold = one_by_one(lambda prompt, ids: -float(sum(token == 5 for token in ids)))
    rows = ppo(20, only(5), gold=gold, learning_rate=0.01, max_new_tokens=8)
    assert "overoptimised" in found("ppo", rows)
