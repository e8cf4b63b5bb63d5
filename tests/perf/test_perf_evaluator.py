"""The benchmark of the evaluator: what it makes, measures and prints, and that the evaluator's work grows linearly."""

from cProfile import Profile
from pathlib import Path

import pytest

from bench.files import read_json, read_jsonl
from bench.perf import evaluator
from bench.perf.evaluator import ARMS, Clock, completions, evaluate, evaluation_of, table


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch) -> None:
    """They are as many at every size."""
    monkeypatch.setattr(evaluator, "_PAIRS", 20)


def calls(prompts: int, folder: Path) -> int:
    """Function calls of one evaluation, Python's and C's: seconds without a clock."""
    found, profile = evaluation_of(completions(prompts), folder), Profile()
    profile.runcall(evaluate, found, folder)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.long
def test_work_grows_linearly(tmp_path: Path):
    evaluate(evaluation_of(completions(20), tmp_path / "first"), tmp_path / "first")  # imports and words are once
    small, middle, large = (calls(n, tmp_path / str(n)) for n in (40, 80, 160))
    assert large - middle == pytest.approx(2 * (middle - small), rel=0.1)


def test_it_writes_what_a_run_writes(tmp_path: Path):
    evaluate(evaluation_of(completions(12), tmp_path), tmp_path)
    metrics = read_json(tmp_path / "metrics.json")
    assert set(metrics["arms"]) == {*ARMS, "reference"}
    assert all(metrics["arms"][arm]["win_rate"]["gold"]["n"] == 12 for arm in ARMS)
    assert len(read_jsonl(tmp_path / "verdicts" / "gold.jsonl")) == 12 * 2 * (4 + 6)  # orders; references and pairs
    assert len(read_jsonl(tmp_path / "completions" / "ppo.jsonl")) == 12
    assert read_json(tmp_path / "by_prompt.json")["prompts"][0] == "test-000000"


def test_texts_are_a_function_of_the_seed_and_of_real_lengths():
    made = completions(30)
    assert made.by_arm == completions(30).by_arm != completions(30, seed=1).by_arm
    for rows in made.by_arm.values():
        assert all(30 <= len(row.completion.split()) <= 50 for row in rows)


def test_time_of_a_part_within_another_is_its_own(monkeypatch):
    now = [0.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(evaluator.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(evaluator.time, "process_time", lambda: 2 * now[0])
    clock = Clock()
    inner = clock.timed("inner", lambda: work(3.0))
    clock.timed("outer", lambda: (work(1.0), inner(), inner()))()
    assert clock.wall == {"inner": 6.0, "outer": 1.0}
    assert clock.cpu == {"inner": 12.0, "outer": 2.0}


def test_the_table_has_rates_growth_and_memory():
    # 4 us a completion and 2 s for all; 1 MiB for 100 completions over 500 MiB. The least of two rounds counts.
    def run(n: int, slow: float = 1.0):
        return {
            "completions": n, "wall_s": {"ROUGE": slow * n / 500}, "cpu_s": {"ROUGE": slow * n / 1000},
            "made_mib": 500.0, "peak_memory_mib": 500 + n / 100,
        }  # fmt: skip

    text = table([[run(1000, 3.0), run(1000)], [run(10_000), run(10_000, 2.0)]])
    assert "| CPU seconds | 1.00 | 10.00 | 1.00 |" in text
    assert "| completions in 2 CPU seconds | 2,000 | 2,000 |" in text
    assert "| completions in a wall second | 500 | 500 |" in text
    assert "| ROUGE | 1000 | 1000 | 1.00 |" in text
    assert "1,000 completions more take 10.0 MiB more, 0.0 MiB of which are the texts themselves" in text
