"""Runs at once, each a process of its own: what both want is made once, and both finish."""

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from kill_at_random import without_costs

from bench.config import RunConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json
from bench.pipeline.runner import run

ARMS = ("sft", "dpo")
GOLD = JudgeConfig(names=("gold",))


def at_once(configs: Sequence[RunConfig], scratch: Path) -> tuple[list[Path], list[str]]:
    """The folders of the runs, and what each of them said."""
    scratch.mkdir()

    def one(number: int, config: RunConfig) -> None:
        sys.stderr = open(scratch / f"{number}.log", "w", buffering=1)  # noqa: SIM115 - as long as the process
        torch.set_num_threads(1)  # the parent's OpenMP threads are not there after a fork
        (scratch / f"{number}.folder").write_text(str(run(config, f"command {number}")))

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=one, args=numbered) for numbered in enumerate(configs)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    numbers = range(len(configs))
    folders = [Path((scratch / f"{number}.folder").read_text()) for number in numbers]
    return folders, [(scratch / f"{number}.log").read_text() for number in numbers]


@pytest.mark.slow
def test_of_two_identical_runs_one_computes_and_both_finish(make_config: Callable[..., RunConfig], tmp_path: Path):
    config = make_config(arms=ARMS, judge=GOLD)
    (first, second), logs = at_once([config, config], tmp_path / "scratch")

    assert first == second
    record = read_json(first / "run.json")
    assert not any(stage["reused"] for stage in record["stages"].values())
    assert sorted("nothing to do" in log for log in logs) == [False, True]
    (computed,) = [number for number, log in enumerate(logs) if "nothing to do" not in log]
    assert record["command"] == f"command {computed}"


@pytest.mark.long
@pytest.mark.slow
def test_two_runs_make_what_both_want_once(make_config: Callable[..., RunConfig], tmp_path: Path):
    """Of other names, so that none waits for the other run, but for each of its stages."""
    configs = [make_config(name=name, arms=ARMS, judge=GOLD) for name in ("one", "other")]
    folders, _ = at_once(configs, tmp_path / "scratch")

    first, second = (read_json(folder / "run.json")["stages"] for folder in folders)
    assert first.keys() == second.keys() >= {"base", "sft", "reference_logps", "dpo"}
    for name in first:
        assert sorted([first[name]["reused"], second[name]["reused"]]) == [False, True], name
    first, second = (without_costs(read_json(folder / "metrics.json")) for folder in folders)
    assert first.keys() == second.keys()
    assert {key for key in first if first[key] != second[key]} == {"experiment", "config_hash"}
