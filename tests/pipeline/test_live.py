"""Training shown elsewhere as it goes: the rows of the logs, of every trainer, and nothing that changes the run."""

import sys
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.config import RunConfig
from bench.errors import ConfigError, ResourceError
from bench.files import read_json, read_jsonl
from bench.pipeline import live
from bench.pipeline.live import shown_live
from bench.pipeline.run_folder import config_hash
from bench.pipeline.runner import run

ROWS = [{"step": 1, "wall_s": 0.5, "loss": 2.0}, {"step": 2, "wall_s": 1.0, "loss": None}]


@pytest.mark.long
def test_every_row_of_every_log_is_shown_and_the_run_is_the_same(make_config, finished, monkeypatch):
    shown = defaultdict(list)

    def started(config, folder, settings):
        assert settings["seed"] == 0 and read_json(folder / "run.json")["status"] == "running"
        return lambda stage, step, numbers: shown[stage].append({"step": step, **numbers}), lambda: shown["closed"]

    monkeypatch.setitem(live._STARTED, "tensorboard", started)
    monkeypatch.setattr(live, "find_spec", lambda name: True)
    folder = run(make_config(report_to="tensorboard"), "the command")

    assert set(shown) == {"sft", "reward", "judge_reward", "ppo", "dpo", "closed"}
    for stage in set(shown) - {"closed"}:
        log = read_jsonl(folder / "training" / f"{stage}.jsonl")
        assert log and shown[stage] == [{k: v for k, v in row.items() if v is not None} for row in log]
    config, without = finished
    assert config_hash(config) == config_hash(make_config(report_to="tensorboard")) and folder.name == without.name
    of_run, of_other = (
        {name: stage["key"] for name, stage in read_json(path / "run.json")["stages"].items()}
        for path in (folder, without)
    )
    assert of_run == of_other


def test_a_tracker_whose_package_is_not_there_is_refused_before_anything_is_made(make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(live, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^report_to=trackio needs a package .* -e '\.\[trackio\]'.*$"):
        run(make_config(report_to="trackio"), "the command")
    assert not list(tmp_path.rglob("run.json"))


def test_a_tracker_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="report_to must be one of none, tensorboard, trackio, wandb, got 'mlflow'"):
        RunConfig(report_to="mlflow")


def test_a_tracker_that_does_not_start_says_why_in_one_line(make_config, monkeypatch, tmp_path):
    def started(*args):
        raise RuntimeError("no key\nfor the server")

    monkeypatch.setitem(live._STARTED, "wandb", started)
    with (
        pytest.raises(ResourceError, match=r"^report_to=wandb cannot be started .* no key for the server\)"),
        shown_live(make_config(report_to="wandb"), tmp_path, {}),
    ):
        pass


def test_a_tracker_that_fails_on_the_way_is_left_alone(make_config, monkeypatch, tmp_path, capsys):
    calls = []

    def started(*args):
        def log(*row):
            calls.append(row)
            raise OSError("the server has gone")

        return log, lambda: None

    monkeypatch.setitem(live._STARTED, "wandb", started)
    with shown_live(make_config(report_to="wandb"), tmp_path, {}) as show:
        show("sft", ROWS[:1])
        show("sft", ROWS)
        show("dpo", ROWS)

    assert len(calls) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "report_to=wandb: nothing more is shown (OSError: the server has gone)" in line


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_servers_get_each_stage_on_its_own_axis(make_config, monkeypatch, tmp_path, name):
    logged, axes, ended = [], [], []
    module = SimpleNamespace(
        log=logged.append,
        finish=lambda: ended.append(True),
        define_metric=lambda names, step_metric: axes.append((names, step_metric)),
    )

    def init(**settings):
        assert settings["project"] == "builtin" and settings["name"] == tmp_path.name
        assert settings["config"] == {"seed": 0}
        return module

    module.init = init
    monkeypatch.setitem(sys.modules, name, module)
    with shown_live(make_config(report_to=name), tmp_path, {"seed": 0}) as show:
        show("sft", ROWS[:1])
        show("sft", ROWS)
        show("dpo", ROWS[:1])

    of_row = {"sft/step": 1, "sft/wall_s": 0.5, "sft/loss": 2.0}
    assert logged == [
        of_row,
        {"sft/step": 2, "sft/wall_s": 1.0},
        {key.replace("sft", "dpo"): value for key, value in of_row.items()},
    ]
    assert ended == [True]
    assert axes == ([("sft/*", "sft/step"), ("dpo/*", "dpo/step")] if name == "wandb" else [])


def test_tensorboard_reads_what_was_written(make_config, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-not-found]
        EventAccumulator,
    )

    with shown_live(replace(make_config(), report_to="tensorboard"), tmp_path, {}) as show:
        show("ppo", ROWS)

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("ppo/loss")] == [(1, 2.0)]
    assert [(event.step, event.value) for event in events.Scalars("ppo/wall_s")] == [(1, 0.5), (2, 1.0)]
