"""What the arms write: the same prompts for every arm."""

import hashlib

from bench.report.load import Run, records
from bench.report.page import Block, Sample, Text
from bench.report.words import arm_name, count, is_number

DEFAULT_SAMPLES = 5


def section(run: Run) -> list[Block]:
    """The same prompts for every arm, in the order of their ids' hashes: by nobody's taste."""
    completions, prompts = records(run.completions), records(run.prompts)
    # Where several temperatures were sampled, every arm shows its lowest.
    completions.sort(key=lambda row: -row["temperature"] if is_number(row["temperature"]) else 0.0)
    coldest = {(row["arm"], row["prompt_id"]): row for row in completions}
    arms = [arm for arm in run.arms if arm != "reference" and any(of_arm == arm for of_arm, _ in coldest)]
    if not arms or not prompts:
        return []
    prompts.sort(key=lambda row: hashlib.sha256(str(row["prompt_id"]).encode("utf-8", "replace")).digest())
    shown = prompts[: run.setting("config.evaluation.samples_in_report", DEFAULT_SAMPLES)]
    known = [row["temperature"] for (arm, _), row in coldest.items() if arm in arms and is_number(row["temperature"])]
    temperatures = ", ".join(f"{temperature:g}" for temperature in sorted(set(known)))
    sampled_at = f" Sampled at temperature {temperatures}." if temperatures else ""
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
            f"{sampled_at}"
        ),
        *samples,
    ]
