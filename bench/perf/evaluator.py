"""What the evaluator itself costs, without a model: time and memory against the number of completions.

    python -m bench.perf --evaluator

A worker process per size makes completions of seeded words, puts them through the evaluator of a run (a judge that is a
formula, rewards that are looked up) and writes what a run writes. What models cost beside it is `--study`'s to tell.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.config import BudgetConfig, RunConfig
from bench.data.prompts import tldr_prompt
from bench.errors import ResourceError
from bench.evaluate import arm_numbers, comparisons
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, write_json, write_text
from bench.models import tiny
from bench.perf.measure import peak_memory_gib, provenance
from bench.perf.scaling import exponent
from bench.pipeline import evaluation, runner
from bench.pipeline.cells import headline_of
from bench.pipeline.evaluation import Evaluation
from bench.pipeline.instruments import Instruments
from bench.progress import StageBar
from bench.records import ComparisonData, Completion, EvalPrompt, PreferencePair
from bench.validation import require

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
ARMS = ("sft", "preferred_ft", "ppo", "dpo")
POST_WORDS = 250
SUMMARY_WORDS = (30, 50)
_VOCABULARY = 20_000
_PAIRS = 500
"""Held-out pairs that reward models are put to: as many at every size, so no part of the growth."""

PARTS: Mapping[str, Sequence[tuple[Any, str]]] = {
    "ROUGE": [(arm_numbers, "rouge_estimates")],
    "degeneration": [(arm_numbers, "degeneration")],
    "summary metrics": [(evaluation, "summary_estimates")],
    "KL": [(arm_numbers, "kl_numbers")],
    "verdicts": [(evaluation, "compare")],
    "win rates": [(comparisons, "win_rate"), (comparisons, "head_to_head"), (comparisons, "_by_length")],
    "McNemar": [(comparisons, "paired_wins")],
    "length control": [(comparisons, "_length_controlled")],
    "Bradley-Terry": [(evaluation, "strengths")],
    "judge's habits": [(evaluation, "judge_habits")],
    "tokens of the references": [(Instruments, "reference_lengths")],
    "files": [(runner, "_write_rows")],
}
"""Part -> its functions, by the module that calls them. What one of them calls of another is the other's time."""
OTHER = "other"


@dataclass(frozen=True)
class Completions:
    """`prompts` posts with a completion by each of `ARMS`, a function of the seed."""

    data: ComparisonData
    by_arm: Mapping[str, list[Completion]]


def completions(prompts: int, seed: int = 0) -> Completions:
    """Posts of `POST_WORDS` words, Zipf's law over the vocabulary, and summaries that quote them here and there."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnoprstuvwy", k=rng.randint(2, 9))) for _ in range(_VOCABULARY)]
    common = np.cumsum(1 / np.arange(10, _VOCABULARY + 10)).tolist()

    def words(n: int) -> list[str]:
        return rng.choices(vocabulary, cum_weights=common, k=n)

    def sentences(tokens: Sequence[str]) -> str:
        parts, at = [], 0
        while at < len(tokens):
            n = rng.randint(8, 18)
            parts.append(" ".join(tokens[at : at + n]).capitalize() + ".")
            at += n
        return " ".join(parts)

    def summary(post: Sequence[str], quoted: float) -> str:
        n, tokens = rng.randint(*SUMMARY_WORDS), []
        while len(tokens) < n:
            run, at = rng.randint(1, 8), rng.randrange(len(post) - 8)
            tokens += post[at : at + run] if rng.random() < quoted else words(run)
        if rng.random() < 0.2:
            tokens[rng.randrange(n)] = str(rng.randint(2, 90))
        if rng.random() < 0.2:
            tokens[rng.randrange(n)] = words(1)[0].capitalize()
        return sentences(tokens[:n])

    eval_prompts, by_arm = [], {arm: [] for arm in ARMS}
    for i in range(prompts):
        post = words(POST_WORDS)
        prompt = tldr_prompt("advice", " ".join(words(9)), sentences(post))
        eval_prompts.append(EvalPrompt(f"test-{i:06d}", prompt, summary(post, 0.4)))
        for place, arm in enumerate(ARMS):
            text, logp = summary(post, 0.3 + 0.1 * place), -rng.gammavariate(20, 3)
            kl = 0.0 if arm == "sft" else rng.gammavariate(4, 2)
            row = Completion(arm, eval_prompts[-1].id, text, 0.7, len(text.split()), rng.random() < 0.95)
            by_arm[arm].append(replace(row, logp=logp, ref_logp=logp - kl + rng.gauss(0, 1), kl=kl))
    pairs = [
        PreferencePair(f"pair-{i:04d}", tldr_prompt("advice", " ".join(words(9)), sentences(post := words(100))),
                       summary(post, 0.5), summary(post, 0.3))
        for i in range(_PAIRS)
    ]  # fmt: skip
    data = ComparisonData({}, {"validation": pairs}, eval_prompts, {}, gold=_gold)
    return Completions(data, by_arm)


def _noise(*texts: str) -> float:
    """A number of the texts alone, uniform in 0 to 1."""
    return zlib.crc32("\0".join(texts).encode()) / 2**32


def _gold(summaries: Sequence[tuple[str, str]]) -> list[float]:
    """The judge's formula: what it likes in a summary is by chance, but for its length."""
    return [_noise(prompt_id, text) + len(text) / 1000 for prompt_id, text in summaries]


class WithoutModels(Instruments):
    """Instruments whose scores are by chance and cost nothing."""

    def rewards(self, stage: str, summaries: Sequence[tuple[str, str]]) -> list[float]:
        return [_noise(stage, text) for _, text in summaries]

    def logratios(self, summaries: Sequence[tuple[str, str]]) -> list[float]:
        return [_noise("dpo", text) for _, text in summaries]


class Clock:
    """Wall and processor seconds of each part, what a part calls of another taken out."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._inner: list[tuple[float, float]] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append((0.0, 0.0))
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                inner_wall, inner_cpu = self._inner.pop()
                self.wall[part] = self.wall.get(part, 0.0) + wall - inner_wall
                self.cpu[part] = self.cpu.get(part, 0.0) + cpu - inner_cpu
                if self._inner:
                    outer_wall, outer_cpu = self._inner[-1]
                    self._inner[-1] = (outer_wall + wall, outer_cpu + cpu)

        return call


def evaluation_of(made: Completions, folder: Path) -> Evaluation:
    """The evaluator of a run that has these completions; its memory of what it found before is below `folder`."""
    config = RunConfig(arms=ARMS, judge=JudgeConfig(names=("gold",)), budget=BudgetConfig(max_prompt_tokens=400))
    tokenizer = tiny.train_tokenizer([prompt.prompt for prompt in made.data.eval_prompts[:200]], 4096, 2048)
    instruments = WithoutModels(config, {}, tokenizer, torch.device("cpu"), torch.float32, folder / ".cache")
    return Evaluation(headline_of(config, made.data), instruments, {}, made.by_arm)


def evaluate(found: Evaluation, folder: Path) -> None:
    """Measure, and write what a run writes."""
    write_json(folder / "metrics.json", found.metrics())
    runner._write_rows(folder, found)


def measure(n: int) -> dict[str, Any]:
    """One size, once, in this process: seconds by part, and the process's peak memory before and after."""
    clock = Clock()
    for part, functions in PARTS.items():
        for module, name in functions:
            setattr(module, name, clock.timed(part, getattr(module, name)))
    made = completions(n // len(ARMS))
    with tempfile.TemporaryDirectory() as folder:
        found = evaluation_of(made, Path(folder))
        made_mib = peak_memory_gib() * 1024
        clock.timed(OTHER, evaluate)(found, Path(folder))
    return {
        "completions": len(ARMS) * len(made.data.eval_prompts),
        "wall_s": clock.wall,
        "cpu_s": clock.cpu,
        "made_mib": made_mib,
        "peak_memory_mib": peak_memory_gib() * 1024,
    }


def run_evaluator(sizes: Sequence[int], rounds: int, out: Path) -> str:
    """Measure every size in a process of its own, round after round, write `<out>/evaluator.{json,md}`, return the
    table."""
    for n in sizes:
        require(n >= 50 * len(ARMS), "--completions", n, f"must be at least {50 * len(ARMS)}")
    runs: dict[int, list[dict[str, Any]]] = {n: [] for n in sizes}
    machine_and_code = provenance()
    with StageBar("evaluator", rounds * len(sizes), "runs") as bar:
        for _ in range(rounds):
            for n in sizes:
                runs[n].append(_in_a_process(n))
                bar.update(1)
    measured = [runs_of_size for _, runs_of_size in sorted(runs.items())]
    write_json(out / "evaluator.json", {**machine_and_code, "arms": ARMS, "measurements": measured})
    found = table(measured)
    write_text(out / "evaluator.md", found)
    return found


def _in_a_process(n: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "bench.perf.evaluator", str(n), str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode or not result.exists():
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ResourceError(f"{n} completions could not be evaluated: {reason}; lower --completions")
        return read_json(result)


def table(measured: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Markdown of the sizes, ascending, each with its rounds, of which the least counts: others on the machine add."""

    def least(of: Callable[[Mapping[str, Any]], float]) -> list[float]:
        return [min(map(of, rounds)) for rounds in measured]

    sizes = least(lambda run: run["completions"])
    wall, cpu = (least(lambda run, kind=kind: sum(run[kind].values())) for kind in ("wall_s", "cpu_s"))
    peak, made = least(lambda run: run["peak_memory_mib"]), least(lambda run: run["made_mib"])
    lines = [
        f"| completions | {' | '.join(f'{size:,.0f}' for size in sizes)} | exponent |",
        f"|---|{'---|' * len(sizes)}---|",
        _row("CPU seconds", cpu, "{:.2f}", sizes),
        _row("wall seconds", wall, "{:.2f}", sizes),
        _row("completions in 2 CPU seconds", [2 * n / s for n, s in zip(sizes, cpu, strict=True)], "{:,.0f}"),
        _row("completions in a wall second", [n / s for n, s in zip(sizes, wall, strict=True)], "{:,.0f}"),
        _row("peak memory, MiB", peak, "{:,.0f}"),
        _row("of it before the evaluation began, MiB", made, "{:,.0f}"),
        "",
        f"| CPU microseconds for one completion | {' | '.join(f'{size:,.0f}' for size in sizes)} | exponent |",
        f"|---|{'---|' * len(sizes)}---|",
    ]
    for part in (*PARTS, OTHER):
        seconds = least(lambda run, part=part: run["cpu_s"].get(part, 0.0))
        cells = [f"{1e6 * s / n:.0f}" for s, n in zip(seconds, sizes, strict=True)]
        lines.append(f"| {part} | {' | '.join(cells)} | {_exponent(sizes, seconds)} |")
    slope, _ = np.polyfit(sizes, peak, 1) if len(sizes) > 1 else (float("nan"), 0)
    own, _ = np.polyfit(sizes, made, 1) if len(sizes) > 1 else (float("nan"), 0)
    lines += [
        "",
        f"{len(ARMS)} arms, posts of {POST_WORDS} words, summaries of {SUMMARY_WORDS[0]} to {SUMMARY_WORDS[1]}; one"
        " judge, a formula, in both orders, against the reference summaries and of every pair of arms; 2,000 resamples."
        f" Least of {len(measured[0])} round(s); CPU seconds grow as completions^exponent. 1,000 completions more take"
        f" {1000 * slope:.1f} MiB more, {1000 * own:.1f} MiB of which are the texts themselves.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, values: Sequence[float], form: str, sizes: Sequence[float] = ()) -> str:
    growth = _exponent(sizes, values) if sizes else ""
    return f"| {name} | {' | '.join(form.format(value) for value in values)} | {growth} |"


def _exponent(sizes: Sequence[float], seconds: Sequence[float]) -> str:
    return f"{exponent(sizes, seconds):.2f}" if len(sizes) > 1 and min(seconds) > 0 else "-"


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), measure(int(sys.argv[1])))
