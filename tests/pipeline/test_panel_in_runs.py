"""A panel in a whole run: a judge like any other in metrics.json and in the run's files."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.config import RunConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.evaluate.panel import majority_of
from bench.evaluate.win_rate import resolve
from bench.files import read_json, read_jsonl
from bench.pipeline.runner import run
from bench.records import Verdict


@pytest.fixture(scope="module")
def folder(finished: tuple[RunConfig, Path]) -> Path:
    """The smallest run evaluated again, by a panel of its two judges."""
    config, _ = finished
    return run(replace(config, judge=JudgeConfig(panel=("gold", "reward_model"))), "the command")


def test_the_panels_verdicts_are_the_members_majority(folder: Path):
    def verdicts(judge: str, arm: str) -> dict[str, str]:
        rows = [Verdict(**row) for row in read_jsonl(folder / "verdicts" / f"{judge}.jsonl")]
        return resolve([row for row in rows if (row.arm_a, row.arm_b) == (arm, "reference")])  # pyright: ignore

    for arm in ("base", "sft", "ppo", "dpo"):
        gold, reward_model, panel = (verdicts(judge, arm) for judge in ("gold", "reward_model", "panel"))
        assert panel == {prompt: majority_of([gold[prompt], reward_model[prompt]]) for prompt in panel}  # pyright: ignore
        assert len(panel) == 4


def test_the_panel_is_in_the_metrics(folder: Path):
    metrics = read_json(folder / "metrics.json")

    assert {name: judge["kind"] for name, judge in metrics["judges"].items()} == {
        "gold": "gold", "reward_model": "reward_model", "panel": "panel",
    }  # fmt: skip
    assert metrics["judges"]["panel"]["members"] == ["gold", "reward_model"]
    assert metrics["judges"]["panel"]["flip_rate"] == 0
    for arm in ("base", "sft", "ppo", "dpo"):
        assert metrics["arms"][arm]["win_rate"]["panel"]["n"] == 4
    assert "panel" in metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"] and "panel" in metrics["bradley_terry"]
    (agreement,) = metrics["judge_agreement"]
    assert agreement["judges"] == ["gold", "reward_model"] and agreement["agreement"]["n"] == 4
    assert agreement["verdicts"] == (4 + 6) * 4  # duels, prompts
