"""The best checkpoint: chosen by the judge that is named, on validation posts, and what is evaluated is that model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_record import stage_folder
from safetensors.torch import load_file

from bench.config import RunConfig
from bench.errors import ConfigError
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.config import HumanJudgeConfig, JudgeConfig
from bench.files import read_json, read_jsonl
from bench.pipeline.cells import headline_of
from bench.pipeline.instruments import Instruments
from bench.pipeline.runner import prepare_data, run
from bench.stages.best_checkpoint import best_step
from bench.train.settings.samples import SamplesSettings


def _watched(keep_best: str | None) -> SamplesSettings:
    return SamplesSettings(points=2, prompts=3, keep_best=keep_best)


def _stages(config: RunConfig) -> dict[str, Path]:
    folders = (Path(config.results_dir) / ".cache" / "stages").iterdir()
    return {path.name: path for path in folders if not path.name.startswith(".")}


def _stage(config: RunConfig, name: str) -> Path:
    (found,) = [path for folder, path in _stages(config).items() if folder.rpartition("-")[0] == name]
    return found


def test_of_equals_the_earliest_is_the_best_and_the_start_is_no_candidate():
    assert best_step({0: {"value": 0.9}, 4: {"value": 0.5}, 2: {"value": 0.5}, 6: {"value": 0.4}}) == 2
    assert best_step({0: {"value": 0.9}, 1: {"value": None}, 2: {"value": 0.1}}) == 2  # none of it could be read
    assert best_step({0: {"value": 0.9}, 1: {"value": None}}) is None


def test_the_policy_that_is_evaluated_is_the_chosen_moment(make_config: Callable[..., RunConfig]):
    by_gold = JudgeConfig(names=("gold",))
    config = make_config(arms=("sft", "dpo"), samples_in_training=_watched("gold"), judge=by_gold)
    metrics = read_json(run(config, "the command") / "metrics.json")
    points = {point["step"]: point["win_rate"]["gold"] for point in metrics["in_training"]["dpo"]["points"]}
    found = metrics["arms"]["dpo"]["checkpoint"]
    # By the same judge on the same samples the evaluation finds the same win rates.
    assert {moment["step"]: moment["win_rate"] for moment in found["moments"]} == points
    assert found["step"] == best_step(points) and found["steps"] == max(points) and found["judge"] == "gold"
    assert "checkpoint" not in metrics["arms"]["sft"]

    trained = _stage(config, "dpo")
    moment = trained / "moments" / f"step-{found['step']}"
    source = load_file((moment if moment.exists() else trained) / "model.safetensors")
    chosen = load_file(_stage(config, "best_dpo_by_gold") / "model.safetensors")
    assert all(torch.equal(weight, source[name].float()) for name, weight in chosen.items() if name in source)
    made_from = read_json(_stage(config, "generate_dpo") / "stage.json")["inputs"]["inputs"]
    assert made_from == {"policy": _key(config, "best_dpo_by_gold"), "sft": _key(config, "sft")}


def _key(config: RunConfig, stage: str) -> str:
    return _stage(config, stage).name.rpartition("-")[2]


def test_a_judge_leaves_its_model_when_it_has_chosen(finished: tuple[RunConfig, Path]):
    """What is trained next needs the memory."""
    config, folder = finished
    data, tokenizer, _ = prepare_data(config, Path(config.results_dir) / ".cache")
    folders = {"judge_reward": stage_folder(config, folder, "judge_reward")}
    instruments = Instruments(config, folders, tokenizer, torch.device("cpu"), torch.float32, Path(config.results_dir))
    prompt = data.eval_prompts[0]
    item = JudgeItem(prompt.id, prompt.prompt, prompt.reference, "no")
    with instruments.judge(headline_of(config, data), "reward_model") as asked:
        verdict = asked.judge([item])
        assert list(instruments._scorers) == ["judge_reward"]
    assert instruments._scorers == {} and asked.judge([item]) == verdict  # which is remembered
    assert instruments._scorers == {}


@pytest.mark.long
def test_another_judge_chooses_again_and_trains_nothing(make_config: Callable[..., RunConfig]):
    run(config := make_config(samples_in_training=_watched("gold")), "the command")
    before = set(_stages(config))
    folder = run(make_config(samples_in_training=_watched("reward_model")), "the command")
    new = {name.rpartition("-")[0] for name in set(_stages(config)) - before}
    assert new == {"best_ppo_by_reward_model", "best_dpo_by_reward_model", "generate_ppo", "generate_dpo"}
    metrics = read_json(folder / "metrics.json")
    for arm in ("ppo", "dpo"):
        points = {point["step"]: point["win_rate"]["reward_model"] for point in metrics["in_training"][arm]["points"]}
        assert metrics["arms"][arm]["checkpoint"]["step"] == best_step(points)
        assert len(read_jsonl(folder / "completions" / f"{arm}.jsonl")) == 4


def test_who_cannot_choose_is_refused(make_config: Callable[..., RunConfig]):
    with pytest.raises(ConfigError, match="keep_best must be null or a judge of the run"):
        make_config(samples_in_training=_watched("gold"), judge=JudgeConfig(names=("reward_model",)))
    people = JudgeConfig(names=("gold", "human"), orders="one", human=HumanJudgeConfig())
    with pytest.raises(ConfigError, match=r"no person \(gold\)"):
        make_config(samples_in_training=_watched("human"), judge=people)
