"""Kill a whole run at random moments, and see that the same command ends as if nothing had been.

    python tests/pipeline/kill_at_random.py --times 50 [config overrides]

Each time, in a results folder of its own: the run is started and its process group killed (SIGKILL) at a random moment;
then the same command runs until it ends. Its metrics.json must be that of a run that was not killed, but for costs; no
stage that was finished at the kill may have been made again; and nothing half-made may be left. A table says what was
met; the exit code is 1 where something was not as it should be. The runs are forked from one process that has imported
everything, so that the kills fall into the work and not into imports.
"""

import argparse
import copy
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

SMOKE = """
    model=tiny model.hidden_size=32 model.layers=1 model.heads=2 model.vocabulary=300 budget=smoke
    budget.demonstrations=16 budget.pairs=16 budget.max_prompt_tokens=256 budget.ppo_episodes=16
    sft.batch_size=4 sft.micro_batch_size=4 reward.batch_size=4 reward.micro_batch_size=4 dpo.batch_size=4
    dpo.micro_batch_size=4 ppo.batch_size=4 ppo.micro_batch_size=4 ppo.num_mini_batches=1
    data=synthetic data.demonstrations=16 data.preference_pairs=16 data.judge_pairs=8 data.validation_pairs=8
    data.eval_prompts=4 evaluation.bootstrap_resamples=100 checkpoint_every_s=0
""".split()
"""The built-in comparison in seconds: several steps of every trainer, each of them saved."""


@dataclass(frozen=True)
class Trial:
    """What came of one kill; `problems` is empty where all was as it should be."""

    killed_after_s: float
    during: str
    finished_before: int
    resumed: bool
    problems: list[str]

    def row(self, number: int) -> str:
        verdict = "; ".join(self.problems) or "same numbers, nothing made twice"
        how = "from a checkpoint" if self.resumed else ""
        start = f"{number:>3}  {self.killed_after_s:>7.2f}  {self.during:<16} {self.finished_before:>8}"
        return f"{start}  {how:<17} {verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, help="kills (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("overrides", nargs="*", help="of the run; a comparison of seconds where none are given")
    options = parser.parse_args()
    overrides: list[str] = options.overrides or [*SMOKE]
    moments = random.Random(options.seed)
    _import_all()
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole")
        start = time.perf_counter()
        if (code := _ended(_start(whole, overrides))) != 0:
            print(_log(whole)[-2000:], f"the run that was not killed ended with {code}", sep="\n")
            return 1
        seconds = time.perf_counter() - start
        print(f"a run takes {seconds:.1f} s\n")
        print(f"{'':>3}  {'after s':>7}  {'during':<16} {'finished':>8}")
        trials: list[Trial] = []
        for number in range(1, options.times + 1):
            trials.append(_trial(Path(scratch, "killed"), overrides, whole, moments, seconds))
            print(trials[-1].row(number), flush=True)
    wrong = sum(bool(trial.problems) for trial in trials)
    inside = sum(trial.resumed for trial in trials)
    print(f"\n{len(trials) - wrong} of {len(trials)} as if nothing had been; {inside} went on inside a stage")
    return 1 if wrong else 0


def without_costs(metrics: dict[str, Any]) -> dict[str, Any]:
    """metrics.json without what times, memory and bought verdicts feed (results/README.md)."""
    metrics = copy.deepcopy(metrics)
    metrics.pop("cost", None)
    for part in ("arms", "judges"):
        for numbers in metrics.get(part, {}).values():
            for key in ("cost", "usage"):
                numbers.pop(key, None)
    metrics["verdicts_on_claims"] = [row for row in metrics["verdicts_on_claims"] if row["claim"] not in (1, 2)]
    return metrics


def _trial(folder: Path, overrides: list[str], whole: Path, moments: random.Random, seconds: float) -> Trial:
    moment = seconds
    while True:  # until the kill comes before the end
        shutil.rmtree(folder, ignore_errors=True)
        moment = moments.uniform(0, moment)
        process = _start(folder, overrides)
        time.sleep(moment)
        os.killpg(process, signal.SIGKILL)
        if _ended(process) == -signal.SIGKILL and not list(folder.glob("*/*/metrics.json")):
            break
    before, during = _finished(folder), _in_work(folder)
    seen = len(_log(folder))
    problems = []
    if (code := _ended(_start(folder, overrides))) != 0:
        problems.append(f"ended with {code}: {_log(folder).strip().splitlines()[-1][:200]}")
    else:
        after = _finished(folder)
        problems += [f"{name} was made again" for name, made in before.items() if after.get(name) != made]
        if _metrics(folder) != _metrics(whole):
            problems.append(f"other numbers: {_first_difference(_metrics(whole), _metrics(folder))}")
        left = [path.name for path in folder.rglob(".*") if re.search(r"\.(partial|damaged|holder|\w{8})$", path.name)]
        problems += [f"left behind: {name}" for name in left]
    return Trial(moment, during, len(before), "goes on" in _log(folder)[seen:], problems)


def _import_all() -> None:
    from bench import arms

    for module in ("bench.cli.bind", "bench.pipeline.runner", "bench.report", "bench.report.expected"):
        import_module(module)
    for stage in arms.STAGES:
        import_module(stage.module)


def _start(folder: Path, overrides: list[str]) -> int:
    """A run of its own process group, forked; what it says is appended to a log beside the folder."""
    process = os.fork()
    if process:
        os.setpgid(process, process)
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from bench.cli import app

        sys.argv = ["bench", *overrides, f"results_dir={folder}"]
        try:
            code = app.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _ended(process: int) -> int:
    """Its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _log(folder: Path) -> str:
    path = Path(f"{folder}.log")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _finished(folder: Path) -> dict[str, int]:
    """Finished stage -> when it was made."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(".cache/stages/[!.]*/stage.json")}


def _in_work(folder: Path) -> str:
    found = [path.name.rpartition("-")[0].lstrip(".") for path in folder.glob(".cache/stages/.*.partial")]
    return found[0] if found else "-"


def _metrics(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*/*/metrics.json")
    return without_costs(json.loads(path.read_text(encoding="utf-8")))


def _first_difference(there: Any, here: Any, path: str = "") -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            if there.get(key) != here.get(key):
                return _first_difference(there.get(key), here.get(key), f"{path}.{key}" if path else key)
    return f"{path} is {here!r}, not {there!r}"


if __name__ == "__main__":
    sys.exit(main())
