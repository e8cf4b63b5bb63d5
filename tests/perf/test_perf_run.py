"""What a repeated benchmark measures again."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.files import read_json
from bench.perf import run
from bench.perf.contenders import contenders
from bench.perf.measure import Measurement
from bench.perf.run import Settings, measure_all
from bench.perf.workload import Workload
from bench.records import PreferencePair


@pytest.fixture
def measured(monkeypatch, tmp_path: Path):
    """measured(rounds): the contenders that `measure_all` started a process for."""
    started: list[str] = []
    monkeypatch.setattr(run, "_work", lambda contender, spec, settings: started.append(contender.name) or Measurement())

    def go(rounds: int, record: dict[str, Any] | None = None, only: tuple[str, ...] = ()) -> list[str]:
        settings = Settings(
            model="m", data=None, out=tmp_path, rounds=rounds, steps=2, batch_size=1, micro_batch_tokens=1, prompts=1,
            max_prompt_tokens=1, max_new_tokens=1, threads=1, trl_1_12=None, only=only,
        )  # fmt: skip
        workload = Workload("w", [PreferencePair("1", "p", "c", "r")])
        started.clear()
        measure_all(contenders("sft", "fp32", False), settings, workload, tmp_path, tmp_path / "sft.json", record or {})
        return list(started)

    return go


def test_rounds_are_interleaved_and_those_that_are_there_are_kept(measured):
    assert measured(1) == ["ours", "trl_default", "trl_best"]
    assert measured(1) == []
    assert measured(3) == ["ours", "trl_default", "trl_best"] * 2


def test_rounds_of_some_contenders_alone(measured):
    measured(1)
    assert measured(3, only=("ours", "trl_best")) == ["ours", "trl_best"] * 2
    assert measured(3) == ["trl_default"] * 2


def test_other_code_is_measured_again(measured, monkeypatch):
    measured(1)
    monkeypatch.setattr(run, "code_key", lambda module: "another")
    assert measured(1) == ["ours", "trl_default", "trl_best"]


def test_the_peak_is_the_fastest_seen_between_the_contenders(monkeypatch, measured, tmp_path: Path):
    products = iter([3.0, 5.0, 4.0])
    monkeypatch.setattr(run, "fastest_product", lambda device, dtype: next(products) * 1e12)
    monkeypatch.setattr(run, "DTYPES", {"fp32": torch.float32})
    record = {"gemm_tflops": {"fp32": 2.0}}
    measured(1, record)
    assert record["gemm_tflops"] == {"fp32": 5.0}

    again = {"gemm_tflops": {"fp32": 1.0}}  # nothing is left to measure; the file remembers
    measured(1, again)
    assert again["gemm_tflops"] == {"fp32": 5.0} == read_json(tmp_path / "sft.json")["gemm_tflops"]
