"""Costs measured again: which steps the clock takes, and that a finished run stays what it is."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.arms import STAGE_BY_NAME
from bench.config import RunConfig
from bench.errors import ConfigError
from bench.files import read_json
from bench.pipeline import remeasure
from bench.pipeline.remeasure import require_one_process, seconds_per_flop, stages_of
from bench.pipeline.run_folder import config_hash
from bench.pipeline.runner import run

ONES = torch.ones(10, 10)  # times itself: 2,000 FLOPs


class Steps:
    """An engine whose stage takes steps of so many products and so many seconds on a clock of its own."""

    device = torch.device("cpu")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[int, float]], has_log: bool = True) -> None:
        self.steps, self.has_log, self.now, self.taken = steps, has_log, 0.0, 0
        monkeypatch.setattr(remeasure, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def again(self, stage: Any, folder: Path, on_rows: Callable[[list[int]], None]) -> None:
        self.now += 1000.0  # loading
        rows = []
        for products, seconds in self.steps:
            self.now += seconds
            for _ in range(products):
                torch.matmul(ONES, ONES)
            self.taken += 1
            rows.append(self.taken)
            if self.has_log:
                on_rows(rows)


def test_five_steps_behind_two_warm_ones_are_timed(monkeypatch: pytest.MonkeyPatch):
    engine = Steps(monkeypatch, [(1, 90.0), (2, 50.0), *((products, 4.0) for products in (1, 2, 3, 4, 5, 6, 7))])
    rate = seconds_per_flop(engine, STAGE_BY_NAME["dpo"], flops=10**9)  # pyright: ignore[reportArgumentType]

    assert rate == pytest.approx(5 * 4.0 / ((1 + 2 + 3 + 4 + 5) * 2000))
    assert engine.taken == 7  # and no step more


def test_a_short_stage_is_timed_from_what_it_has(monkeypatch: pytest.MonkeyPatch):
    """One step: from its first product on. Two: the second. Three: the third, behind two warm ones."""
    for steps, seconds, products in (([(3, 9.0)], 0.0, 2), ([(3, 9.0), (4, 6.0)], 6.0, 4), ([(1, 9.0)] * 3, 9.0, 1)):
        engine = Steps(monkeypatch, steps)
        rate = seconds_per_flop(engine, STAGE_BY_NAME["ppo"], flops=10**9)  # pyright: ignore[reportArgumentType]
        assert rate == pytest.approx(seconds / (products * 2000))


def test_a_stage_without_steps_runs_a_tenth_half_of_it_warm(monkeypatch: pytest.MonkeyPatch):
    """200 products in all, so 20: ten warm ones at 3 s, and ten at 1 s."""
    engine = Steps(monkeypatch, [(1, 3.0)] * 10 + [(1, 1.0)] * 190, has_log=False)
    rate = seconds_per_flop(engine, STAGE_BY_NAME["reference_logps"], flops=200 * 2000)  # pyright: ignore[reportArgumentType]

    assert rate == pytest.approx(10 * 1.0 / (10 * 2000)) and engine.taken == 19


def test_a_stage_without_products_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    engine = Steps(monkeypatch, [(0, 3.0)], has_log=False)
    assert seconds_per_flop(engine, STAGE_BY_NAME["reference_logps"], flops=0) == 0  # pyright: ignore[reportArgumentType]


def test_stages_are_those_that_arms_need_beyond_the_sft_model():
    assert [stage.name for stage in stages_of(["base", "sft", "ppo", "dpo"])] == [
        "reward", "ppo", "reference_logps", "dpo",
    ]  # fmt: skip


def test_several_processes_are_refused():
    require_one_process(1)
    with pytest.raises(ConfigError, match="for one process, not 2"):
        require_one_process(2)


@pytest.mark.long
def test_a_finished_run_is_measured_again_and_stays_the_run_that_it_is(
    finished: tuple[RunConfig, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config, folder = finished
    shutil.copytree(config.results_dir, tmp_path / "results", copy_function=shutil.copy2)
    config = replace(config, results_dir=str(tmp_path / "results"), remeasure=True)
    ours = tmp_path / "results" / folder.relative_to(folder.parents[1])
    before = read_json(ours / "metrics.json")
    stages = {path: path.read_bytes() for path in (tmp_path / "results/.cache/stages").rglob("*.json")}

    assert run(config, "the command") == ours
    after = read_json(ours / "metrics.json")
    assert config_hash(config) == before["config_hash"] and "measuring again" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "results/.cache/stages").rglob("*.json")} == stages
    of_arms = {arm: after["arms"][arm]["cost"].pop("remeasured", None) for arm in after["arms"] if arm != "reference"}
    assert of_arms["base"] is None and of_arms["sft"] is None
    for arm in ("ppo", "dpo"):
        again = of_arms[arm]
        assert len(again["rounds"]) == 3 and min(again["rounds"]) > 0
        assert again["device_hours"] * 3600 == pytest.approx(sum(s["wall_s"] for s in again["stages"].values()))
        assert set(again["stages"]) == set(before["arms"][arm]["cost"]["stages"])
    claims = after.pop("verdicts_on_claims")
    ratio = of_arms["ppo"]["device_hours"] / of_arms["dpo"]["device_hours"]
    assert claims[0]["estimate"]["value"] == pytest.approx(ratio)
    assert claims[1:] == before.pop("verdicts_on_claims")[1:]
    assert json.dumps(after, sort_keys=True) == json.dumps(before, sort_keys=True)
