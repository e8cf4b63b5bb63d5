"""Sweeps by launchers that are extras: two jobs, and one of two that is refused. Skipped where the extra is missing."""

import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from bench.cli.sweep import Job, in_words, label_of, swept_keys


def test_in_words() -> None:
    jobs = [Job(1, ["seed=0", "dpo.beta=0.3"], 0, "PATH"), Job(0, ["seed=0", "dpo.beta=-1"], 2, "must be above 0")]
    assert in_words(jobs).splitlines() == [
        "sweep: 1 of 2 jobs done, 1 refused",
        "  dpo.beta=-1: error: must be above 0",
        "  dpo.beta=0.3: PATH",
    ]
    assert in_words([Job(0, ["seed=0"], 0, "PATH")]).splitlines() == ["sweep: 1 of 1 jobs done", "  job 0: PATH"]


def test_a_label_is_what_was_swept() -> None:
    keys = swept_keys(
        ["experiment=x", "dpo.beta=0.1,0.3", "seed=0,1", "arms=[sft,dpo],[sft,ppo]", "+sets.a={split: validation}"]
    )
    assert keys == ["dpo.beta", "seed", "arms"]
    assert label_of(["seed=1", "dpo.beta=0.3", "arms=[sft, dpo]"]) == "arms=sft_dpo+dpo.beta=0.3"
    assert label_of(["+data.path='a/../b c:d'", "experiment=x"]) == "data.path=a_.._bc_d"
    assert len(label_of([f"ppo.k{i}={i}" for i in range(40)])) == 80 and label_of([]) == ""


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
@pytest.mark.parametrize(("betas", "code", "reports"), [("0.1,0.3", 0, 2), ("-1,0.3", 2, 1)], ids=["two", "refused"])
def test_two_jobs(
    launcher: str, betas: str, code: int, reports: int, smallest: list[str], smallest_world: list[str], tmp_path: Path
) -> None:
    if f"hydra-{launcher.partition('_')[0]}-launcher" not in {found.name for found in distributions()}:
        pytest.skip(f"the extra that brings {launcher} is not installed")
    command = [sys.executable, "-m", "bench", "-m", f"hydra/launcher={launcher}"]
    command += [*smallest, *smallest_world, "arms=[sft,dpo]", f"dpo.beta={betas}", f"results_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RANK": "0"}, check=False)
    assert done.returncode == code, done.stderr
    assert f"sweep: {reports} of 2 jobs done" in done.stderr
    assert len(list(tmp_path.glob("builtin/*/report.html"))) == reports
    stages = [path.name.rpartition("-")[0] for path in (tmp_path / ".cache" / "stages").iterdir() if path.is_dir()]
    assert stages.count("sft") == 1  # the second job took that of the first
