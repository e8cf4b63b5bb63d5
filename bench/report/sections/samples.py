"""What the arms write: the same prompts for every arm."""

from bench.report.browser import by_hash, coldest, cut, samples
from bench.report.load import Run
from bench.report.page import Block, Browser, Sample, Text
from bench.report.words import arm_name, count

DEFAULT_SAMPLES = 5


def section(run: Run) -> list[Block]:
    """All samples that fit into a page to browse, and the first as they stand: by the hashes of their prompts' ids."""
    completions, prompts = coldest(run), by_hash(run.prompts.to_dict("records"))
    first = prompts[: run.setting("config.evaluation.samples_in_report", DEFAULT_SAMPLES)]
    if not completions or not first:
        return []
    held = samples(run, completions)
    known = {
        row["temperature"]
        for rows in completions.values()
        for row in rows.values()
        if row.get("temperature") is not None
    }
    temperatures = ", ".join(f"{temperature:g}" for temperature in sorted(known))
    sampled_at = f" Sampled at temperature {temperatures}." if temperatures else ""
    which = (
        f"All {count(held.of)} held-out prompts, in the order of the hashes of their ids"
        if held.shown == held.of
        else f"{count(held.shown)} of {count(held.of)} held-out prompts, the first by the hashes of their ids (what a"
        " page can hold; the run folder has all)"
    )
    return [
        Text(f"{which}: not picked by hand, and the same prompts for every arm.{sampled_at}"),
        Browser(
            held.json,
            [
                Sample(
                    prompt_id=str(row["prompt_id"]),
                    prompt=cut(row["prompt"]),
                    summaries=[
                        ("Reference summary", cut(row["reference"])),
                        *(
                            (arm_name(arm, short=True), cut(rows[row["prompt_id"]]["completion"]))
                            for arm, rows in completions.items()
                            if row["prompt_id"] in rows
                        ),
                    ],
                )
                for row in first
            ],
        ),
    ]
