"""`~` is the home folder wherever a path is given."""

from importlib import import_module
from pathlib import Path

import pytest

from bench.audit.config import AuditConfig
from bench.cli.home import at_home
from bench.config import RunConfig
from bench.models.config import ModelConfig


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_in_what_is_typed(home: Path):
    typed = ["results_dir=~/runs", "model.name=~/a,~/b,c", "data.root=~", "~experiment", "name=a~b", "-m", "x=~user/y"]

    assert at_home(typed) == [
        f"results_dir={home}/runs", f"model.name={home}/a,{home}/b,c", f"data.root={home}", *typed[3:]
    ]  # fmt: skip


def test_in_settings(home: Path):
    assert RunConfig(results_dir="~/runs", model=ModelConfig(max_positions=1024)).results_dir == f"{home}/runs"
    assert AuditConfig(data="pairs.csv", results_dir="~/runs").results_dir == f"{home}/runs"
    assert ModelConfig(kind="hub", name="~/model").name == f"{home}/model"
    assert ModelConfig(kind="hub", name="owner/model").name == "owner/model"


def test_a_command_with_it_is_read(home: Path, command):
    """As far as the first thing that is wrong with it."""
    outcome = command("results_dir=~/runs", "model=local", "model.name=~/model", "budget=smoke", "judge.names=[gold]")

    assert outcome.exit_code == 1
    assert f"model '{home}/model' is not there" in outcome.stderr


@pytest.mark.parametrize("module", ["plan", "known_reward"])
def test_commands_that_take_a_runs_overrides_read_it_too(
    module: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    arguments = ["experiment=tldr_controlled", "data.root=~/posts", "results_dir=~/runs"]
    monkeypatch.setattr("sys.argv", [module, *arguments])
    code = import_module(f"bench.cli.{module}").main()

    assert code != 0 and f"{home}/posts" in capsys.readouterr().err
