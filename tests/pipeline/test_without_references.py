"""Pairs without any reference summary: arms are compared with each other, and what needs a reference is absent."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from bench.config import RunConfig
from bench.data import FilesConfig
from bench.data.config import PreferenceFilesConfig
from bench.errors import DataError
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, read_jsonl, write_jsonl
from bench.pipeline.runner import run
from bench.report import render_comparison, render_run
from bench.report.summary import summary

ARMS = ("sft", "best_of_n", "ppo", "dpo")


@pytest.fixture
def config(make_config: Callable[..., RunConfig], tmp_path: Path) -> RunConfig:
    rows = [
        {"prompt": f"my cat number {i} ran away\n\nTL;DR:", "chosen": f"cat {i} ran", "rejected": "who knows"}
        for i in range(60)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    data = FilesConfig(
        root=str(tmp_path),
        demonstrations_from_chosen=True,
        preferences=PreferenceFilesConfig(unsplit="pairs.jsonl"),
        validation_fraction=0.2,
        test_fraction=0.2,
    )
    config = make_config(data=data, judge=JudgeConfig(names=("reward_model",)), arms=ARMS)
    return replace(config, best_of_n=replace(config.best_of_n, n=4))


@pytest.mark.long
def test_a_run_without_references_compares_arms_with_each_other(config: RunConfig, capsys: pytest.CaptureFixture[str]):
    folder = run(config, "the command")
    metrics = read_json(folder / "metrics.json")
    said = capsys.readouterr().err

    assert set(metrics["arms"]) == set(ARMS)
    pairs = {f"{a}_vs_{b}" for a, b in combinations(sorted(ARMS), 2)}
    assert set(metrics["head_to_head"]) == pairs
    assert {"mcnemar", "p_holm", "win_rate"} & set(metrics["head_to_head"]["dpo_vs_ppo"]) == {"p_holm", "win_rate"}
    for numbers in metrics["arms"].values():
        assert not {"rouge", "win_rate"} & set(numbers)
        assert numbers["reward"]["proxy"]["n"] == metrics["data"]["counts"]["eval_prompts"] > 1
    assert metrics["arms"]["dpo"]["kl_ref"]["value"] is not None
    assert metrics["bradley_terry"]["reward_model"]["best_of_n"]["value"] == 0
    assert metrics["bradley_terry_zero"] == {"reward_model": "best_of_n"}
    assert metrics["best_of_n"]["by_n"]["2"]["win_rate"] == {}
    verdicts = read_jsonl(folder / "verdicts" / "reward_model.jsonl")
    assert {f"{row['arm_a']}_vs_{row['arm_b']}" for row in verdicts} == pairs
    note = "No test post has a reference summary"
    assert note in said and note in render_run(folder).with_suffix(".md").read_text(encoding="utf-8")
    assert "win %" not in summary(folder) and "dpo beats ppo" in summary(folder)

    other = run(replace(config, seed=1), "the command")
    assert render_comparison([folder, other], folder.parent).exists()


def test_one_arm_without_references_has_nothing_to_be_compared_with(config: RunConfig):
    with pytest.raises(DataError, match=r"^no test post has a reference summary, and arms has \['sft'\] alone"):
        run(replace(config, arms=("sft",)), "the command")
