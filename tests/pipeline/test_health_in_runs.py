"""A stage that collapses is a result of the run: recorded, said, and evaluated like any other."""

import math
from collections.abc import Callable

import pytest

from bench.config import BudgetConfig, RunConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, read_jsonl
from bench.pipeline.runner import run
from bench.train import ppo_update
from bench.train.health.record import health_record
from bench.train.health.settings import HealthSettings
from bench.train.settings.samples import SamplesSettings


@pytest.mark.long
@pytest.mark.slow
def test_a_run_goes_on_behind_a_collapsed_stage(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    calls, loss = [], ppo_update.ppo_value_loss

    def poisoned(*arguments):
        calls.append(1)
        return loss(*arguments) * (math.inf if len(calls) == 2 else 1)

    monkeypatch.setattr(ppo_update, "ppo_value_loss", poisoned)
    config = make_config(
        arms=("sft", "ppo"),
        judge=JudgeConfig(names=("gold",)),
        budget=BudgetConfig(max_prompt_tokens=256, max_completion_tokens=8, ppo_episodes=16),  # of four updates
        samples_in_training=SamplesSettings(points=2, prompts=2, keep_best="gold"),  # after two and four
    )
    folder = run(config, "the command")

    metrics, rows = read_json(folder / "metrics.json"), read_jsonl(folder / "training" / "ppo.jsonl")
    assert len(rows) == 2 and set(metrics["health"]) == {"sft", "reward", "ppo"}
    record = metrics["health"]["ppo"]
    assert (record["collapsed"], record["step"]) == (True, 2) and record == health_record("ppo", rows, HealthSettings())
    assert math.isfinite(metrics["arms"]["ppo"]["reward"]["gold"]["value"])  # the last good policy, evaluated
    assert metrics["arms"]["ppo"]["checkpoint"]["step"] is None  # it came to none of them
    said = capsys.readouterr().err.count(f"ppo, step 2: collapse: {record['why']}; try: ")
    assert said == 2  # when it happened, and at the end
