"""What a run cost: stage by stage, arm by arm, and elsewhere."""

from typing import Any

import pytest

from bench import report
from bench.report.load import records
from bench.report.page import Table
from bench.report.sections import cost


def test_the_cost_table_says_which_arm_needs_a_stage_in_the_graphs_order(make_run):
    table = cost.cost_table(report.load_run(make_run()))
    stages: Any = table.to_dict("index")

    generated = {"generate_base": "shared", "generate_sft": "shared", "generate_ppo": "ppo", "generate_dpo": "dpo"}
    assert {stage: row["needed_by"] for stage, row in stages.items()} == {
        "base": "shared",
        "sft": "shared",
        "reward": "ppo",
        "judge_reward": "shared",
        "ppo": "ppo",
        "reference_logps": "dpo",
        "dpo": "dpo",
    } | generated
    assert list(stages)[:4] == ["base", "sft", "reward", "judge_reward"]
    assert stages["ppo"]["wall_s"] == 90
    assert stages["reward"]["device_hours"] == 30 / 3600


def test_rlhf_contains_its_reward_model(make_run):
    hours = {"ppo": 0.0, "dpo": 0.0}
    for row in records(cost.arm_cost_table(report.load_run(make_run()))):
        hours[row["arm"]] += row["device_hours"]
    assert hours["ppo"] == pytest.approx((30 + 90) / 3600)  # reward model and PPO, as the fixture sets them
    assert hours["dpo"] == pytest.approx((5 + 40) / 3600)  # the reference's log-probs and DPO


def test_bars_stack_the_stages_of_an_arm(make_run, reading):
    axes = reading.axes(cost.cost_bars(report.load_run(make_run())))
    ends: dict[str, list[Any]] = {}
    for container in axes.containers:
        for bar in container.patches:
            row = axes.get_yticklabels()[round(bar.get_y() + bar.get_height() / 2)].get_text()
            ends.setdefault(row, []).append((bar.get_x(), bar.get_x() + bar.get_width()))

    def minutes(*seconds):
        return [(pytest.approx(a / 60), pytest.approx(b / 60)) for a, b in zip((0, *seconds), seconds, strict=False)]

    assert ends["RLHF (PPO)"] == minutes(30, 120, 140)  # reward model, PPO, and its completions of the test posts
    assert ends["DPO"] == minutes(5, 45, 65)
    # base, SFT and the judge's reward model, and one part for the completions of base and SFT
    assert ends["Shared by all"] == minutes(20, 60, 80, 120)
    looks = {(bar.get_facecolor(), bar.get_hatch()) for container in axes.containers for bar in container.patches[:1]}
    assert len(looks) == len(axes.containers) == 8


def test_memory_stands_by_stage_in_the_mark_of_its_arm(make_run, reading):
    axes = reading.axes(cost.memory_by_stage(report.load_run(make_run())))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    drawn = {labels[round(dot.lines[0].get_ydata()[0])]: dot.lines[0] for dot in axes.containers}
    peaks = {name: line.get_xdata()[0] for name, line in drawn.items()}  # as the fixture sets them
    assert (peaks["reward, for RLHF (PPO)"], peaks["ppo"], peaks["dpo"], peaks["sft"]) == (1.0, 1.6, 1.2, 0.9)
    assert drawn["sampling ppo"].get_color() == drawn["ppo"].get_color() != drawn["sampling dpo"].get_color()


def test_no_arm_trained_means_no_memory_by_stage(make_run):
    assert cost.memory_by_stage(report.load_run(make_run(arms=("sft",), gold=False))) is None


def test_flops_mfu_and_why_there_is_no_energy(make_run, edit, reading):
    path = make_run()

    def change(metrics):
        metrics["cost"]["evaluation"]["wall_s"], metrics["cost"]["other"]["wall_s"] = 17.0, 3.25
        metrics["cost"]["run_wall_s"] = 245.25
        metrics["cost"] |= {"apart_wall_s": 12.5, "apart_flops": 2 * 10**9}

    edit(path / "metrics.json", change)
    blocks = reading.sections(path)["Cost"]
    row = reading.cells(blocks, "cost of each stage")["ppo",]
    assert (row["FLOPs"], row["MFU"]) == ("9.00e+10", "9.0 %")  # 90 s, as the fixture sets them
    assert "energy (kWh)" not in row and "CO2 (kg)" not in row
    said = reading.texts(blocks)
    assert "Energy and CO2 were not measured (no counter was made up)." in said
    assert "The run took 245 s, of which 17.0 s went to the evaluator" in said and "3.25 s to neither" in said
    assert "to be looked at, took 12.5 s and 2.00e+09 FLOPs besides" in said


def test_what_asked_judges_bought_is_part_of_the_cost(make_run, edit, reading):
    path = make_run()
    used = {"requests": 1234, "prompt_tokens": 89012, "completion_tokens": 3456}
    edit(path / "metrics.json", lambda metrics: metrics["cost"]["judge"].update(used))
    said = reading.texts(reading.sections(path)["Cost"])
    assert "1,234 requests, 89,012 prompt tokens and 3,456 completion tokens" in said


def test_energy_that_was_read_is_shown_with_its_source(make_run, edit, reading):
    path = make_run()

    def read_ppo(metrics):
        metrics["cost"]["stages"]["ppo"] |= {"energy_kwh": 0.125, "co2_kg": 0.0625, "energy_source": "rapl+nvml"}

    edit(path / "metrics.json", read_ppo)
    blocks = reading.sections(path)["Cost"]
    table = reading.cells(blocks, "cost of each stage")
    assert (table["ppo",]["energy (kWh)"], table["ppo",]["CO2 (kg)"]) == ("0.125", "0.0625")
    assert table["dpo",]["energy (kWh)"] == "–"  # noqa: RUF001
    said = reading.texts(blocks)
    assert "Energy in ppo was read from rapl+nvml" in said
    assert "not measured in " in said and "reference_logps, reward, sft" in said


def test_hours_elsewhere_are_marked_as_projected_with_what_they_assume(make_run, reading):
    blocks = reading.sections(make_run())["Cost"]
    (table,) = (block for block in blocks if isinstance(block, Table) and "projected" in block.caption)
    assert table.columns == ["arm", "FLOPs counted", "A100 SXM, projected", "H100 SXM, projected"]
    assert "not measured" in table.caption
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    # 120 s at 1e9 FLOP/s, over 30 % of an A100's 312 TFLOP/s: 1.28 ms, in hours.
    assert rows["RLHF (PPO)"][:2] == ["1.20e+11", f"{1.2e11 / (0.3 * 312e12) / 3600:.2e}"]
    assert "30 % of 312 TFLOP/s" in table.note


def test_what_was_measured_again_stands_beside_what_was_recorded(make_run, edit, reading):
    path = make_run()
    again = {"device_hours": 0.02, "rounds": [0.019, 0.02, 0.023], "other_load": 0.25, "stages": {}}
    edit(path / "metrics.json", lambda metrics: metrics["arms"]["ppo"]["cost"].update(remeasured=again))
    table = reading.cells(reading.sections(path)["Cost"], "measured again")

    assert list(table) == [("RLHF (PPO)",)]
    row = table["RLHF (PPO)",]
    assert row["again, [least, most] of the rounds"] == "0.0200 [0.0190, 0.0230]"
    assert row["processors taken by others meanwhile"] == "25.0 %"
    assert row["as recorded"] == "0.0333"  # 120 s
