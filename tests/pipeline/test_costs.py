"""What a run says it cost, and where its time went."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.config import RunConfig
from bench.cost import CostConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json
from bench.pipeline.runner import run


def cost_of(folder: Path) -> dict[str, Any]:
    return read_json(folder / "metrics.json")["cost"]


def stages_wall(cost: dict[str, Any]) -> float:
    return sum(stage["wall_s"] for stage in cost["stages"].values())


@pytest.mark.slow
def test_the_parts_of_a_run_are_the_run(make_config: Callable[..., RunConfig]):
    """Stages, evaluator and the rest add up to the time that passed; a run out of the cache did not spend it again."""
    config = make_config(arms=("sft",), judge=JudgeConfig(names=("gold",)))
    start = time.perf_counter()
    first = cost_of(run(config, "the command"))
    passed = time.perf_counter() - start
    again = cost_of(run(make_config(arms=config.arms, judge=config.judge, run_id="again"), "the command"))

    for cost, stages in ((first, stages_wall(first)), (again, 0.0)):
        parts = stages + cost["evaluation"]["wall_s"] + cost["other"]["wall_s"]
        assert parts == pytest.approx(cost["run_wall_s"])
        assert cost["other"]["wall_s"] >= 0
    assert 0.8 * passed <= first["run_wall_s"] <= passed
    assert again["stages"] == first["stages"]


def test_every_cost_of_the_finished_run(finished: tuple[RunConfig, Path]):
    metrics = read_json(finished[1] / "metrics.json")
    cost, arms = metrics["cost"], metrics["arms"]

    assert cost["flops"] == sum(stage["flops"] for stage in cost["stages"].values()) > 0
    for name, stage in cost["stages"].items():
        assert stage["flops"] > 0, name  # the base model is probed
        assert stage["cpu_s"] >= 0 and (stage["other_load"] is None or 0 <= stage["other_load"] <= 1)
        assert name == "base" or 0 < stage["mfu"] < 1.5
    # A tiny stage may take less than the hundredth of a second in which the system counts.
    assert cost["cpu_s"] == pytest.approx(sum(stage["cpu_s"] for stage in cost["stages"].values()))
    assert cost["cpu_s"] > 0
    assert cost["evaluation"]["flops"] > 0  # the reward model's scores
    assert arms["ppo"]["cost"]["flops"] == sum(cost["stages"][name]["flops"] for name in ("reward", "ppo"))
    assert [entry["accelerator"] for entry in cost["projected"]] == list(CostConfig().project_to)
    assert arms["base"]["cost"]["stages"] == {}
    assert cost["judge"] == {"judges": {}}  # neither built-in judge is asked over a network
