"""The plan of a run that is there: nothing to do, and the FLOPs that were counted ahead are those that were counted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config import RunConfig
from bench.errors import ConfigError
from bench.evaluate.judges.config import JudgeConfig, OpenAIJudgeConfig
from bench.files import read_json
from bench.forecast.rows import rows_of_run
from bench.forecast.shape import model_shape
from bench.forecast.work import Counting
from bench.pipeline import ahead
from bench.pipeline.ahead import line_ahead
from bench.pipeline.cells import cells
from bench.pipeline.dry_run import dry_run
from bench.pipeline.engine import Engine
from bench.pipeline.runner import _stages, prepare_data, run
from bench.train.settings.samples import SamplesSettings


def test_finished_stages_are_in_the_cache(finished: tuple[RunConfig, Path]):
    config, _ = finished

    plan = dry_run(config, measures=False).plan

    assert {stage.name for stage in plan.stages if not stage.is_cached} == {"evaluation"}
    other = dry_run(replace(config, dpo=replace(config.dpo, beta=0.7)), measures=False).plan
    assert {stage.name for stage in other.stages if not stage.is_cached} == {"dpo", "generate_dpo", "evaluation"}


def test_a_judge_whose_budget_will_not_do_is_refused_before_anything_is_trained(
    finished: tuple[RunConfig, Path], make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    """4 arms and the reference summary are 10 duels of 4 posts in 2 orders; PPO and DPO sampled at 3 moments of 3 posts
    against it are 36 more. Nobody is asked by a plan, so it needs no key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def asks(most: int, config: RunConfig) -> RunConfig:
        return replace(
            config, judge=JudgeConfig(names=("openai",), openai=OpenAIJudgeConfig(model="m", max_requests=most))
        )

    watched = make_config(samples_in_training=SamplesSettings(points=2, prompts=3))
    for config, needed in ((make_config(), 80), (watched, 116)):
        with pytest.raises(ConfigError, match=rf"^judge\.openai\.max_requests={needed - 1} is less .* {needed};"):
            dry_run(asks(needed - 1, config), measures=False)
        assert dry_run(asks(needed, config), measures=False).plan.stages
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(ConfigError, match="max_requests=79 is less"):
        run(asks(79, make_config()), "the command")
    assert not list(Path(make_config().results_dir).glob(".cache/stages/sft-*"))
    assert dry_run(asks(1, finished[0]), measures=False)  # all is there: the judge itself counts what is left to ask


def test_another_device_has_made_nothing_yet(finished: tuple[RunConfig, Path]):
    config, _ = finished
    other = replace(config, model=replace(config.model, precision="auto"))

    assert not any(stage.is_cached for stage in dry_run(other, "h100").plan.stages if stage.name == "sft")


def test_another_temperature_costs_sampling_alone(finished: tuple[RunConfig, Path]):
    config, _ = finished
    more = replace(config, evaluation=replace(config.evaluation, temperatures=(0.0, 1.0)))

    plan = dry_run(more, measures=False).plan

    assert {(s.name, s.times, s.cached) for s in plan.stages if not s.is_cached} == {
        *((f"generate_{arm}", 3, 1) for arm in config.arms),
        ("evaluation", 3, 0),
    }


def test_the_work_ahead_is_the_work_that_was_done(finished: tuple[RunConfig, Path]):
    config, folder = finished
    metrics = read_json(folder / "metrics.json")
    data, tokenizer, _ = prepare_data(config, Path(config.results_dir) / ".cache")
    shape = model_shape(config.model, tokenizer, Path(config.results_dir) / ".cache")
    counting = Counting(config, shape, rows_of_run(data, tokenizer), bf16=False)

    # Untrained, every arm samples up to the limit.
    counting = replace(counting, rows=replace(counting.rows, written=counting.rows.written * 100))
    for name, cost in metrics["cost"]["stages"].items():
        if name == "base":  # a probe of a few rows
            continue
        # What attention pads is estimated; of so narrow a model attention is most of the work.
        assert counting.of(name).flops == pytest.approx(cost["flops"], rel=0.15), name
    assert counting.of("dpo").tokens_trained == pytest.approx(metrics["cost"]["stages"]["dpo"]["tokens_trained"])


def test_a_plan_never_stands_in_a_runs_way(finished: tuple[RunConfig, Path], monkeypatch: pytest.MonkeyPatch):
    config, _ = finished
    data, tokenizer, _ = prepare_data(config, Path(config.results_dir) / ".cache")
    headline, grid = cells(config, data, tokenizer)
    engine = Engine(config, data, tokenizer, Path(config.results_dir) / ".cache")
    assert line_ahead(engine, (headline, *grid), _stages(config)).startswith("plan: about ")

    monkeypatch.setattr(ahead, "model_shape", lambda *_: 1 / 0)

    assert line_ahead(engine, (headline, *grid), _stages(config)) == "plan: none (ZeroDivisionError: division by zero)"
