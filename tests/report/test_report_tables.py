"""Loading a run folder, and its numbers as tables."""

import json
import os
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest

from bench import report
from bench.errors import RunFolderError
from bench.report.load import records
from bench.report.sections import claims, cost, head_to_head, results, reward_model, training, world


def metrics_of(path):
    return json.loads((path / "metrics.json").read_text())


def test_arm_table_holds_the_numbers_of_metrics_json(make_run):
    path = make_run()
    arms = metrics_of(path)["arms"]

    table = results.arm_table(report.load_run(path))

    assert list(table.index) == ["base", "sft", "ppo", "dpo", "reference"]
    for arm in ("ppo", "dpo"):
        won = arms[arm]["win_rate"]["gold"]
        assert table.loc[arm, "win_rate_gold"] == won["value"]
        assert [table.loc[arm, f"win_rate_gold_{end}"] for end in ("low", "high")] == won["ci95"]
        assert table.loc[arm, "win_rate_gold_n"] == won["n"]
        assert table.loc[arm, "win_rate_gold_unparsed"] == won["unparsed"]
        assert table.loc[arm, "rougeL"] == arms[arm]["rouge"]["rougeL"]["value"]
        assert table.loc[arm, "kl_ref_high"] == arms[arm]["kl_ref"]["ci95"][1]
        assert table.loc[arm, "reward_gold"] == arms[arm]["reward"]["gold"]["value"]
        assert table.loc[arm, "reward_proxy"] == arms[arm]["reward"]["proxy"]["value"]
        assert table.loc[arm, "device_hours"] == arms[arm]["cost"]["device_hours"]
        assert table.loc[arm, "peak_memory_gib"] == arms[arm]["cost"]["peak_memory_gib"]
    assert pd.isna(table.loc["reference", "win_rate_gold"])  # the reference is not judged against itself


def test_arms_against_each_other_come_before_arms_against_baselines(make_run, edit):
    path = make_run()
    edit(
        path / "metrics.json",
        lambda metrics: metrics.update(head_to_head=dict(reversed(metrics["head_to_head"].items()))),
    )
    expected = metrics_of(path)["head_to_head"]["dpo_vs_ppo"]

    table = head_to_head.head_to_head_table(report.load_run(path))

    first = table.iloc[0]
    assert (first["arm_a"], first["arm_b"], first["judge"]) == ("dpo", "ppo", "gold")
    assert first["win_rate"] == expected["win_rate"]["gold"]["value"]
    assert first["win_rate_ties"] == expected["win_rate"]["gold"]["ties"]
    assert first["p_value"] == expected["p_value"]["gold"]
    assert len(table) == 3 * 2  # three pairs, two judges


def test_cost_table_says_which_arm_needs_a_stage(make_run):
    table = cost.cost_table(report.load_run(make_run()))
    stages: Any = table.to_dict("index")

    assert {stage: row["needed_by"] for stage, row in stages.items()} == {
        "sft": "shared",
        "reward": "ppo",
        "ppo": "ppo",
        "dpo": "dpo",
        "evaluate": "shared",
    }
    assert stages["ppo"]["wall_s"] == 90
    assert stages["reward"]["device_hours"] == 30 / 3600


def test_rlhf_contains_its_reward_model(make_run):
    table = cost.arm_cost_table(report.load_run(make_run()))
    hours = {"ppo": 0.0, "dpo": 0.0}
    for row in records(table):
        hours[row["arm"]] += row["device_hours"]
    assert hours["ppo"] == pytest.approx((30 + 90) / 3600)  # reward model and PPO, as the fixture sets them
    assert hours["dpo"] == pytest.approx(45 / 3600)


def test_training_curves_are_in_step_order(make_run):
    path = make_run()
    log = path / "training" / "sft.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join(reversed(lines)))

    curves = training.training_curves(report.load_run(path), "sft")

    assert list(curves["step"]) == list(range(1, 41))
    assert curves["loss"].iloc[0] == json.loads(lines[0])["loss"]
    assert training.training_curves(report.load_run(path), "rloo").empty


def test_claims_keep_what_their_estimate_is_read_with(make_run):
    table = claims.claims_table(report.load_run(make_run()))
    assert table.loc[1, "verdict"] == "supported"
    assert table.loc[1, "estimate"] == 120 / 45
    assert pd.isna(table.loc[1, "estimate_low"])  # measured once: no interval
    assert table.loc[4, "context"] == "kl_ref: dpo 4, ppo 6"


def test_reward_model_table_puts_rules_beside_accuracy(make_run):
    path = make_run()
    measured = metrics_of(path)["reward_model"]
    row = reward_model.reward_model_table(report.load_run(path)).loc["reward_model"]
    assert row["accuracy"] == measured["accuracy"]["value"]
    assert row["longer_wins_low"] == measured["longer_wins"]["ci95"][0]
    assert row["beats_longer_wins"] == "not decided at this n"


@pytest.mark.parametrize(
    ("arms", "gold"), [(("sft", "dpo"), True), (("sft",), False), (("base", "sft", "ppo", "dpo"), False)]
)
def test_absent_parts_leave_no_columns_and_no_error(make_run, arms, gold):
    run = report.load_run(make_run(arms=arms, gold=gold))
    assert set(results.arm_table(run).index) == set(arms)
    assert ("reward_gold" in results.arm_table(run)) is gold
    assert ("reward_model" in reward_model.reward_model_table(run).index) is ("ppo" in arms)
    assert world.trivial_policy_table(run).empty is not gold
    assert len(head_to_head.head_to_head_table(run)) == len(run.metrics["head_to_head"]) * len(run.judges)


def test_a_run_with_nothing_but_arms_still_has_every_table(make_run, edit):
    path = make_run()

    def keep_only_arms(metrics):
        arms = {"dpo": {}}
        metrics.clear()
        metrics.update(schema=1, arms=arms)

    edit(path / "metrics.json", keep_only_arms)
    run = report.load_run(path)
    assert list(results.arm_table(run).index) == ["dpo"]
    for table in (
        head_to_head.head_to_head_table,
        cost.cost_table,
        cost.arm_cost_table,
        claims.claims_table,
        reward_model.reward_model_table,
    ):
        assert table(run).empty


def test_a_folder_that_is_no_finished_run_is_refused_in_one_line(make_run, edit, tmp_path):
    def refused(path):
        with pytest.raises(RunFolderError) as caught:
            report.load_run(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no run folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no run.json" in refused(tmp_path / "empty")

    unfinished = make_run("unfinished")
    (unfinished / "metrics.json").unlink()
    assert "not finished" in refused(unfinished)

    newer = make_run("newer")
    edit(newer / "metrics.json", lambda metrics: metrics.update(schema=2))
    assert "schema 2" in refused(newer)

    broken = make_run("broken")
    (broken / "run.json").write_text('{"schema": 1')
    assert "run.json is broken" in refused(broken)

    armless = make_run("armless")
    edit(armless / "metrics.json", lambda metrics: metrics.update(arms={}))
    assert "no arms" in refused(armless)


def test_a_broken_log_is_named(make_run):
    path = make_run()
    (path / "training" / "dpo.jsonl").write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(RunFolderError, match=r"dpo\.jsonl is broken"):
        training.training_curves(report.load_run(path), "dpo")


def test_newest_run_is_the_one_that_finished_last(make_run, tmp_path):
    first, last = make_run("first"), make_run("last")
    os.utime(first / "metrics.json", (1_000, 1_000))
    os.utime(last / "metrics.json", (2_000, 2_000))
    assert report.newest_run(tmp_path) == last
    assert report.newest_run(tmp_path / "fixture") is None


def test_the_report_needs_no_model_library():
    code = "import sys, bench.report.__main__; assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True)
