"""Samples in training, through whole runs: no arm's weights or cost know of them, and every arm has the same posts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config import RunConfig
from bench.errors import ConfigError
from bench.files import read_json, read_jsonl
from bench.models.loading import same_weights
from bench.pipeline.runner import run
from bench.stages.context import IN_TRAINING
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.samples import SamplesSettings

ARMS = ("ppo", "dpo")


def stage(config: RunConfig, folder: Path, name: str) -> Path:
    key = read_json(folder / "run.json")["stages"][name]["key"]
    return Path(config.results_dir) / ".cache" / "stages" / f"{name}-{key}"


@pytest.fixture(scope="module")
def watched(finished: tuple[RunConfig, Path]) -> tuple[RunConfig, Path]:
    """The finished run's folder with another beside it, whose trainers sample on the way."""
    config = replace(finished[0], samples_in_training=SamplesSettings(points=2, prompts=3))
    return config, run(config, "the command")


def test_the_weights_are_the_same(finished: tuple[RunConfig, Path], watched: tuple[RunConfig, Path]):
    for arm in ARMS:
        plain, sampled = stage(*finished, arm), stage(*watched, arm)
        assert plain != sampled  # another key
        assert same_weights(plain, sampled)
        assert (sampled / IN_TRAINING).exists() and not (plain / IN_TRAINING).exists()
    assert stage(*finished, "reward") == stage(*watched, "reward")  # what is not watched is not made again


def test_every_arm_has_the_same_posts_and_starts_from_the_same_samples(watched: tuple[RunConfig, Path]):
    ppo, dpo = (read_jsonl(stage(*watched, arm) / IN_TRAINING) for arm in ARMS)

    assert {row["step"] for row in ppo} == {0, 1} and {row["step"] for row in dpo} == {0, 1, 2}
    for rows in (ppo, dpo):
        by_step: dict[int, list[Any]] = {}
        for row in rows:
            by_step.setdefault(row["step"], []).append(row["prompt_id"])
        assert len({tuple(ids) for ids in by_step.values()}) == 1 and len(by_step[0]) == 3
    tested = {row["prompt_id"] for row in read_jsonl(watched[1] / "prompts.jsonl")}
    assert not tested & {row["prompt_id"] for row in ppo}
    before = [[(row["prompt_id"], row["completion"]) for row in rows if row["step"] == 0] for rows in (ppo, dpo)]
    assert before[0] == before[1]


def test_what_they_cost_stands_apart(finished: tuple[RunConfig, Path], watched: tuple[RunConfig, Path]):
    plain, sampled = (read_json(folder / "metrics.json") for _, folder in (finished, watched))

    for arm in ARMS:
        without, cost = (metrics["arms"][arm]["cost"] for metrics in (plain, sampled))
        assert cost["flops"] == without["flops"]  # to the last one
        assert without["apart_flops"] == without["apart_wall_s"] == 0
        assert cost["apart_flops"] > 0 and cost["apart_wall_s"] > 0
        assert cost["apart_device_hours"] == pytest.approx(cost["apart_wall_s"] / 3600)
    assert sampled["cost"]["other"]["wall_s"] >= 0


@pytest.mark.long
def test_costs_measured_again_are_those_of_the_training_alone(watched: tuple[RunConfig, Path], monkeypatch):
    monkeypatch.setattr("bench.train.samples.Samples.take", lambda *_: pytest.fail("it was sampled"))

    assert run(replace(watched[0], remeasure=True), "the command") == watched[1]


def test_sharded_weights_are_refused(make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    with pytest.raises(ConfigError, match="samples_in_training: needs whole weights"):
        run(make_config(samples_in_training=SamplesSettings(points=2)), "the command")
    with pytest.raises(ConfigError, match=r"dpo\.lora_4bit"):
        run(make_config(dpo=DPOSettings(lora_rank=4, lora_4bit=True)), "the command")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match=r"dpo\.lora_rank: of TRL's trainers SFT"):
        run(make_config(dpo=DPOSettings(lora_rank=4)), "the command")


def test_what_they_are_worth_is_in_the_metrics(watched: tuple[RunConfig, Path]):
    """Means by hand, over the rows that the run leaves."""
    metrics = read_json(watched[1] / "metrics.json")["in_training"]
    assert set(metrics) == {*ARMS}
    rows = read_jsonl(watched[1] / "in_training" / "dpo.jsonl")
    at = {step: [row for row in rows if row["step"] == step] for step in (0, 1, 2)}
    for point in metrics["dpo"]["points"]:
        of_step = at[point["step"]]

        def mean(values: list[float]) -> Any:
            return pytest.approx(sum(values) / 3, abs=1e-9)

        assert point["kl_ref"]["value"] == mean([row["kl"] for row in of_step])
        assert point["length_tokens"]["value"] == mean([row["n_tokens"] for row in of_step])
        for kind in ("proxy", "gold"):
            gains = [row["reward"][kind] - before["reward"][kind] for row, before in zip(of_step, at[0], strict=True)]
            assert point["gain"][kind]["value"] == mean(gains)
            assert point["reward"][kind]["value"] == mean([row["reward"][kind] for row in of_step])
        assert point["win_rate"]["gold"]["value"] == mean([row["points"]["gold"] for row in of_step])
    assert metrics["dpo"]["fits"]["gold"]["reason"].endswith("a fit needs 4")
    # DPO's run has no reward model of its own: the proxy is the run's, asked afterwards.
    assert "reward" not in read_json(stage(*watched, "dpo") / "stage.json")["inputs"]["inputs"]
