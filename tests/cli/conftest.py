"""The command line in this process, and a folder of a user's own files."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import absl.logging
import pytest

from bench.cli import app
from bench.files import write_jsonl

# Hydra shuts down every logging handler, and absl's (rouge-score brings it) then closes its stream unless that is the
# stderr of the moment: here it would be pytest's.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

# One step of everything with a model that has next to no parameters.
SMALLEST = """
    model=tiny model.hidden_size=32 model.layers=1 model.heads=2 model.vocabulary=300
    budget=smoke budget.max_prompt_tokens=256 budget.ppo_episodes=4
    sft.batch_size=4 sft.micro_batch_size=4 reward.batch_size=4 reward.micro_batch_size=4
    dpo.batch_size=4 dpo.micro_batch_size=4 ppo.batch_size=4 ppo.micro_batch_size=4 ppo.num_mini_batches=1
    rloo.batch_size=4 rloo.micro_batch_size=4 best_of_n.n=4
    evaluation.bootstrap_resamples=100
""".split()
SMALLEST_WORLD = """
    data=synthetic data.demonstrations=16 data.preference_pairs=8 data.judge_pairs=8 data.validation_pairs=8
    data.eval_prompts=4
""".split()


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """command(*arguments): what `python -m bench *arguments` prints, and its exit code."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it; give it back afterwards

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["bench", *arguments])
        capsys.readouterr()
        try:
            exit_code = app.main()
        except SystemExit as stopped:
            assert isinstance(stopped.code, int)
            exit_code = stopped.code
        captured = capsys.readouterr()
        return Outcome(exit_code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def results_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all runs of a worker, and with it the stage cache."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def smallest(results_dir: Path) -> list[str]:
    """Overrides that make any experiment take one step with a tiny model; they leave its data alone."""
    return [*SMALLEST, f"results_dir={results_dir}"]


@pytest.fixture
def smallest_world() -> list[str]:
    """Overrides that put a small built-in world in the place of an experiment's data."""
    return [*SMALLEST_WORLD]


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """A user's data in the default layout, a split per file; no post twice."""
    root = tmp_path / "data"
    for split in ("train", "judge", "validation", "test"):
        posts = [f"TITLE: {split} {i}\n\nPOST: the {split} cat number {i} slept.\n\nTL;DR:" for i in range(4)]
        pairs = [
            {"id": f"{split}-{i}", "prompt": post, "chosen": f"cat {i} slept", "rejected": f"dog {i}"}
            for i, post in enumerate(posts)
        ]
        write_jsonl(root / "preferences" / f"{split}.jsonl", pairs)
        demonstrations = [{"id": f"{split}-{i}", "prompt": p, "completion": f"cat {i}"} for i, p in enumerate(posts)]
        if split != "judge":
            write_jsonl(root / "demonstrations" / f"{split}.jsonl", demonstrations)
    return root
