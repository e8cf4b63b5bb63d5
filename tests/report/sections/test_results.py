"""What each arm reached: table, bars and the verdicts behind them."""

import pandas as pd
import pytest

from bench import report
from bench.report.sections import results


def test_the_arm_table_holds_the_numbers_of_metrics_json(make_run, reading):
    path = make_run()
    arms = reading.metrics(path)["arms"]

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


def test_each_arm_stands_with_interval_and_n(make_run, reading):
    path = make_run()
    won = reading.metrics(path)["arms"]["dpo"]["win_rate"]["gold"]
    row = reading.cells(reading.sections(path)["Results"], "arms, with")["DPO",]
    assert row["win rate, gold judge"] == reading.per_cent(won, with_n=True)


def test_verdicts_that_left_n_are_counted(make_run, edit, reading):
    path = make_run()
    counts = {"n": 38, "ties": 7, "unparsed": 2}
    edit(path / "metrics.json", lambda metrics: metrics["arms"]["dpo"]["win_rate"]["gold"].update(counts))
    table = reading.cells(reading.sections(path)["Results"], "verdicts behind the win rates")
    assert table["DPO",]["gold judge"] == "38 / 7 / 2"
    assert ("Reference",) not in table


def test_bars_are_in_per_cent_with_their_intervals(make_run, reading):
    run = report.load_run(make_run())
    rows = results.arm_table(run).to_dict("index")
    axes = reading.axes(results.win_rate_bars(run)[0])
    arms = ["base", "sft", "ppo", "dpo"]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([100 * rows[arm]["win_rate_gold"] for arm in arms])
    (errors,) = (container for container in axes.containers if hasattr(container, "has_yerr"))
    segments = errors.lines[2][0].get_segments()
    for arm, segment in zip(arms, segments, strict=True):
        ends = [100 * rows[arm]["win_rate_gold_low"], 100 * rows[arm]["win_rate_gold_high"]]
        assert list(segment[:, 1]) == pytest.approx(ends)


def test_a_collapsed_arm_is_marked_where_its_numbers_stand(collapsed_dir, reading):
    table = reading.cells(reading.sections(collapsed_dir)["Results"], "arms, with")
    assert ("RLHF (PPO), collapsed",) in table and ("DPO",) in table
    plot = results.win_rate_bars(report.load_run(collapsed_dir))[0]
    assert "RLHF (PPO) (collapsed)" in plot.alt and "DPO (collapsed)" not in plot.alt
    labels = [label.get_text() for label in reading.axes(plot).get_xticklabels()]
    assert labels == ["SFT", "Best of n", "RLHF (PPO)\n(collapsed)", "DPO"]
