"""What a user can mend is one line on stderr and exit code 2 or 1, before any model is loaded."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import huggingface_hub.constants
import pytest

from bench import __version__
from bench.errors import ResourceError
from bench.files import read_jsonl, write_jsonl
from bench.pipeline import runner
from bench.stages import base

FILES = ["data=files", "judge=reward_model", "data.preferences.judge=preferences/judge.*", "data.preferences.test=null"]


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "base_model", lambda *_: pytest.fail("a model was loaded"))


@pytest.fixture
def refused(command: Callable, results_dir: Path) -> Callable[..., str]:
    """refused(*arguments, exit_code=2): the command's only line on stderr."""

    def run(*arguments: str, exit_code: int = 2) -> str:
        outcome = command(f"results_dir={results_dir}", *arguments)
        assert outcome.stderr.startswith("error: ")
        assert outcome.stderr.count("\n") == 1 and outcome.stderr.endswith("\n"), outcome.stderr
        assert outcome.stdout == ""
        assert outcome.exit_code == exit_code
        return outcome.stderr.strip().removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        # unknown keys
        ("ppo.betta=1", "unknown config key ppo.betta; did you mean ppo.beta?"),
        ("+ppo.betta=1", "unknown config key ppo.betta; did you mean ppo.beta?"),
        ("nonsense=1", "unknown config key nonsense; python -m bench --help lists the groups"),
        ("dpo.beta.x=1", "unknown config key dpo.beta.x; did you mean dpo.beta?"),
        # unknown options
        ("experiment=judge_agreement", "judge_agreement is an audit: python -m bench.judge_audit experiment="),
        ("dpo=huge", "dpo has no option 'huge'; choose one of default, nplus, paper, small, tiny"),
        ("dpo=3", "Config group override must be a string or a list. Got int"),
        # out of range
        ("dpo.beta=-1", "dpo.beta must be above 0, got -1.0"),
        ("dpo.beta=nan", "dpo.beta must be a finite number, got nan"),
        ("seed=-1", "seed must be at least 0 and below 4294967295, got -1"),
        ("budget.pairs=0", "budget.pairs must be at least 1, or null for all, got 0"),
        ("arms=[ppo]", "arms must contain sft, where every arm starts, got ['ppo']"),
        ("sft.schedule=wild", "sft.schedule must be one of linear, cosine, constant, constant_with_warmup, got 'wild'"),
        # wrong types
        ("dpo.beta=strong", "dpo.beta must be a number, got 'strong'"),
        ("dpo.beta=true", "dpo.beta must be a number, got True"),
        ("seed=0.5", "seed must be a whole number, got 0.5"),
        ("name=7", "name must be a text, got 7; quoted it is one: 'name=\"7\"'"),
        # options, and what stands in an extra
        ("--foo", "there is no option --foo (try --help); settings are written KEY=VALUE"),
        ("--hepl", "there is no option --hepl (try --help); settings are written KEY=VALUE"),
        ("arms=sft", "arms must be a list, got 'sft'"),
        ("evaluation.rouge_stemmer=1", "evaluation.rouge_stemmer must be true or false, got 1"),
        # what Hydra cannot read
        ("dpo.beta=[", "cannot read 'dpo.beta=['; write KEY=VALUE, and special characters in quotes: 'KEY=\"a=b\"'"),
        ("seed", "cannot read 'seed'; write KEY=VALUE, and special characters in quotes: 'KEY=\"a=b\"'"),
        ("name=${nowhere}", "name: Interpolation key 'nowhere' not found"),
        ("model=local", "model.name must be given: model.name=VALUE"),
        # what does not go together
        ("budget.max_completion_tokens=500", "must fit model.max_positions (512), got 660"),
        ("data=files", "judge.names has gold, which needs data=synthetic or data=controlled; use judge=reward_model"),
    ],
)
def test_bad_config(argument: str, message: str, refused: Callable[..., str]):
    assert message in refused(argument)


def test_an_unknown_key_is_looked_for_in_the_chosen_options(refused: Callable[..., str]):
    assert refused("data=files", "data.rooot=x") == "unknown config key data.rooot; did you mean data.root?"


def test_a_sweep_goes_on_behind_a_job_that_is_refused(
    command: Callable, results_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    ran: list[float] = []

    def run(config, command: str) -> Path:
        ran.append(config.dpo.beta)
        raise ResourceError("far enough")

    monkeypatch.setattr(runner, "run", run)
    outcome = command(f"results_dir={results_dir}", "-m", "dpo.beta=-1,0.1,0.2")

    assert ran == [0.1, 0.2]
    assert outcome.stderr.splitlines() == [
        "error: dpo.beta must be above 0, got -1.0",
        "builtin, seed 0, dpo.beta=0.1", "error: far enough", "builtin, seed 0, dpo.beta=0.2", "error: far enough",
        "sweep: 0 of 3 jobs done, 3 refused", "  dpo.beta=-1: error: dpo.beta must be above 0, got -1.0",
        "  dpo.beta=0.1: error: far enough", "  dpo.beta=0.2: error: far enough",
    ]  # fmt: skip
    assert outcome.exit_code == 2  # the worst of the jobs'


def test_a_name_of_digits_is_a_name_in_quotes(command: Callable, results_dir: Path, monkeypatch: pytest.MonkeyPatch):
    names: list[str] = []

    def run(config, command: str) -> Path:
        names.append(f"{config.name} in {config.results_dir}")
        raise ResourceError("far enough")

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setenv("HOME", str(results_dir))
    command("results_dir=~/mine", 'name="2024"')

    assert names == [f"2024 in {results_dir}/mine"]  # and ~ is the home folder, which no shell writes out behind "="


@pytest.mark.parametrize(
    ("launcher", "extra"), [("joblib", "launchers"), ("submitit_slurm", "launchers"), ("ray", "ray")]
)
def test_a_launcher_that_is_in_an_extra(launcher: str, extra: str, command: Callable):
    if f"hydra-{launcher.partition('_')[0]}-launcher" in {found.name for found in distributions()}:
        pytest.skip("it is installed")
    outcome = command(f"hydra/launcher={launcher}")
    assert outcome.exit_code == 2
    assert outcome.stderr.endswith(f"is in an extra that is not installed: pip install -e '.[{extra}]'\n")


def test_the_version(command: Callable):
    assert command("--version").stdout == f"rlhf-vs-dpo {__version__}\n"


def test_a_group_that_help_does_not_know(command: Callable):
    outcome = command("--help", "nope")

    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("error: no group 'nope'; the groups are best_of_n, budget, cost, data, dpo, ")


def edit_rows(path: Path, edit: Callable[[list[dict]], object]) -> None:
    rows = read_jsonl(path)
    edit(rows)
    write_jsonl(path, rows)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "preferences/train.jsonl",
            Path.unlink,
            "no file matches 'preferences/train.*' (there are demonstrations/test.jsonl, ",
        ),
        (
            "preferences/train.jsonl",
            lambda path: path.write_text(""),
            "train.jsonl: is empty; it needs at least one row",
        ),
        (
            "preferences/train.jsonl",
            lambda path: path.write_text(path.read_text() + '{"prompt": \n'),
            "train.jsonl, line 5: broken JSON (Expecting value at column 12); one object per line",
        ),
        (
            "preferences/train.jsonl",
            lambda path: edit_rows(path, lambda rows: rows[2].pop("chosen")),
            "train.jsonl, line 3: no column 'chosen' (columns: id, prompt, rejected); set data.columns.chosen to",
        ),
        (
            "demonstrations/train.jsonl",
            lambda path: edit_rows(path, lambda rows: rows[1].update(completion=3.5)),
            "train.jsonl, line 2: column 'completion' holds float instead of text",
        ),
        (
            "preferences/validation.jsonl",
            lambda path: edit_rows(path, lambda rows: rows[0].update(chosen=rows[0]["rejected"])),
            "validation.jsonl, line 1: chosen and rejected are equal; data.identical_pairs=drop leaves such out",
        ),
        (
            "demonstrations/test.jsonl",
            lambda path: path.write_text((path.parent / "train.jsonl").read_text()),
            "the same post is in two splits: train (demonstration 'train-0') and test (prompt 'train-0');",
        ),
        (
            "demonstrations/train.jsonl",
            lambda path: edit_rows(
                path, lambda rows: rows[0].update(prompt=f"TITLE: {'word ' * 500}\n\nPOST: x\n\nTL;DR:")
            ),
            "longer than the model takes",
        ),
    ],
    ids=["missing", "empty", "broken JSON", "no column", "no text", "equal pair", "leak", "too long"],
)
def test_bad_data(
    file: str, edit: Callable[[Path], object], message: str, own_files: Path, refused: Callable[..., str]
):
    edit(own_files / file)

    assert message in refused(*FILES, f"data.root={own_files}")


def test_a_data_folder_that_is_not_there(tmp_path: Path, refused: Callable[..., str]):
    assert "nowhere: no such folder; set data.root" in refused(*FILES, f"data.root={tmp_path / 'nowhere'}")


def test_a_hub_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str], tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    small = ["data.demonstrations=16", "data.preference_pairs=8", "data.judge_pairs=8", "data.validation_pairs=8"]

    line = refused("model=local", "model.name=nobody/no-such-model", *small, exit_code=1)

    assert line.startswith("model 'nobody/no-such-model' is not there")
    assert "Hugging Face hub" in line and "model=smollm2_135m_wheel" in line


def test_a_run_folder_of_another_config(refused: Callable[..., str], tmp_path: Path):
    folder = tmp_path / "builtin" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config_hash": "x", "config": {"arms": ["sft"]}}))

    line = refused(f"results_dir={tmp_path}", "run_id=mine")

    assert "holds a run of another config (arms is ['sft'] there, ['base', 'sft', 'ppo', 'dpo'] here)" in line


def test_a_folder_that_holds_no_run(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "builtin" / "mine" / "photos").mkdir(parents=True)

    assert "is not empty and holds no run" in refused(f"results_dir={tmp_path}", "run_id=mine")


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_an_unwritable_results_dir(sweep: list[str], refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "file").touch()

    line = refused(f"results_dir={tmp_path / 'file' / 'results'}", *sweep, exit_code=1)

    assert line.startswith(f"cannot write {tmp_path / 'file' / 'results'}")
    assert line.endswith("Not a directory; choose another results_dir")


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), ValueError("a bug"), OSError(errno.EBADF, "a bug")])
def test_a_bug_keeps_its_traceback(
    error: Exception, command: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(runner, "prepare_data", broken)

    with pytest.raises(type(error), match="a bug"):
        command(f"results_dir={tmp_path}")


def test_an_interrupted_run_says_how_it_goes_on(command: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "prepare_data", interrupted)
    outcome = command(f"results_dir={tmp_path}")

    assert outcome.exit_code == 130
    assert outcome.stderr == "interrupted; the same command goes on with the stage that was left, from its checkpoint\n"


@pytest.mark.slow
def test_disk_full(
    command: Callable,
    smallest: list[str],
    smallest_world: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """At the first stage: one line, nothing half-written, and no run folder that would be in the way."""
    monkeypatch.undo()  # this one loads a model
    arguments = [*smallest, *smallest_world, f"results_dir={tmp_path}", "arms=[sft]", "judge.names=[gold]"]

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcome = command(*arguments)

    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert outcome.stderr.splitlines()[-1].endswith(
        "No space left on device; free disk space or choose another results_dir"
    )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert command(*arguments).exit_code == 0


@pytest.mark.slow
def test_the_module_itself(tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-m", "bench", "ppo.beta=-1", f"results_dir={tmp_path}"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: ppo.beta must be 0 (no KL pull) or above, got -1.0\n"


def test_a_slip_in_a_trainers_settings_is_refused_without_the_training_libraries():
    code = """
import sys
from bench.cli.bind import bind_early
from bench.errors import ConfigError
try:
    bind_early({"dpo": {"beta": -1.0}})
except ConfigError as error:
    assert str(error) == "dpo.beta must be above 0, got -1.0", error
    sys.exit({"torch", "transformers"} & set(sys.modules) != set())
sys.exit(2)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
