"""A run folder belongs to one config."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config import RunConfig
from bench.errors import ConfigError, ResourceError, RunFolderError
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, read_jsonl, write_json, write_jsonl
from bench.pipeline import locks
from bench.pipeline.run_folder import (
    TrainingLogs,
    claim,
    config_as_dict,
    config_hash,
    finish,
    one_at_a_time,
    recorded,
    run_folder,
)


def left_by(config: RunConfig, folder: Path) -> None:
    """What a run of `config` that was cut off leaves in `folder`."""
    record = {"config": config_as_dict(config), "config_hash": config_hash(config), "status": "finished"}
    write_json(folder / "run.json", record)


def test_the_same_command_finds_the_same_folder_again(make_config: Callable[..., RunConfig]):
    config = make_config(seed=3, name="mine")
    folder, found = claim(config)

    assert folder == Path(config.results_dir) / "mine" / f"s3-{config_hash(config)[:10]}"
    assert folder.is_dir() and found is None

    left_by(config, folder)
    assert claim(config) == (folder, None)
    write_json(folder / "metrics.json", {})
    assert claim(config) == (folder, read_json(folder / "run.json"))


def test_a_label_names_the_folder_and_does_not_move_it(make_config: Callable[..., RunConfig]):
    config = make_config(seed=3, name="mine", label="dpo.beta=0.3")
    known = replace(config, label=None)
    folder = run_folder(config)

    assert folder.name == f"s3-dpo.beta=0.3-{config_hash(config)[:10]}" and config_hash(config) == config_hash(known)
    assert run_folder(known).name == f"s3-{config_hash(config)[:10]}"
    folder.mkdir(parents=True)
    assert run_folder(known) == folder == run_folder(replace(config, label="other"))
    assert run_folder(replace(config, seed=4)) != folder


def test_a_folder_of_before_there_were_labels_is_found(make_config: Callable[..., RunConfig]):
    config = make_config(label="dpo.beta=0.3")
    run_folder(replace(config, label=None)).mkdir(parents=True)

    assert run_folder(config).name == f"s0-{config_hash(config)[:10]}"


def test_a_run_that_is_under_way_or_failed_is_not_finished_whatever_an_earlier_one_left(
    make_config: Callable[..., RunConfig],
):
    config = make_config()
    folder, _ = claim(config)
    write_json(folder / "metrics.json", {"of": "an earlier version"})

    with recorded(folder, config, "the command") as record:
        assert read_json(folder / "run.json")["status"] == record["status"] == "running"
        assert claim(config) == (folder, None)
        finish(folder, record, {})
    assert claim(config)[1] is not None
    with pytest.raises(KeyboardInterrupt), recorded(folder, config, "the command"):
        raise KeyboardInterrupt
    assert claim(config) == (folder, None)
    ended = read_json(folder / "run.json")
    assert (ended["status"], ended["error"], ended["command"]) == ("failed", "KeyboardInterrupt", "the command")


def test_other_weights_under_the_same_path_are_another_run(make_config: Callable[..., RunConfig]):
    config = make_config()
    assert run_folder(config, "these") != run_folder(config, "those")

    mine = make_config(run_id="mine")
    folder, _ = claim(mine, "these")
    with recorded(folder, mine, "the command", "these") as record:
        finish(folder, record, {})
    assert claim(mine, "these")[1] is not None
    with pytest.raises(RunFolderError, match=r"mine was made from other weights \(tiny has changed since\)"):
        claim(mine, "those")


def test_training_logs_grow_as_rows_come(tmp_path: Path):
    write_jsonl(tmp_path / "training" / "sft.jsonl", [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 9.0}])
    logs, rows = TrainingLogs(tmp_path), [{"step": 1, "loss": 2.0}]

    logs.write("sft", rows)
    assert read_jsonl(tmp_path / "training" / "sft.jsonl") == rows  # what an earlier run left is gone
    rows += [{"step": 2, "loss": 1.5}, {"step": 3, "loss": 1.0}]
    logs.write("sft", rows)
    logs.write("sft", rows)
    assert read_jsonl(tmp_path / "training" / "sft.jsonl") == rows


def test_where_results_go_is_no_part_of_what_they_are(make_config: Callable[..., RunConfig]):
    config = make_config()

    assert config_hash(replace(config, results_dir="elsewhere", run_id="mine")) == config_hash(config)
    assert config_hash(replace(config, seed=1)) != config_hash(config)


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ({"seed": 7}, "seed is 7 there, 0 here"),
        ({"judge": JudgeConfig(names=("gold",))}, r"judge.names is \['gold'\] there, \['gold', 'reward_model'\] here"),
        ({"arms": ("sft",)}, r"arms is \['sft'\] there, \['base', 'sft', 'ppo', 'dpo'\] here"),
    ],
)
def test_a_run_of_another_config_is_named(there: dict, named: str, make_config: Callable[..., RunConfig]):
    config = make_config(run_id="mine")
    left_by(replace(config, **there), run_folder(config))

    with pytest.raises(RunFolderError, match=rf"mine holds a run of another config \({named}\); choose another run_id"):
        claim(config)


def test_a_folder_that_holds_no_run_is_left_alone(make_config: Callable[..., RunConfig]):
    config = make_config(run_id="mine")
    folder = run_folder(config)
    folder.mkdir(parents=True)
    (folder / "thesis.txt").touch()

    with pytest.raises(RunFolderError, match="mine is not empty and holds no run; choose another run_id"):
        claim(config)


@pytest.mark.parametrize("below", ["", "results"])
def test_a_results_dir_that_is_a_file_or_below_one(below: str, tmp_path: Path, make_config: Callable[..., RunConfig]):
    (tmp_path / "file").touch()

    with pytest.raises(ResourceError, match=r"^cannot write .*; choose another results_dir$"):
        claim(make_config(results_dir=str(tmp_path / "file" / below)))


@pytest.mark.parametrize("seed", [-1, 2**32 - 1])
def test_a_seed_that_no_generator_takes(seed: int, make_config: Callable[..., RunConfig]):
    with pytest.raises(ConfigError, match=f"seed must be at least 0 and below 4294967295, got {seed}"):
        make_config(seed=seed)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b"])
def test_a_name_that_is_no_plain_folder_name(name: str, make_config: Callable[..., RunConfig]):
    with pytest.raises(ConfigError, match="name must be a plain folder name"):
        make_config(name=name)


@pytest.mark.parametrize("name", [".writable", ".run.json.k3_x9zab", ".metrics.json.abcdefgh"])
def test_what_a_kill_left_half_written_is_no_hindrance_and_goes(name: str, make_config: Callable[..., RunConfig]):
    config = make_config()
    folder = run_folder(config)
    (folder / "completions").mkdir(parents=True)
    (folder / name).touch()
    (folder / "completions" / ".sft.jsonl.abcdefgh").touch()
    (folder / "completions" / ".gitignore").touch()  # not ours
    with pytest.raises(RunFolderError, match="holds no run"):
        claim(config)  # a folder of somebody's
    (folder / "completions" / ".gitignore").rename(folder.parent / ".gitignore")
    for path in (folder / "completions").iterdir():
        path.rename(folder / path.name)
    (folder / "completions").rmdir()

    assert claim(config) == (folder, None)
    with recorded(folder, config, "the command"):
        assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_the_second_of_two_that_want_one_folder_waits_and_finds_the_first_ones_run(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "_SOON_S", 0.05)
    monkeypatch.setattr(locks, "_POLL_S", 0.01)
    said: list[str] = []
    found: list[bool] = []
    waits = threading.Event()
    monkeypatch.setattr(locks, "say", lambda text: (said.append(text), waits.set()))
    config = make_config()

    def second() -> None:
        with one_at_a_time(config, "the second"):
            found.append(claim(config)[1] is not None)

    with one_at_a_time(config, "the first"):
        folder, _ = claim(config)
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        with recorded(folder, config, "the first") as record:
            finish(folder, record, {})
    thread.join()

    assert found == [True]
    assert said[0].startswith(f"waiting for run {folder}: process {os.getpid()} (the first) has been at it since ")
