"""The whole comparison on a small random model of every architecture: each runs to its report, or is refused before."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from architectures import CAUSAL, NO_REWARD, make

from bench.config import RunConfig
from bench.errors import ConfigError
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, read_jsonl
from bench.models import tiny
from bench.models.config import ModelConfig
from bench.models.loading import save_policy
from bench.pipeline.runner import run
from bench.report import render_run
from bench.stages import sft


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", CAUSAL)
def test_a_run_of_each(name: str, make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch, capsys):
    tokenizer = tiny.train_tokenizer(["POST: my cat sat.\n\nTL;DR: the cat sat."], vocabulary=300, max_length=512)
    save_policy(make(name), tokenizer, tmp_path / name)
    config = make_config(model=ModelConfig(kind="hub", name=str(tmp_path / name)))
    if name in NO_REWARD:
        with monkeypatch.context() as patch, pytest.raises(ConfigError, match="gives no reward model") as refused:
            patch.setattr(sft, "train_sft", lambda *_, **__: pytest.fail("trained before it was refused"))
            run(config, "the command")
        print(f"{name}: with ppo refused: {refused.value}", file=sys.stderr)
        config = make_config(model=config.model, arms=("base", "sft", "dpo"), judge=JudgeConfig(names=("gold",)))

    folder = run(config, "the command")

    metrics = read_json(folder / "metrics.json")
    assert set(metrics["arms"]) == {*config.arms, "reference"}
    assert metrics["arms"]["sft"]["kl_ref"]["value"] == pytest.approx(0, abs=1e-4)  # sampled from what scores it
    first = read_jsonl(folder / "training" / "dpo.jsonl")[0]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: policy and reference are one model
    assert render_run(folder).exists()
