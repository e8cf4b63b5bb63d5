"""The arms beside PPO and DPO, in one small run of all of them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_record import stage_folder
from safetensors.torch import load_file

from bench.arms import BY_NAME
from bench.config import RunConfig, check_batches
from bench.errors import ConfigError
from bench.evaluate.best_of_n import BestOfNSettings
from bench.files import read_json, read_jsonl
from bench.models.loading import load_policy, load_tokenizer, same_weights
from bench.pipeline.runner import prepare_data, run
from bench.records import Demonstration
from bench.stages import iterated_dpo
from bench.train.context import TrainingContext
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.iterated_dpo import IteratedDPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.sft import train_sft

N = 4
ARMS = tuple(BY_NAME)


@pytest.fixture(scope="module")
def all_arms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """The smallest run with every arm: its config and its folder."""
    smallest, _ = request.getfixturevalue("finished")
    config = replace(
        smallest,
        name="all",
        arms=ARMS,
        rloo=RLOOSettings(
            batch_size=4, micro_batch_size=2, num_generations=2, learning_rate=1e-2, missing_eos_score=None
        ),
        iterated_dpo=IteratedDPOSettings(rounds=2, samples_per_post=2),
        best_of_n=BestOfNSettings(N),
    )  # in the results folder of `finished`: what that run made is not made again
    return config, run(config, "the command")


def test_every_n_comes_from_one_set_of_samples(all_arms: tuple[RunConfig, Path]):
    config, folder = all_arms
    metrics = read_json(folder / "metrics.json")
    candidates = read_jsonl(stage_folder(config, folder, "best_of_n") / "candidates.jsonl")
    prompts = [row["prompt_id"] for row in read_jsonl(folder / "prompts.jsonl")]
    verdicts = {judge: read_jsonl(folder / "verdicts" / f"{judge}.jsonl") for judge in ("gold", "reward_model")}
    by_n = metrics["best_of_n"]["by_n"]
    points = {"a": 1.0, "tie": 0.5, "b": 0.0}

    assert set(by_n) == {"1", "2", "4"}
    for n in (1, 2, 4):
        best = []
        for prompt in prompts:
            first = [row for row in candidates if row["prompt_id"] == prompt][:n]
            assert len(first) == n
            best.append(sorted(first, key=lambda row: -row["score"])[0])
        assert by_n[str(n)]["reward"]["proxy"]["value"] == pytest.approx(sum(b["score"] for b in best) / 4, abs=1e-4)
        assert by_n[str(n)]["length_tokens"]["value"] == pytest.approx(sum(b["n_tokens"] for b in best) / 4)
        assert by_n[str(n)]["kl_ref"]["value"] == pytest.approx(math.log(n) - (n - 1) / n)
        name = "best_of_n" if n == N else f"best_of_{n}"
        for judge, rows in verdicts.items():
            shown = [r for r in rows if (r["arm_a"], r["arm_b"], r["order"]) == (name, "reference", "ab")]
            assert [row["prompt_id"] for row in shown] == prompts
            won = sum(points[row["verdict"]] for row in shown) / 4
            assert by_n[str(n)]["win_rate"][judge]["value"] == pytest.approx(won)
    rows = read_jsonl(folder / "completions" / "best_of_n.jsonl")
    assert [row["completion"] for row in rows] == [b["completion"] for b in best]
    proxies = [by_n[str(n)]["reward"]["proxy"]["value"] for n in (1, 2, 4)]
    assert proxies == sorted(proxies) and proxies[0] < proxies[-1]


def test_each_arm_pays_for_what_it_needs(all_arms: tuple[RunConfig, Path]):
    metrics = read_json(all_arms[1] / "metrics.json")

    assert {arm: set(metrics["arms"][arm]["cost"]["stages"]) for arm in ARMS} == {
        "base": set(), "sft": {"sft"}, "preferred_ft": {"preferred_ft"}, "best_of_n": {"reward", "best_of_n"},
        "rloo": {"reward", "rloo"}, "iterated_dpo": {"reward", "iterated_dpo"}, "ppo": {"reward", "ppo"},
        "dpo": {"reference_logps", "dpo"},
    }  # fmt: skip
    for arm in ("preferred_ft", "rloo", "iterated_dpo"):
        assert metrics["arms"][arm]["kl_ref"]["value"] > 0
        assert metrics["arms"][arm]["cost"]["stages"][arm]["tokens_trained"] > 0


def test_iterated_dpo_goes_on_from_round_to_round_and_pulls_to_the_sft_model(all_arms: tuple[RunConfig, Path]):
    log = read_jsonl(all_arms[1] / "training" / "iterated_dpo.jsonl")

    assert [row["step"] for row in log] == list(range(1, len(log) + 1))
    first, second = (next(row for row in log if row["round"] == number) for number in (1, 2))
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)  # the policy is the reference
    assert abs(second["rewards/margins"]) > 1e-3  # it started from the first round's policy


def test_preferred_ft_is_sft_on_the_chosen_summaries(all_arms: tuple[RunConfig, Path], tmp_path: Path):
    config, folder = all_arms
    sft = stage_folder(config, folder, "sft")
    data, _, _ = prepare_data(config, tmp_path)
    policy = load_policy(sft, torch.device("cpu"))
    train_sft(
        policy,
        load_tokenizer(sft),
        [Demonstration(pair.id, pair.prompt, pair.chosen) for pair in data.preferences["train"]],
        config.sft,
        TrainingContext("preferred_ft", config.seed, torch.device("cpu"), bf16=False, scratch=tmp_path),
        epochs=config.budget.dpo_epochs,
    )

    found = load_file(stage_folder(config, folder, "preferred_ft") / "model.safetensors")
    expected = dict(policy.named_parameters())
    assert found.keys() <= expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize(("arm", "settings"), [("rloo", RLOOSettings), ("ppo", PPOSettings)])
def test_rollouts_that_do_not_differ(arm: str, settings: type):
    with pytest.raises(ConfigError, match=rf"^{arm}.temperature must be above 0"):
        settings(temperature=0.0)


def test_batches_that_the_processes_cannot_share(make_config: Callable[..., RunConfig]):
    """Of the arms that run, and of no other."""
    config = make_config(dpo=DPOSettings(batch_size=3, micro_batch_size=3))
    with pytest.raises(ConfigError, match=r"^dpo.batch_size must be a multiple of the 2 processes, got 3"):
        check_batches(config, 2)
    config = replace(config, arms=("sft", "ppo"))
    check_batches(config, 2)
    with pytest.raises(ConfigError, match=r"^sft.batch_size must be a multiple of the 3 processes, got 4"):
        check_batches(config, 3)
    with pytest.raises(ConfigError, match=r"^rloo.num_generations x 2 processes must divide"):
        check_batches(make_config(arms=("sft", "rloo"), rloo=RLOOSettings()), 2)


@pytest.mark.long
def test_iterated_dpo_that_was_killed_goes_on_with_its_round(
    all_arms: tuple[RunConfig, Path], make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    """Killed in the second round, behind its samples: neither the first round nor the samples are made again."""
    whole, folder = all_arms
    config = make_config(arms=("sft", "iterated_dpo"), iterated_dpo=whole.iterated_dpo)
    train, sample, calls = iterated_dpo.train_dpo, iterated_dpo.sample_prompts, {"train": 0, "sample": 0}

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls["train"] += 1
        if calls["train"] == 2:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    def sampled(*args: Any, **kwargs: Any) -> Any:
        calls["sample"] += 1
        return sample(*args, **kwargs)

    monkeypatch.setattr(iterated_dpo, "train_dpo", killed)
    monkeypatch.setattr(iterated_dpo, "sample_prompts", sampled)
    with pytest.raises(KeyboardInterrupt):
        run(config, "the command")
    resumed = run(config, "the command")

    assert calls == {"train": 3, "sample": 2}
    same = [stage_folder(*of, "iterated_dpo") for of in ((config, resumed), (whole, folder))]
    assert same_weights(*same)
