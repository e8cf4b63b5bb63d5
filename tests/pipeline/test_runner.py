"""One small run, from config to run folder, as results/README.md describes it."""

import errno
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_at_random import without_costs
from safetensors.torch import load_file

from bench.config import BudgetConfig, RunConfig
from bench.cost import StageCost
from bench.data import FilesConfig, load, split_hash
from bench.data.config import PreferenceFilesConfig
from bench.errors import ConfigError, DataError, ResourceError
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, read_jsonl, write_jsonl
from bench.models import tiny
from bench.models.config import ModelConfig
from bench.pipeline import engine, runner
from bench.pipeline.cache import FinishedStage
from bench.pipeline.engine import unmoved
from bench.pipeline.run_folder import run_folder
from bench.pipeline.runner import prepare_data, run
from bench.reach import code_key
from bench.stages import sft
from bench.train.log import TrainingLog

Finished = tuple[RunConfig, Path]
ARMS = ["base", "sft", "ppo", "dpo"]


@pytest.mark.slow
def test_same_seed_same_metrics(finished: Finished, make_config: Callable[..., RunConfig]):
    """In fresh results folders, so that nothing is taken from the cache."""
    config, first = finished
    second = run(make_config(), "the command")

    assert Path(config.results_dir) != second.parents[1]
    first_metrics, second_metrics = (without_costs(read_json(folder / "metrics.json")) for folder in (first, second))
    assert first_metrics == second_metrics
    for name in (f"completions/{arm}.jsonl" for arm in ARMS):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    record = read_json(second / "run.json")
    assert not any(stage["reused"] for stage in record["stages"].values())
    assert record["data"] == read_json(first / "run.json")["data"]


def test_a_finished_run_is_not_repeated(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config, folder = finished
    before = (folder / "metrics.json").stat().st_mtime_ns
    monkeypatch.setattr(runner, "prepare_data", lambda *_: pytest.fail("it was run again"))

    assert run(config, "the command") == folder
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    assert "nothing to do" in capsys.readouterr().err


def test_completions(finished: Finished):
    _, folder = finished
    prompt_ids = [row["prompt_id"] for row in read_jsonl(folder / "prompts.jsonl")]
    assert len(prompt_ids) == 4

    for arm in ARMS:
        rows = read_jsonl(folder / "completions" / f"{arm}.jsonl")
        assert [row["prompt_id"] for row in rows] == prompt_ids
        for row in rows:
            fields = "arm temperature prompt_id completion n_tokens finished logp ref_logp kl reward degenerate"
            assert set(row) == set(fields.split())
            assert row["arm"] == arm and row["temperature"] == 0.7
            assert isinstance(row["completion"], str) and isinstance(row["finished"], bool)
            assert 1 <= row["n_tokens"] <= 8
            assert row["logp"] < 0 and row["ref_logp"] < 0
            assert row["kl"] >= -1e-4  # exact KL is not negative, but for rounding
    sft = read_jsonl(folder / "completions" / "sft.jsonl")
    assert all(row["logp"] == row["ref_logp"] and row["kl"] == 0 for row in sft)


def test_verdicts(finished: Finished):
    _, folder = finished
    duels = 4 + math.comb(4, 2)  # each arm against the reference, and each pair of arms

    for judge in ("gold", "reward_model"):
        rows = read_jsonl(folder / "verdicts" / f"{judge}.jsonl")
        assert len(rows) == duels * 4 * 2  # prompts, orders
        keys = {(row["prompt_id"], row["arm_a"], row["arm_b"], row["order"]) for row in rows}
        assert len(keys) == len(rows)
        for row in rows:
            assert set(row) == set("prompt_id arm_a arm_b order verdict judge prompt_hash".split())
            assert row["verdict"] in ("a", "b", "tie", "unparsed") and row["order"] in ("ab", "ba")


def test_win_rates_are_those_of_the_stored_verdicts(finished: Finished):
    """Neither judge looks at the order, so each prompt's two verdicts agree and one of them counts."""
    _, folder = finished
    points = {"a": 1.0, "tie": 0.5, "b": 0.0}
    metrics = read_json(folder / "metrics.json")

    for judge in ("gold", "reward_model"):
        rows = [row for row in read_jsonl(folder / "verdicts" / f"{judge}.jsonl") if row["order"] == "ab"]
        for arm in ARMS:
            won = [points[r["verdict"]] for r in rows if (r["arm_a"], r["arm_b"]) == (arm, "reference")]
            assert metrics["arms"][arm]["win_rate"][judge]["value"] == pytest.approx(sum(won) / 4)
        won = [points[r["verdict"]] for r in rows if (r["arm_a"], r["arm_b"]) == ("dpo", "ppo")]
        assert metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"][judge]["value"] == pytest.approx(sum(won) / 4)


def test_rlhf_pays_for_its_reward_model(finished: Finished):
    metrics = read_json(finished[1] / "metrics.json")
    stage = metrics["cost"]["stages"]
    cost = {arm: metrics["arms"][arm]["cost"] for arm in ARMS}

    assert {arm: set(cost[arm]["stages"]) for arm in ARMS} == {
        "base": set(), "sft": {"sft"}, "ppo": {"reward", "ppo"}, "dpo": {"reference_logps", "dpo"},
    }  # fmt: skip
    for field in ("wall_s", "device_hours"):
        assert cost["ppo"][field] == pytest.approx(stage["reward"][field] + stage["ppo"][field])
        assert cost["dpo"][field] == pytest.approx(stage["reference_logps"][field] + stage["dpo"][field])
        assert stage["reference_logps"][field] > 0
        assert metrics["cost"][field] == pytest.approx(sum(entry[field] for entry in stage.values()))
    assert cost["ppo"]["peak_memory_gib"] == max(stage[name]["peak_memory_gib"] for name in ("reward", "ppo"))
    assert cost["ppo"]["models_resident"] == 4
    assert "reference" in metrics["arms"] and "cost" not in metrics["arms"]["reference"]
    trained = {"base", "sft", "reward", "judge_reward", "ppo", "reference_logps", "dpo"}
    assert set(stage) == trained | {f"generate_{arm}" for arm in ARMS}


def test_sft_differs_not_from_itself(finished: Finished):
    metrics = read_json(finished[1] / "metrics.json")

    assert metrics["arms"]["sft"]["kl_ref"]["value"] == metrics["arms"]["sft"]["kl_ref_k1"]["value"] == 0
    assert metrics["arms"]["base"]["kl_ref"]["value"] > 0
    assert metrics["arms"]["ppo"]["kl_ref"]["value"] > 0


@pytest.mark.slow
def test_disk_full_in_the_run_folder(
    finished: Finished, make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    """Nothing half-written is left, and the same command goes on where it stopped."""
    config = replace(finished[0], name="full")  # its stages are in the cache
    real, folder = os.fsync, run_folder(config)

    def full_after_the_first_arm(fd: int) -> None:
        if (folder / "completions" / "base.jsonl").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_the_first_arm)
        with pytest.raises(ResourceError, match="No space left on device"):
            run(config, "the command")
    left = [path.name for path in folder.rglob("*") if path.is_file() and path.parent.name != "training"]
    assert sorted(left) == ["base.jsonl", "run.json"]

    assert run(config, "the command") == folder
    assert (
        without_costs(read_json(folder / "metrics.json"))["arms"]
        == (without_costs(read_json(finished[1] / "metrics.json"))["arms"])
    )
    assert all(stage["reused"] for stage in read_json(folder / "run.json")["stages"].values())


@pytest.mark.parametrize("limit", [200, 230, 400])
def test_cut_prompts_are_counted(limit: int, make_config: Callable[..., RunConfig], tmp_path: Path):
    config = make_config(budget=BudgetConfig(max_prompt_tokens=limit, max_completion_tokens=8))
    data, tokenizer, statistics = prepare_data(config, tmp_path)

    def prompts(data) -> list[str]:
        rows = [
            *data.eval_prompts,
            *(row for part in (data.demonstrations, data.preferences) for s in part.values() for row in s),
        ]
        return [row.prompt for row in rows]

    def n_tokens(prompt: str) -> int:
        return len(tokenizer(prompt).input_ids)

    too_long = {prompt for prompt in prompts(load(config.data, config.seed)) if n_tokens(prompt) > limit}
    assert statistics["truncated_prompts"] == len(too_long)
    assert (limit < 400) == bool(too_long)
    assert statistics["prompt_tokens"]["max"] == max(n_tokens(prompt) for prompt in prompts(data)) <= limit
    assert all(prompt.endswith("TL;DR:") for prompt in prompts(data))


def test_a_budget_longer_than_the_models_context(make_config: Callable[..., RunConfig], tmp_path: Path):
    """Found from the model's config alone; its weights are not there."""
    model = ModelConfig(hidden_size=32, layers=1, heads=2, vocabulary=300, max_positions=64)
    tokenizer = tiny.train_tokenizer(["a post"], 300, 64)
    tokenizer.save_pretrained(tmp_path / "model")
    tiny.build(model, tokenizer, seed=0).config.save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")

    with pytest.raises(ConfigError, match=r"budget.max_prompt_tokens \+ .* is 264, but .*model has 64 positions"):
        prepare_data(make_config(model=ModelConfig(kind="hub", name=name)), tmp_path)


def test_a_split_that_is_missing_is_named(make_config: Callable[..., RunConfig], tmp_path: Path):
    for split in ("train", "validation", "test"):
        rows = [{"prompt": f"{split} post", "completion": "a", "chosen": "good", "rejected": "bad", "reference": "a"}]
        write_jsonl(tmp_path / "demonstrations" / f"{split}.jsonl", rows)
        write_jsonl(tmp_path / "preferences" / f"{split}.jsonl", rows)
    files = FilesConfig(root=str(tmp_path), judge_fraction=0.0, preferences=PreferenceFilesConfig(test=None))

    with pytest.raises(DataError, match="the data has no preferences/judge"):
        prepare_data(make_config(data=files, judge=JudgeConfig(names=("reward_model",))), tmp_path)


def test_an_error_that_the_user_cannot_mend_is_not_hidden(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sft, "train_sft", lambda *_, **__: [][0])

    config = make_config()
    with pytest.raises(IndexError):
        run(config, "the command")
    record = read_json(run_folder(config) / "run.json")
    assert (record["status"], record["error"]) == ("failed", "IndexError: list index out of range")


def test_seeds_keep_the_same_rows_of_given_data(make_config: Callable[..., RunConfig], tmp_path: Path):
    """A budget's rows are drawn by data.split_seed; the run's seed is that of training, and of the built-in world."""
    for split in ("train", "judge", "validation", "test"):
        rows = [
            {"prompt": f"{split} post {i}", "completion": "a", "chosen": "good", "rejected": "bad", "reference": "a"}
            for i in range(20)
        ]
        if split != "judge":
            write_jsonl(tmp_path / "demonstrations" / f"{split}.jsonl", rows)
        write_jsonl(tmp_path / "preferences" / f"{split}.jsonl", rows)
    budget = replace(make_config().budget, demonstrations=5, pairs=5, judge_pairs=5, validation_pairs=5, eval_prompts=5)
    files = FilesConfig(root=str(tmp_path), preferences=PreferenceFilesConfig(judge="preferences/judge.*"))

    def hash_of(**changes: Any) -> str:
        judge = JudgeConfig(names=("reward_model",))
        return split_hash(prepare_data(make_config(budget=budget, judge=judge, **changes), tmp_path)[0])

    shared = hash_of(data=files, seed=0)
    assert hash_of(data=files, seed=1) == shared
    assert hash_of(data=replace(files, split_seed=1), seed=0) != shared
    assert hash_of(seed=0) != hash_of(seed=1)  # the built-in world: every seed is a world of its own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "made_again"),
    [
        ("bench.pipeline.evaluation", set()),
        ("bench.stages.ppo", {"ppo", "generate_ppo"}),
        ("bench.stages.dpo", {"dpo", "generate_dpo"}),
    ],
)
def test_after_an_edit_the_same_command_makes_again_what_that_code_makes(
    edited: str, made_again: set[str], finished: Finished, monkeypatch: pytest.MonkeyPatch
):
    config = replace(finished[0], name=edited.rpartition(".")[2])  # its stages are in the cache
    folder = run(config, "the command")
    before = without_costs(read_json(folder / "metrics.json"))

    def after_the_edit(module: str) -> str:
        return f"{code_key(module)} edited" if module == edited else code_key(module)

    monkeypatch.setattr(runner, "code_key", after_the_edit)
    monkeypatch.setattr(engine, "code_key", after_the_edit)
    monkeypatch.setattr(runner, "Evaluation", Counted := counted(runner.Evaluation))
    assert run(config, "the command") == run(config, "the command") == folder

    stages = read_json(folder / "run.json")["stages"]
    assert {name for name, stage in stages.items() if not stage["reused"]} == made_again
    assert Counted.made == 1  # the second time there was nothing to do
    assert without_costs(read_json(folder / "metrics.json"))["arms"] == before["arms"]


def counted(cls: type) -> Any:
    """The class, counting its objects."""

    class Counted(cls):
        made = 0

        def __init__(self, *arguments: Any, **named: Any) -> None:
            type(self).made += 1
            super().__init__(*arguments, **named)

    return Counted


def test_a_smoke_run_moves_every_parameter_and_says_where_one_did_not(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    """With one or two steps a stage, and a warm-up that asks for more."""
    base = make_config()
    warm = {name: replace(getattr(base, name), warmup_steps=10.0) for name in ("sft", "reward", "dpo", "ppo")}
    config = make_config(arms=tuple(ARMS), budget=replace(base.budget, sft_epochs=0.25), **warm)
    folder = run(config, "the command")

    record, metrics = (read_json(folder / f"{name}.json") for name in ("run", "metrics"))
    places = {
        name: Path(config.results_dir) / ".cache" / "stages" / f"{name}-{stage['key']}"
        for name, stage in record["stages"].items()
    }
    for name, start in {"sft": "base", "reward": "sft", "judge_reward": "sft", "dpo": "sft", "ppo": "sft"}.items():
        after, before = (load_file(places[stage] / "model.safetensors") for stage in (name, start))
        shared = after.keys() & before.keys()
        assert len(shared) >= len(before) - 1  # a reward model has no LM head
        assert not [key for key in shared if torch.equal(after[key], before[key])], name
    assert not [row for part in metrics["health"].values() for row in part["findings"] if row["check"] == "unmoved"]

    log: TrainingLog = [{"step": 1}]
    stages = {name: FinishedStage(name, "", "", places[name], StageCost(), log, False) for name in ("base", "sft")}
    assert unmoved({**stages, "dpo": replace(stages["sft"], name="dpo")})["dpo"]["message"] == (
        "training moved no weight: dpo is the model that it started from (sft)"
    )


def test_training_logs_are_there_while_the_run_goes_on(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    config = make_config(arms=("sft",), judge=JudgeConfig(names=("gold",)))
    folder = run_folder(config)

    def killed(*_: Any, **__: Any) -> None:
        assert read_json(folder / "run.json")["status"] == "running"
        assert [row["step"] for row in read_jsonl(folder / "training" / "sft.jsonl")] == [1, 2, 3, 4]
        raise KeyboardInterrupt

    monkeypatch.setattr(sft, "trained", killed)  # the stage is not finished yet
    with pytest.raises(KeyboardInterrupt):
        run(config, "the command")
    assert read_json(folder / "run.json")["error"] == "KeyboardInterrupt"
