"""Samples on the way: the training does not notice them, and a killed run has those of one that was not killed."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context

from bench.errors import ConfigError
from bench.generation import SamplingConfig, sample_all
from bench.models.loading import RewardModel, load_policy, save_policy
from bench.records import EvalPrompt, PreferencePair
from bench.train.context import RolloutBudget
from bench.train.dpo import pair_logps, train_dpo
from bench.train.log import TrainingLog
from bench.train.moments import load_moment
from bench.train.ppo import PPOTrainer
from bench.train.ppo_models import ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.rloo import train_rloo
from bench.train.samples import HeldOut, Samples
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.settings.samples import MOMENTS, SamplesSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")
PAIRS = [
    PreferencePair(str(i), f"POST: the {word}. TL;DR:", f"the {word}.", f"no {word}")
    for i, word in enumerate("cat dog cake party river ball sugar mat".split())
]
PROMPTS = [
    EvalPrompt(f"v{i}", f"POST: the {word} ran. TL;DR:", "it ran") for i, word in enumerate(("cat", "dog", "mat"))
]
BATCH: dict[str, Any] = dict(learning_rate=3e-3, batch_size=4, micro_batch_size=2, schedule="constant")
STEPS, POINTS = 4, 2
Training = Callable[..., tuple[torch.nn.Module, TrainingLog]]


class Killed(Exception):
    """Stands for the process's end."""


def test_points_lie_evenly_over_the_steps_and_before_them():
    assert SamplesSettings(points=4).steps(12) == {0, 3, 6, 9, 12}
    assert SamplesSettings(points=4).steps(2) == {0, 1, 2}  # 0.5 and 1.5 are rounded
    assert SamplesSettings().steps(12) == set()


@pytest.mark.parametrize(
    "setting", [{"points": -1}, {"prompts": 1}, {"temperature": 0.0}, {"points": 1, "keep_best": "gold"}]
)
def test_settings_out_of_range(setting: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"samples_in_training.{next(reversed(setting))}"):
        SamplesSettings(**setting)


@pytest.fixture(params=["ppo", "dpo", "rloo"])
def training(request, make_policy, make_classifier, tokenizer, tmp_path) -> Training:
    """training(scratch, samples, **more of its context): the trained network and its log, after STEPS steps."""
    sft = tmp_path / "sft"
    save_policy(make_policy(), tokenizer, sft)
    reward = RewardModel(make_classifier(seed=1), shift=0.5)
    rollouts = RolloutBudget(0.7, episodes=4 * STEPS, max_new_tokens=6)

    def ppo(context) -> tuple[torch.nn.Module, TrainingLog]:
        settings = PPOSettings(**BATCH, ppo_epochs=1)
        models = ppo_models(
            load_policy(sft, CPU), load_policy(sft, CPU), reward, copy.deepcopy(reward.model), settings, seed=3
        )
        prompts = [PromptIds(pair.id, tokenizer(pair.prompt).input_ids) for pair in PAIRS]
        return models.policy, PPOTrainer(models, tokenizer, settings, rollouts, context).train(prompts)

    def dpo(context) -> tuple[torch.nn.Module, TrainingLog]:
        logps = pair_logps(load_policy(sft, CPU), tokenizer, PAIRS, batch_size=4)
        return train_dpo(sft, tokenizer, PAIRS, logps, DPOSettings(**BATCH), context, epochs=STEPS / 2)

    def rloo(context) -> tuple[torch.nn.Module, TrainingLog]:
        settings = RLOOSettings(**BATCH, num_generations=2, missing_eos_score=None)
        return train_rloo(sft, reward, tokenizer, [p.prompt for p in PAIRS], settings, rollouts, context)

    def train(scratch: Path, samples: Samples | None, **more: Any) -> tuple[torch.nn.Module, TrainingLog]:
        context = a_context(scratch, request.param, samples=samples, **more)
        return {"ppo": ppo, "dpo": dpo, "rloo": rloo}[request.param](context)

    return train


@pytest.fixture
def a_samples(tokenizer, tmp_path) -> Callable[..., Samples]:
    """a_samples(folder): what takes them; with a folder the weights are kept there."""

    def make(folder: Path | None = None) -> Samples:
        settings = SamplesSettings(POINTS, len(PROMPTS))
        held_out = HeldOut(settings, PROMPTS, batch_size=2, max_new_tokens=8, seed=5, keeps=folder is not None)
        where = (tmp_path / "sft", CPU, False, nullcontext, folder or tmp_path)
        return Samples("arm", held_out, tokenizer, *where)

    return make


def test_the_training_does_not_notice(training: Training, a_samples, tmp_path: Path):
    plain, log = training(tmp_path / "plain", None)
    samples = a_samples()
    watched, its_log = training(tmp_path / "watched", samples)

    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, watched.state_dict()[name]), name
    times = {"wall_s", "step_time"}
    assert [{k: v for k, v in row.items() if k not in times} for row in log] == [
        {k: v for k, v in row.items() if k not in times} for row in its_log
    ]
    assert [row["step"] for row in samples.rows] == [step for step in (0, 2, 4) for _ in PROMPTS]
    assert [row["prompt_id"] for row in samples.rows] == ["v0", "v1", "v2"] * 3
    # Before the first step the policy is the SFT model.
    assert [row["kl"] for row in samples.rows[:3]] == pytest.approx([0, 0, 0], abs=1e-5)
    assert all(row["kl"] > 1e-4 for row in samples.rows[6:])


def test_what_was_killed_and_goes_on_has_every_sample_once(training: Training, a_samples, tmp_path: Path):
    expected = a_samples()
    training(tmp_path / "whole", expected)

    def dies(rows: TrainingLog) -> None:
        if len(rows) == 3:
            raise Killed

    with pytest.raises(Killed):
        training(tmp_path / "killed", a_samples(), checkpoint_every_s=0.0, on_rows=dies)
    resumed = a_samples()
    training(tmp_path / "killed", resumed, checkpoint_every_s=0.0)

    assert [(row["step"], row["completion"]) for row in resumed.rows] == [
        (row["step"], row["completion"]) for row in expected.rows
    ]


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_weights_are_kept_as_they_were_sampled_also_by_a_run_that_was_killed(
    training: Training, a_samples, tmp_path: Path, monkeypatch, lora_rank: int
):
    monkeypatch.setitem(BATCH, "lora_rank", lora_rank)
    seen: dict[int, torch.Tensor] = {}
    take = Samples._sample

    def sample(self: Samples, policy: Any) -> Any:
        seen[len(seen)] = states(policy)
        return take(self, policy)

    monkeypatch.setattr(Samples, "_sample", sample)
    training(tmp_path / "whole", a_samples(tmp_path / "whole"))
    before, halfway, after = seen.values()
    kept = {path.name: load_moment(tmp_path / "whole", 2, tmp_path / "sft") for path in _kept(tmp_path / "whole")}
    assert list(kept) == ["step-2"]  # before is the SFT model, and after is what the training leaves
    torch.testing.assert_close(states(kept["step-2"]), halfway, atol=1e-4, rtol=1e-3)
    assert (before - halfway).abs().max() > 1e-3 < (after - halfway).abs().max()
    assert not any("lora" in name for name, _ in kept["step-2"].named_parameters())

    def dies(rows: TrainingLog) -> None:
        if len(rows) == 3:
            raise Killed

    again = tmp_path / "killed"
    with pytest.raises(Killed):
        training(again, a_samples(again), checkpoint_every_s=0.0, on_rows=dies)
    training(again, a_samples(again), checkpoint_every_s=0.0)
    assert [path.name for path in _kept(again)] == ["step-2"]
    torch.testing.assert_close(states(load_moment(again, 2, tmp_path / "sft")), halfway, atol=1e-4, rtol=1e-3)


def _kept(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / MOMENTS).iterdir() if path.name.startswith("step"))


@torch.no_grad()
def states(policy: Any) -> torch.Tensor:
    return policy.base_model(torch.arange(1, 30)[None]).last_hidden_state.clone()


@pytest.mark.parametrize("training", ["ppo", "dpo", "rloo"], indirect=True)
def test_the_log_has_the_seconds_of_the_training_alone(training: Training, a_samples, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Samples, "take", lambda self, step, steps, policy: 1000.0)
    _, log = training(tmp_path / "run", a_samples())

    # 1,000 s behind each step, which the clock did not see pass; what it shows is less by so much.
    times: list[Any] = [row["wall_s"] for row in log]
    assert [round((later - earlier) / 1000) for earlier, later in pairwise(times)] == [-1, -1, -1]


def test_a_sample_leaves_generators_and_mode_as_they_are_and_its_kl_is_that_of_the_distributions(
    a_samples, make_policy, tokenizer, tmp_path: Path
):
    """KL of one completion, slowly: over the whole vocabulary, at the temperature, summed over its tokens."""
    reference, policy = make_policy(seed=0), make_policy(seed=1)
    save_policy(reference, tokenizer, tmp_path / "sft")
    samples, state = a_samples(), torch.get_rng_state()
    policy.train()
    samples.take(1, STEPS, policy)  # not one of the points
    samples.take(2, STEPS, policy)

    assert policy.training and torch.equal(torch.get_rng_state(), state)
    assert len(samples.rows) == len(PROMPTS)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in policy.parameters())
    policy.eval()
    again = a_samples()
    again.take(2, STEPS, policy)
    assert again.rows == samples.rows
    row = samples.rows[0]
    prompt = tokenizer(PROMPTS[0].prompt).input_ids
    ids = _tokens_of(a_samples(), policy)[0]
    assert row["n_tokens"] == len(ids)
    with torch.no_grad():
        logits = [
            m(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] for m in (policy, reference)
        ]
    ours, theirs = ((of_model / 0.7).log_softmax(-1) for of_model in logits)
    assert row["kl"] == pytest.approx(float((ours.exp() * (ours - theirs)).sum()), rel=1e-3)


def _tokens_of(samples: Samples, policy) -> list[list[int]]:
    sampled = sample_all(
        policy,
        samples.tokenizer,
        [samples.tokenizer(prompt.prompt).input_ids for prompt in PROMPTS],
        sampling=SamplingConfig(0.7, 2),
        max_new_tokens=8,
        generator=torch.Generator().manual_seed(5),
    )
    return [ids for ids, _ in sampled]
