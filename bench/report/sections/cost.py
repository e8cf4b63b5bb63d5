"""What it cost: stage by stage, arm by arm, and what it would on other hardware."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.arms import REFERENCE, STAGES, arm_of, stage_of
from bench.report.columns import ARM, Column, count_column, estimate_column, share_column, table_of
from bench.report.load import NOT_TRAINED, Run, estimate_columns, frame, records, to_number
from bench.report.over_cost import win_rate_vs_cost
from bench.report.page import Block, Figures, Note, Table, Text
from bench.report.plot import NEUTRAL, SERIES, WIDE, Plot, arm_colour, dots, drawn, new_axes, rows_axis, styled
from bench.report.policies import policy_points
from bench.report.words import NONE, Cell, Row, arm_name, count, estimate, is_number, number, plain, time_unit

_COST_FIELDS = (
    "wall_s",
    "cpu_s",
    "other_load",
    "device_hours",
    "gpu_hours",
    "peak_memory_gib",
    "peak_rss_gib",
    "devices",
    "tokens_trained",
    "tokens_generated",
    "models_resident",
    "flops",
    "mfu",
    "energy_kwh",
    "co2_kg",
)
_ACCELERATOR_NAMES = {
    "a100_sxm": "A100 SXM",
    "h100_sxm": "H100 SXM",
    "h100_pcie": "H100 PCIe",
    "l4": "L4",
    "rtx_4090": "RTX 4090",
    "mi300x": "MI300X",
}
_PLACE = {stage.name: place for place, stage in enumerate(STAGES)}
_PART_COLOURS = {"reward": SERIES[0], "judge_reward": SERIES[1], "reference_logps": "#B98000"}
"""Of stages that make no arm; one that makes an arm's policy has the arm's colour."""
_SAMPLING = "generate_"


def section(run: Run) -> list[Block]:
    blocks: list[Block] = []
    plots = drawn([cost_bars(run), memory_by_stage(run), *_win_rates(run)])
    if plots:
        blocks += [
            Text(
                "RLHF includes everything it needs: training the reward model, sampling the rollouts, and the"
                " value model. Stages that all arms share are counted once and shown apart."
            ),
            Figures(plots),
        ]
    rows = records(cost_table(run))
    if busy := run.metrics.get("cost", {}).get("busy"):
        blocks.append(
            Note(
                f"Measured on a busy machine: {', '.join(busy)}. Their wall time and device-hours are as much the other"
                " work's as theirs; FLOPs are not moved by it, and CPU time less."
            )
        )
    if rows:
        blocks.append(
            table_of(
                "Cost of each stage",
                [
                    Column("stage", lambda row: Cell(row["stage"])),
                    Column("only for", lambda row: Cell(NONE if row["needed_by"] == "shared" else row["needed_by"])),
                    estimate_column("wall_s", "wall time (s)"),
                    estimate_column("cpu_s", "CPU time (s)"),
                    share_column("other_load", "processors taken by others"),
                    estimate_column("device_hours", "device-hours"),
                    *([estimate_column("gpu_hours", "GPU-hours")] if any(row["gpu_hours"] > 0 for row in rows) else []),
                    estimate_column("peak_memory_gib", "peak memory (GiB)"),
                    *([estimate_column("peak_rss_gib", "peak RSS (GiB)")] if _has_own_memory(rows) else []),
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
    return [*blocks, *_again(run), *_energy(run), *_beside_the_stages(run), *_projected(run)]


def _win_rates(run: Run) -> list[Plot | None]:
    return [win_rate_vs_cost(policy_points([run]), judge) for judge in run.judges[:1]]


def remeasured_table(run: Run) -> pd.DataFrame:
    """One row per arm whose stages were run again: `device_hours` as recorded, `again`, `again_low` and `again_high` of
    the rounds, `other_load` meanwhile."""
    rows = []
    for arm in run.arms:
        cost = run.metrics["arms"][arm].get("cost") or {}
        if again := cost.get("remeasured"):
            hours = {"value": again["device_hours"], "ci95": [min(again["rounds"]), max(again["rounds"])]}
            row = {"arm": arm, "device_hours": to_number(cost.get("device_hours"))} | estimate_columns("again", hours)
            rows.append(row | {"other_load": to_number(again["other_load"])})
    return frame(rows, "arm", "device_hours", "again", "again_low", "again_high", "other_load")


def _again(run: Run) -> list[Block]:
    rows = records(remeasured_table(run))
    if not rows:
        return []
    return [
        table_of(
            "Measured again: the arms' device-hours beyond the SFT model",
            [
                ARM,
                estimate_column("device_hours", "as recorded"),
                estimate_column("again", "again, [least, most] of the rounds"),
                share_column("other_load", "processors taken by others meanwhile"),
            ],
            rows,
            "Some warm steps of each stage once more, the stages in turns: their seconds per FLOP times the FLOPs of"
            " the whole stage. The brackets are no interval. Claim 1 goes by these.",
        )
    ]


def cost_table(run: Run) -> pd.DataFrame:
    """One row per stage, in the graph's order: its cost; `needed_by`: the trained arms that need it, or whose
    completions it samples, else `shared`."""
    rows = []
    for stage, cost in _in_order(run.metrics.get("cost", {}).get("stages", {})):
        trained = [arm for arm in run.arms if arm not in NOT_TRAINED]
        needed_by = [arm for arm in trained if stage in _arm_stages(run, arm) or _is_beside(stage, arm)]
        rows.append(
            {"stage": stage, "needed_by": ", ".join(needed_by) or "shared"}
            | {field: to_number(cost.get(field)) for field in _COST_FIELDS}
        )
    return pd.DataFrame(rows, columns=["stage", "needed_by", *_COST_FIELDS]).set_index("stage")


def arm_cost_table(run: Run) -> pd.DataFrame:
    """One row per trained arm and stage that it needs beyond the shared SFT model.

    Columns: `arm`, `stage`, `device_hours`, `gpu_hours`, `peak_memory_gib`.
    """
    fields = ("device_hours", "gpu_hours", "peak_memory_gib")
    rows = [
        {"arm": arm, "stage": stage} | {field: to_number(cost.get(field)) for field in fields}
        for arm in run.arms
        if arm not in NOT_TRAINED
        for stage, cost in _in_order(_arm_stages(run, arm))
    ]
    return pd.DataFrame(rows, columns=["arm", "stage", *fields])


def projected_table(run: Run) -> pd.DataFrame:
    """One row per trained arm, and one for all stages of the run (`arm` None), and accelerator: GPU-hours there.

    They are projected from counted FLOPs at `assumed_mfu` of `peak_bf16_tflops`, not measured.
    """
    costs = [(arm, run.metrics["arms"][arm].get("cost") or {}) for arm in run.arms]
    rows = [
        {"arm": arm, "flops": to_number(cost.get("flops"))} | projection
        for arm, cost in [*costs, (None, run.metrics.get("cost", {}))]
        if cost.get("flops")
        for projection in cost.get("projected", [])
    ]
    return frame(rows, "arm", "flops", "accelerator", "gpu_hours", "assumed_mfu", "peak_bf16_tflops", "peak_source")


@styled
def cost_bars(run: Run) -> Plot | None:
    """Device time by stage: each trained arm beyond the SFT model, the sampling of its completions behind it, and what
    is shared apart."""
    table = records(cost_table(run))
    shared = [{**row, "bar": "Shared by all"} for row in table if row["needed_by"] == "shared"]
    of_arms = [{**row, "bar": arm_name(row["arm"], short=True)} for row in records(arm_cost_table(run))]
    sampled = {row["stage"].removeprefix(_SAMPLING): row for row in table if row["stage"].startswith(_SAMPLING)}
    of_arms += [
        {**row, "bar": arm_name(arm, short=True)} for arm, row in sampled.items() if row["needed_by"] != "shared"
    ]
    segments = [row for row in shared + of_arms if is_number(row["device_hours"]) and row["device_hours"] > 0]
    if not segments:
        return None
    total = dict.fromkeys((row["bar"] for row in segments), 0.0)
    parts: dict[str, dict[str, float]] = {}  # part -> bar -> hours; what samples completions is one part
    for row in segments:
        part = "sampling the test posts" if row["stage"].startswith(_SAMPLING) else row["stage"]
        of_part = parts.setdefault(part, dict.fromkeys(total, 0.0))
        of_part[row["bar"]] += row["device_hours"]
        total[row["bar"]] += row["device_hours"]
    unit = time_unit(total.values())
    figure, axes = new_axes((WIDE[0], 1.3 + 0.32 * max(len(total), 0.7 * len(parts))))
    ends = dict.fromkeys(total, 0.0)
    for part, of_part in sorted(parts.items(), key=lambda item: item[0] not in _PLACE):
        held = [bar for bar, hours in of_part.items() if hours > 0]
        axes.barh(
            [[*total].index(bar) for bar in held],
            [of_part[bar] * unit.per_hour for bar in held],
            left=[ends[bar] * unit.per_hour for bar in held],
            label=plain(part).replace("_", " "),
            height=0.6,
            **_part_style(part),
        )
        for bar in held:
            ends[bar] += of_part[bar]
    rows_axis(axes, [*total])
    axes.set(title="Cost by stage", xlabel=f"device time (wall time x devices), {unit.sign}")
    figure.legend(loc="outside right upper", title="stage", alignment="left")
    told = [f"{row['bar']}, {row['stage']} {unit.write(row['device_hours'])}" for row in segments]
    caption = (
        "Measured once, so without an interval. Sampling the test posts stands behind its arm and is in no arm's device"
        " time elsewhere. The length of a bar beyond the shared one is what an arm costs."
    )
    alt = f"Device time, {unit.sign}: {'; '.join(told)}."
    return Plot("cost_device_hours", "Cost by stage", alt, figure, caption)


@styled
def memory_by_stage(run: Run) -> Plot | None:
    """Peak memory of every stage, in the mark of the arm that it is for."""
    rows = [row for row in records(cost_table(run)) if is_number(row["peak_memory_gib"]) and row["peak_memory_gib"] > 0]
    if not rows or all(row["needed_by"] == "shared" for row in rows):
        return None
    rows = [{**row, "arm": row["needed_by"] if row["needed_by"] in run.arms else REFERENCE} for row in rows]
    figure, axes = dots([_stage_and_arms(row) for row in rows], rows, "peak_memory_gib", among=run.arms)
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row['peak_memory_gib']:.2f}",
            (row["peak_memory_gib"], place),
            (7, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xlim(0, 1.18 * max(row["peak_memory_gib"] for row in rows))
    axes.set(title="Peak memory by stage", xlabel="GiB")
    told = ", ".join(f"{row['stage']} {row['peak_memory_gib']:.2f}" for row in rows)
    caption = (
        "Measured once, so without an interval. Coloured: the stages of one arm, of which the highest is what the arm"
        " needs; dark: shared."
    )
    return Plot("cost_peak_memory", "Peak memory by stage", f"Peak memory, GiB: {told}.", figure, caption)


def _part_style(part: str) -> dict[str, Any]:
    """A stage's colour; of sampling, which is no stage of training, a hatch."""
    if part not in _PLACE:
        return {"color": "#ffffff", "edgecolor": NEUTRAL, "hatch": "////", "linewidth": 0.8}
    return {"color": _PART_COLOURS.get(part) or arm_colour(part), "edgecolor": "#ffffff"}


def _stage_and_arms(row: Row) -> str:
    stage = row["stage"].replace(_SAMPLING, "sampling ").replace("_", " ")
    names = [arm_name(arm, short=True) for arm in row["needed_by"].split(", ") if arm != "shared"]
    own = not names or row["stage"] == row["needed_by"] or _is_beside(row["stage"], row["needed_by"])
    return plain(stage) if own else f"{plain(stage)}, for {' and '.join(names)}"


def _is_beside(stage: str, arm: str) -> bool:
    """Whether the stage is for this arm alone, and no part of what it cost: its summaries, or its checkpoint's
    choice."""
    return stage == f"{_SAMPLING}{arm}" or stage_of(stage).inputs.get("training") == arm_of(arm).stage


def _in_order(stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(stages.items(), key=lambda stage: _PLACE.get(stage[0], len(_PLACE)))


def _arm_stages(run: Run, arm: str) -> Mapping[str, Mapping[str, Any]]:
    return (run.metrics["arms"][arm].get("cost") or {}).get("stages", {})


def _has_own_memory(rows: Sequence[Row]) -> bool:
    """Whether the device's memory is another than the process's, as on a GPU."""
    return any(is_number(row["peak_rss_gib"]) and row["peak_rss_gib"] != row["peak_memory_gib"] for row in rows)


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
    if costs.get("apart_wall_s"):
        lines.append(
            f"Samples that trainers took on the way, to be looked at, took {number(costs['apart_wall_s'])} s and"
            f" {number(costs['apart_flops'])} FLOPs besides: no stage's and no arm's cost."
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
