"""How a run went, as blocks of its report: what it cost, what its trainers found wrong, and their curves."""

from collections.abc import Sequence

from bench.report import figures
from bench.report.columns import Column, count_column, estimate_column, share_column, table_of
from bench.report.evaluator_tables import health_table, projected_table
from bench.report.load import Run, cost_table, records
from bench.report.page import Block, Figures, Note, Table, Text
from bench.report.plot import drawn
from bench.report.words import NONE, Cell, Row, arm_name, count, estimate, is_number, number

_COLLAPSE = "collapse"
_TONES = {_COLLAPSE: "bad", "note": "open"}
_ACCELERATOR_NAMES = {
    "a100_sxm": "A100 SXM",
    "h100_sxm": "H100 SXM",
    "h100_pcie": "H100 PCIe",
    "l4": "L4",
    "rtx_4090": "RTX 4090",
    "mi300x": "MI300X",
}
_WHY_LOGPS_FALL = (
    "Why the log-probability of chosen summaries may fall in DPO: the loss rewards only the distance between"
    " chosen and rejected. Pushing the rejected summary down widens it, and the two share many words, so the"
    " chosen one is often pulled down too, and the probability goes to summaries that are in no pair. A fall"
    " by itself is no failure; judge it by the win rate, the KL and the length above."
)


def cost(run: Run) -> list[Block]:
    blocks: list[Block] = []
    plots = drawn([figures.cost_bars(run), figures.memory_bars(run)])
    if plots:
        blocks += [
            Text(
                "RLHF includes everything it needs: training the reward model, sampling the rollouts, and the"
                " value model. Stages that both arms share are counted once and shown apart."
            ),
            Figures(plots),
        ]
    rows = records(cost_table(run))
    if rows:
        blocks.append(
            table_of(
                "Cost of each stage",
                [
                    Column("stage", lambda row: Cell(row["stage"])),
                    Column("only for", lambda row: Cell(NONE if row["needed_by"] == "shared" else row["needed_by"])),
                    estimate_column("wall_s", "wall time (s)"),
                    estimate_column("device_hours", "device-hours"),
                    estimate_column("gpu_hours", "GPU-hours"),
                    estimate_column("peak_memory_gib", "peak memory (GiB)"),
                    estimate_column("peak_rss_gib", "peak RSS (GiB)"),
                    count_column("tokens_trained", "tokens trained"),
                    count_column("tokens_generated", "tokens generated"),
                    count_column("models_resident", "models resident"),
                    estimate_column("flops", "FLOPs"),
                    share_column("mfu", "MFU"),
                    estimate_column("energy_kwh", "energy (kWh)"),
                    estimate_column("co2_kg", "CO2 (kg)"),
                ],
                rows,
                "Device-hours are wall time times devices. Peak memory is the device allocator's on a GPU and"
                " the process's resident memory on a CPU. A stage taken from the cache carries the cost of"
                " making it." + _on_flops(rows),
            )
        )
    return [*blocks, *_energy(run), *_beside_the_stages(run), *_projected(run)]


def health(run: Run) -> list[Block]:
    """What the trainers found wrong with themselves; a run of before they looked has no such section."""
    watched = run.metrics.get("health")
    if not watched:
        return []
    found = records(health_table(run))
    if not found:
        return [Text(f"No findings in {', '.join(watched)}.")]
    columns = [
        Column("stage", lambda row: Cell(row["stage"])),
        Column("step", lambda row: Cell(count(row["step"]))),
        Column("kind", lambda row: Cell(row["severity"], tone=_TONES.get(row["severity"], ""))),
        Column("what is seen", lambda row: Cell(row["message"])),
        Column("what to try", lambda row: Cell(row["advice"])),
    ]
    quiet = [stage for stage in watched if stage not in {row["stage"] for row in found}]
    note = "A note explains what is normal; a warning may be mended; a collapse is a result, and is recorded as one."
    blocks: list[Block] = [
        Note(
            f"{figures.STAGE_NAMES.get(row['stage'], row['stage'])} collapsed at step {row['step']}: {row['message']}."
        )
        for row in found
        if row["severity"] == _COLLAPSE
    ]
    blocks.append(
        table_of(
            "What the trainers' checks found, each when it first fired",
            columns,
            found,
            f"{note} No findings in {', '.join(quiet)}." if quiet else note,
        )
    )
    return blocks


def training(run: Run) -> list[Block]:
    blocks: list[Block] = []
    for stages in (("sft", "preferred_ft", "reward", "judge_reward"), ("dpo",), ("ppo",), ("rloo",)):
        plots = [plot for stage in stages for plot in figures.training_plots(run, stage)]
        if plots:
            blocks.append(Figures(plots))
        if plots and stages == ("dpo",):
            blocks.append(Text(_WHY_LOGPS_FALL))
    return blocks


def _on_flops(rows: Sequence[Row]) -> str:
    if not any(is_number(row["flops"]) for row in rows):
        return ""
    return (
        " FLOPs are counted where matrix products are issued; MFU is their share of what the fastest products"
        " measured on this machine would have done in the wall time."
    )


def _energy(run: Run) -> list[Block]:
    """Where the energy was read, or why it was not."""
    stages = run.metrics.get("cost", {}).get("stages", {})
    sources = list(dict.fromkeys(source for cost in stages.values() if (source := cost.get("energy_source"))))
    lines = []
    for source in sources:
        of_source = [stage for stage, cost in stages.items() if cost.get("energy_source") == source]
        where = "" if len(sources) == 1 else f" in {', '.join(of_source)}"
        missing = source.startswith("none")
        lines.append(
            f"Energy and CO2 were not measured{where} ({source.removeprefix('none').removeprefix(': ')})."
            if missing
            else f"Energy{where} was read from {source}, which counts the whole device."
        )
    return [Text(" ".join(lines))] if lines else []


def _beside_the_stages(run: Run) -> list[Block]:
    """What is no stage's: the evaluator, the judges that are asked, and the rest."""
    costs = run.metrics.get("cost", {})
    lines = []
    if "run_wall_s" in costs and "evaluation" in costs:
        lines.append(
            f"The run took {number(costs['run_wall_s'])} s, of which {number(costs['evaluation']['wall_s'])} s went to"
            " the evaluator, the same for every arm and no arm's cost, and"
            f" {number(costs['other']['wall_s'])} s to neither stages nor evaluator. Stages taken from the cache took"
            " their time in an earlier run."
        )
    judged = costs.get("judge", {})
    if judged.get("requests") is not None:
        lines.append(
            f"The judges that are asked took {count(judged['requests'])} requests,"
            f" {count(judged.get('prompt_tokens'))} prompt tokens and {count(judged.get('completion_tokens'))}"
            " completion tokens."
        )
    return [Text(" ".join(lines))] if lines else []


def _projected(run: Run) -> list[Block]:
    rows = records(projected_table(run))
    if not rows:
        return []
    accelerators = {row["accelerator"]: row for row in rows}
    by_arm: dict[str, dict[str, Row]] = {}
    for row in rows:
        name = arm_name(row["arm"], short=True) if is_number(row["arm"]) else "All stages"
        by_arm.setdefault(name, {})[row["accelerator"]] = row
    assumed = "; ".join(
        f"{_accelerator(name)}: {number(100 * row['assumed_mfu'], 0)} % of {number(row['peak_bf16_tflops'])} TFLOP/s"
        f" (bf16, dense; {row['peak_source']})"
        for name, row in accelerators.items()
    )
    return [
        Table(
            "GPU-hours on hardware that was not used: projected, not measured",
            ["arm", "FLOPs counted", *(f"{_accelerator(name)}, projected" for name in accelerators)],
            [
                [
                    Cell(name),
                    estimate(next(iter(of_arm.values())), "flops"),
                    *(estimate(of_arm.get(accelerator, {}), "gpu_hours") for accelerator in accelerators),
                ]
                for name, of_arm in by_arm.items()
            ],
            f"FLOPs over an assumed speed. {assumed}. Sampling is bound by memory and not by arithmetic: where a stage"
            " samples, read a lower bound.",
        )
    ]


def _accelerator(name: str) -> str:
    return _ACCELERATOR_NAMES.get(name, name)
