"""The commands of the README's blocks run, in its order, each with one step of everything where it trains."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.conf_dir import conf_dir

pytestmark = [pytest.mark.long, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
POST = "SUBREDDIT: r/pets\n\nTITLE: cat {0}\n\nPOST: My cat number {0} ran away, and I looked.\n\nTL;DR:"
FILES = {
    "pairs.csv": [{"article": f"My cat number {i} ran away. It came back; what now?", "better": f"Cat {i} came back.",
                   "worse": "I have a cat, I think."} for i in range(60)],
    "all.csv": [{"model": model, "prompt": POST.format(i), "reference": f"Cat {i} ran away.", "sample": f"{model} {i}."}
                for i in range(30) for model in ("mine", "theirs")],
    "labels.csv": [{"id": i, "prompt": POST.format(i), "chosen": f"Cat {i} ran away.", "rejected": "A cat.",
                    "chosen_shown_as": "AB"[i % 2]} for i in range(30)],
}  # fmt: skip


def commands() -> list[str]:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python -m bench")]


def test_every_command_of_the_readme_runs(tmp_path: Path, smallest: list[str]):
    """The README's `make` commands are those of `.ci/run` and of a user's first minutes."""
    for name, rows in FILES.items():
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    environment = {**os.environ, "PYTHONPATH": str(conf_dir().parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for line in commands():
        _, _, module, *arguments = shlex.split(line, comments=True)
        words = [str(path) for word in arguments for path in sorted(tmp_path.glob(word)) or [word]]
        if module in ("bench", "bench.plan") and "--help" not in words:
            words += [word for word in smallest if not word.startswith("results_dir=")]
        done = subprocess.run(
            [sys.executable, "-m", module, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
        assert done.stdout.strip(), line
