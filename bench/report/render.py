"""The report of one finished run."""

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.report import check_sections, conduct_sections, result_sections
from bench.report.load import (
    COMPARED,
    NOT_TRAINED,
    Run,
    arm_table,
    head_to_head_table,
    load_run,
    records,
    reward_model_table,
)
from bench.report.page import Block, Details, Page, Sample, Section, Text, mapping_table, write_page
from bench.report.words import NONE, Row, arm_name, count, in_words, is_number, judge_name, number

DEFAULT_SAMPLES = 5


def render_run(run_dir: Path | str, out_dir: Path | str | None = None) -> Path:
    """Write figures/, report.md and report.html of the run in `run_dir`; returns report.html's path.

    Args:
        out_dir: where to write; the run folder itself by default.

    Raises:
        RunFolderError: the folder holds no finished run of this schema.
        ResourceError: the folder cannot be written.
    """
    run = load_run(run_dir)
    return write_page(run_page(run), Path(out_dir) if out_dir is not None else run.path)


def run_page(run: Run) -> Page:
    """The report of `run` as data. Parts that the run has no numbers for are left out."""
    sections = [
        Section("Results", result_sections.results(run)),
        Section("Length", result_sections.length(run)),
        Section("Head to head", result_sections.head_to_head(run)),
        Section("Claims", result_sections.claims(run)),
        Section("Cost", conduct_sections.cost(run)),
        Section("Health", conduct_sections.health(run)),
        Section("Training", conduct_sections.training(run)),
        Section("Best of n", check_sections.best_of_n(run)),
        Section("Degeneration", check_sections.degeneration(run)),
        Section("Judges", check_sections.judges(run)),
        Section("Reward model", check_sections.reward_models(run)),
        Section("Built-in world", check_sections.world(run)),
        Section("Samples", _samples(run)),
        Section("How it was made", _provenance(run)),
    ]
    experiment = run.setting("experiment", run.path.parent.name)
    run_id = run.setting("run_id", run.path.name)
    return Page(
        title="RLHF against DPO on summarization",
        subtitle=f"experiment {experiment}, run {run_id}, seed {run.setting('seed', NONE)}",
        answer=answer(run),
        sections=[section for section in sections if section.blocks],
    )


def answer(run: Run) -> list[str]:
    """What the run found, in plain sentences made from its numbers: effect, cost, and what to distrust."""
    lines = []
    pairs = [row for row in records(head_to_head_table(run)) if {row["arm_a"], row["arm_b"]} <= COMPARED]
    if pairs:
        judge = next(judge for judge in run.judges if judge in {row["judge"] for row in pairs})
        found = [head_to_head_in_words(row) for row in pairs if row["judge"] == judge]
        lines.append(f"By the {judge_name(judge)}: {'; '.join(found)}.")
    costs = [
        f"{arm_name(row['arm'], short=True)} {number(row['device_hours'])}"
        for row in records(arm_table(run))
        if row["arm"] not in NOT_TRAINED and is_number(row.get("device_hours"))
    ]
    if costs:
        what_counts = " (RLHF includes its reward model and rollouts)" if "ppo" in run.arms else ""
        lines.append(f"Device-hours beyond the shared SFT model: {', '.join(costs)}{what_counts}.")
    collapsed = [arm_name(row["arm"]) for row in records(arm_table(run)) if row.get("collapsed") is True]
    if collapsed:
        lines.append(f"Collapsed in training: {', '.join(collapsed)}; see Health for where and what to try.")
    verdicts = {row["scorer"]: row["beats_longer_wins"] for row in records(reward_model_table(run))}
    if verdicts.get("reward_model", "") not in ("", "supported"):
        lines.append(
            "Read with care: the reward model that PPO trained against is not shown to beat the rule"
            " “the longer summary wins”."
        )
    return lines or ["This run compares no two arms; its measurements are below."]


def head_to_head_in_words(row: Row) -> str:
    """One pair as a clause: who beats whom if the interval excludes one half, else that it is not decided."""
    first, second = arm_name(row["arm_a"]), arm_name(row["arm_b"])
    posts = f"{in_words(row, 'win_rate')} of {count(row.get('win_rate_n'))} posts"
    if row["win_rate_low"] > 0.5:
        return f"{first} beats {second} on {posts}"
    if row["win_rate_high"] < 0.5:
        return f"{first} loses to {second}, winning on {posts}"
    return f"{first} against {second} is not decided at this n ({first} wins on {posts})"


def _samples(run: Run) -> list[Block]:
    """The same prompts for every arm, in the order of their ids' hashes: by nobody's taste."""
    completions, prompts = records(run.completions), records(run.prompts)
    # Where several temperatures were sampled, every arm shows its lowest.
    completions.sort(key=lambda row: -row["temperature"])
    coldest = {(row["arm"], row["prompt_id"]): row for row in completions}
    arms = [arm for arm in run.arms if arm != "reference" and any(of_arm == arm for of_arm, _ in coldest)]
    if not arms or not prompts:
        return []
    prompts.sort(key=lambda row: hashlib.sha256(str(row["prompt_id"]).encode("utf-8", "replace")).digest())
    shown = prompts[: run.setting("config.evaluation.samples_in_report", DEFAULT_SAMPLES)]
    temperatures = sorted({row["temperature"] for (arm, _), row in coldest.items() if arm in arms})
    samples = [
        Sample(
            prompt_id=str(row["prompt_id"]),
            prompt=row["prompt"],
            summaries=[
                ("Reference summary", row["reference"]),
                *(
                    (arm_name(arm, short=True), coldest[arm, row["prompt_id"]]["completion"])
                    for arm in arms
                    if (arm, row["prompt_id"]) in coldest
                ),
            ],
        )
        for row in shown
    ]
    if not samples:
        return []
    return [
        Text(
            f"The first {len(samples)} of {count(len(prompts))} held-out prompts by the hashes of their ids:"
            " not picked by hand, and the same prompts for every arm."
            f" Sampled at temperature {', '.join(f'{temperature:g}' for temperature in temperatures)}."
        ),
        *samples,
    ]


def _provenance(run: Run) -> list[Block]:
    get = run.setting
    commit, device = get("git.commit"), get("device", {})
    reused = [stage for stage, made in get("stages", {}).items() if made.get("reused")]
    made = mapping_table(
        "What made these numbers",
        {
            "command": get("command"),
            "config hash": get("config_hash"),
            "commit": f"{commit} with uncommitted changes" if commit and get("git.dirty") else commit,
            "seed": get("seed"),
            "device": " x ".join(str(device[key]) for key in ("count", "name") if key in device) or None,
            "data": ", ".join(f"{key} {value}" for key, value in get("data.source", {}).items()) or None,
            "data hash": get("data.hash"),
            "stages from cache": ", ".join(reused) or "none",
            "started": get("started"),
            "finished": get("finished"),
            "versions": ", ".join(f"{name} {of}" for name, of in sorted(get("versions", {}).items())) or None,
        },
    )
    blocks: list[Block] = [made, Details("The whole configuration", _json(get("config", {})))]
    if run.metrics.get("data"):
        blocks.append(Details("Data statistics", _json(run.metrics["data"])))
    return blocks


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
