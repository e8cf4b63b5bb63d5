"""`python -m bench.plan`: a plan for every config, nothing trained, one line where there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.cli import plan
from bench.pipeline import ahead


class Outcome(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """planned(*arguments): what the command prints, and its exit code."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["bench.plan", *arguments])
        capsys.readouterr()
        exit_code = plan.main()
        captured = capsys.readouterr()
        return Outcome(exit_code, captured.out, captured.err)

    return run


@pytest.fixture
def small(tmp_path: Path, smallest: list[str], smallest_world: list[str]) -> list[str]:
    return [*smallest[:-1], *smallest_world, f"results_dir={tmp_path}"]


def test_help(planned: Callable[..., Outcome]):
    outcome = planned("--help")

    assert outcome.exit_code == 0
    assert "plan.hardware=NAME" in outcome.stdout


def test_a_plan_and_nothing_trained(planned: Callable[..., Outcome], small: list[str], tmp_path: Path):
    outcome = planned(*small, "plan.measure=false")

    assert outcome.exit_code == 0, outcome.stderr
    for stage in ("sft", "reward", "ppo", "dpo", "generate_dpo", "evaluation", "all"):
        assert any(line.startswith(f"{stage} ") for line in outcome.stdout.splitlines()), stage
    assert outcome.stdout.splitlines()[-1].startswith("plan: about ")
    assert "not measured: 40% of" in outcome.stdout
    assert not (tmp_path / ".cache" / "stages").exists()


def test_hardware_that_is_not_here(planned: Callable[..., Outcome], small: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ahead, "calibrate", lambda *_: pytest.fail("measured here"))

    outcome = planned(*small, "plan.hardware=h100", "model.precision=auto")

    assert "for h100_sxm" in outcome.stdout and "assumed: 30% (cost.projected_mfu)" in outcome.stdout
    assert "process" not in outcome.stdout


def test_a_judges_bill(planned: Callable[..., Outcome], small: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)  # a plan asks nobody

    outcome = planned(*small, "plan.hardware=h100", "judge=openai", "judge.openai.price_per_million_prompt_tokens=1000")

    assert "judge openai: at most 80 questions" in outcome.stdout  # 10 duels, 4 prompts, 2 orders
    assert " $" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan.hardware=tpu"], "plan.hardware must be here or among"),
        (["plan.speed=1"], "unknown config key plan.speed; the plan's own are plan.hardware and plan.measure"),
        (["plan.measure=maybe"], "plan.measure must be true or false, got 'maybe'"),
        (["dpo.betta=1"], "unknown config key dpo.betta; did you mean dpo.beta?"),
        (["-m", "dpo.beta=1,2"], "a plan is of one run"),
    ],
)
def test_one_line_where_there_is_no_plan(
    planned: Callable[..., Outcome], small: list[str], arguments: list[str], says: str
):
    outcome = planned(*small, *arguments)

    assert outcome.exit_code == 2
    assert outcome.stderr.startswith(f"error: {says}") and len(outcome.stderr.splitlines()) == 1


def test_what_does_not_fit_is_refused_behind_its_plan(
    planned: Callable[..., Outcome], small: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bench.forecast.hardware._USABLE", 1e-9)

    outcome = planned(*small, "plan.hardware=l4")

    assert outcome.exit_code == 1
    assert "GiB of memory, and l4 has 0.0 to use" in outcome.stderr.splitlines()[-1]
    assert any(line.startswith("all ") for line in outcome.stdout.splitlines())


@pytest.mark.slow
def test_a_second_plan_measures_nothing(
    planned: Callable[..., Outcome], small: list[str], monkeypatch: pytest.MonkeyPatch
):
    first = planned(*small)
    monkeypatch.setattr(ahead, "calibrate", lambda *_: pytest.fail("measured again"))

    second = planned(*small)

    assert first.exit_code == second.exit_code == 0, first.stderr
    assert "measured on this machine" in first.stdout and "measured on this machine" in second.stdout
