"""A run folder belongs to one config."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import ConfigError, ResourceError, RunFolderError
from bench.evaluate.judges.config import JudgeConfig
from bench.files import write_json
from bench.pipeline.config import RunConfig
from bench.pipeline.run_folder import claim, config_as_dict, config_hash, run_folder


def left_by(config: RunConfig, folder: Path) -> None:
    """What a run of `config` that was cut off leaves in `folder`."""
    write_json(folder / "run.json", {"config": config_as_dict(config), "config_hash": config_hash(config)})


def test_the_same_command_finds_the_same_folder_again(make_config: Callable[..., RunConfig]):
    config = make_config(seed=3, name="mine")
    folder, finished = claim(config)

    assert folder == Path(config.results_dir) / "mine" / f"s3-{config_hash(config)[:10]}"
    assert folder.is_dir() and not finished

    left_by(config, folder)
    assert claim(config) == (folder, False)
    write_json(folder / "metrics.json", {})
    assert claim(config) == (folder, True)


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
