"""What a run's folder should hold and does not, so that no reader takes a part for the whole."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bench.arms import REFERENCE, STAGES
from bench.report.by_prompt import keeps_points
from bench.report.load import Run
from bench.report.page import Block, Note
from bench.report.words import arm_name, count, judge_name

_TRAINED = {stage.name for stage in STAGES if stage.settings is not None}
_OF_A_RUN = ("length_tokens", "kl_ref", "rouge")


def section(run: Run) -> list[Block]:
    return [Note(f"Missing: {what}.") for what in missing(run)]


def missing(run: Run) -> list[str]:
    """A clause for everything that is not there: files, rows of them, and numbers that metrics.json should have."""
    return [*_files(run), *_numbers(run)]


def _files(run: Run) -> Iterator[str]:
    arms = [arm for arm in run.arms if arm != REFERENCE]
    ids = {row: place for place, row in enumerate(run.prompts["prompt_id"])}
    if not ids:
        yield "prompts.jsonl is not in the run folder, or empty: no samples are shown"
    written: dict[str, set[str]] = {}
    for row in run.completion_rows:
        written.setdefault(row["arm"], set()).add(row["prompt_id"])
    if not (run.path / "completions").is_dir():
        yield "completions/ is not in the run folder: no samples are shown"
    else:
        for arm in arms:
            if arm not in written and not (run.path / "completions" / f"{arm}.jsonl").exists():
                yield f"completions/{arm}.jsonl is not in the run folder: no samples of {arm_name(arm)} are shown"
            elif lacking := len(ids.keys() - written.get(arm, set())):
                yield f"completions/{arm}.jsonl has nothing on {count(lacking)} of {count(len(ids))} prompts"
    if not (run.path / "verdicts").is_dir():
        yield (
            "verdicts/ is not in the run folder: samples are shown with what by_prompt.json has, both orders as one"
            if keeps_points(run)
            else "verdicts/ is not in the run folder: samples are shown without verdicts"
        )
    else:
        for judge in run.judges:
            if judge not in run.verdicts:
                yield f"verdicts/{judge}.jsonl is not in the run folder: samples are shown without its verdicts"
            elif lacking := _unjudged(run, judge, ids):
                yield f"verdicts/{judge}.jsonl has nothing on {lacking}"
    stages = [stage for stage in run.metrics.get("health", {}) if stage in _TRAINED]
    if stages and not (run.path / "training").is_dir():
        yield "training/ is not in the run folder: no training curves are drawn"
    else:
        for stage in stages:
            if run.training.get(stage) is None:
                yield f"training/{stage}.jsonl is not in the run folder: no training curves of it are drawn"
            elif run.training[stage].empty:
                yield f"training/{stage}.jsonl is empty: no training curves of it are drawn"


def _unjudged(run: Run, judge: str, ids: dict[str, int]) -> str:
    """How many pairs the judge's file leaves out; empty for none."""
    against = [(arm, REFERENCE) for arm in run.arms if judge in run.metrics["arms"][arm].get("win_rate", {})]
    pairs = [_arms(name) for name, of in run.metrics.get("head_to_head", {}).items() if judge in of.get("win_rate", {})]
    duels = [*against, *pairs]
    if not duels or not ids:
        return ""
    letters = run.verdicts[judge].letters(ids, duels).reshape(len(ids), len(duels), 2)
    lacking = int(np.all(letters == ord("."), axis=2).sum())
    return f"{count(lacking)} of {count(len(ids) * len(duels))} pairs" if lacking else ""


def _arms(pair: str) -> tuple[str, str]:
    first, _, second = pair.partition("_vs_")
    return first, second


def _numbers(run: Run) -> Iterator[str]:
    """Of those that every run has; what a scoring of files made elsewhere lacks, it says itself."""
    if run.setting("kind") == "score":
        return
    arms = {arm: run.metrics["arms"][arm] for arm in run.arms if arm != REFERENCE}
    for arm, numbers in arms.items():
        rates = numbers.get("win_rate", {})
        for judge in run.judges if any("win_rate" in of for of in arms.values()) else ():
            if judge not in rates:
                yield f"metrics.json has no win rate of {arm_name(arm)} by the {judge_name(judge)}"
        for name in _OF_A_RUN:
            if numbers.get(name) is None:
                yield f"metrics.json has no {name} of {arm_name(arm)}"
    duels = run.metrics.get("head_to_head", {})
    known = {frozenset(_arms(pair)) for pair in duels}
    names = sorted(arms)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if frozenset((first, second)) not in known:
                yield f"metrics.json has no head to head of {arm_name(first)} and {arm_name(second)}"
    fields = {field for of in duels.values() for field in _fields(of)}
    for pair, of in duels.items():
        for field in sorted(fields - _fields(of)):
            yield f"metrics.json has no {field} of {pair}"
    for name in ("cost", "verdicts_on_claims"):
        if not run.metrics.get(name):
            yield f"metrics.json has no {name}"


def _fields(of: Mapping[str, Any]) -> set[str]:
    """`win_rate.gold`, `p_value.gold`: what a head to head has by each judge, or once."""
    parts = {name: part if isinstance(part, Mapping) and "value" not in part else {} for name, part in of.items()}
    return {".".join((name, *judge)) for name, part in parts.items() for judge in ([(key,) for key in part] or [()])}
