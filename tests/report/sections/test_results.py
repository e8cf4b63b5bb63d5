"""What each arm reached: table, dots and the verdicts behind them."""

import pandas as pd
import pytest

from bench import report
from bench.report.page import Table
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


def test_six_numbers_answer_and_the_rest_is_folded(make_run, reading):
    path = make_run()
    metrics = reading.metrics(path)
    main, more = (block for block in reading.sections(path)["Results"] if isinstance(block, Table))
    dpo = metrics["arms"]["dpo"]
    assert main.caption.endswith("over 40 posts") and not main.folded and more.folded
    row = reading.cells([main], "arms, with")["DPO",]
    assert {name: value.removeprefix("best ") for name, value in row.items() if "judge" not in name} == {
        "arm": "DPO",
        "KL to SFT (nats)": reading.number(dpo["kl_ref"]),
        "length (tokens)": reading.number(dpo["length_tokens"], 1),
        "device time (min)": "0.75",  # 45 s
    }
    for judge, name in (("gold", "gold judge"), ("reward_model", "reward-model judge")):
        assert row[f"win rate, {name}"].replace("best ", "") == reading.per_cent(dpo["win_rate"][judge])
    assert row["at equal length, gold judge"] == reading.per_cent(dpo["win_rate_length_controlled"]["gold"])
    assert {"ROUGE-L", "gold reward", "proxy reward", "peak memory (GiB)"} <= set(more.columns)
    assert main.of_numbers == [False, *[True] * 6]


def test_arms_stand_from_the_highest_win_rate_to_the_lowest_the_reference_last(make_run, edit, reading):
    path = make_run()

    def change(metrics):
        for arm, value in {"base": 0.3, "sft": 0.9, "ppo": 0.5, "dpo": 0.7}.items():
            metrics["arms"][arm]["win_rate"]["gold"]["value"] = value

    edit(path / "metrics.json", change)
    order = ["SFT", "DPO", "RLHF (PPO)", "Base", "Reference"]
    assert [name for (name,) in reading.cells(reading.sections(path)["Results"], "arms, with")] == order
    (plot, _) = results.win_rates(report.load_run(path))
    assert [label.get_text() for label in reading.axes(plot).get_yticklabels()] == order[:-1]


def decide_all_of_dpos_pairs(metrics):
    for pair, duel in metrics["head_to_head"].items():
        if "dpo" in pair:
            value = 0.8 if pair.startswith("dpo") else 0.2
            duel["win_rate"]["gold"] |= {"value": value, "ci95": [value - 0.1, value + 0.1]}
            duel["p_holm"]["gold"] = 0.01


def test_the_best_arm_is_marked_where_every_pair_is_decided(make_run, edit, reading):
    path = make_run()
    edit(path / "metrics.json", decide_all_of_dpos_pairs)
    assert results.best_arm(report.load_run(path), "gold") == "dpo"
    table = reading.cells(reading.sections(path)["Results"], "arms, with")
    assert [name for (name,), row in table.items() if "best" in row["win rate, gold judge"]] == ["DPO"]

    edit(path / "metrics.json", lambda metrics: metrics["head_to_head"]["dpo_vs_ppo"]["p_holm"].update(gold=0.06))
    assert results.best_arm(report.load_run(path), "gold") is None


def test_verdicts_that_left_n_are_counted(make_run, edit, reading):
    path = make_run()
    counts = {"n": 38, "ties": 7, "unparsed": 2}
    edit(path / "metrics.json", lambda metrics: metrics["arms"]["dpo"]["win_rate"]["gold"].update(counts))
    table = reading.cells(reading.sections(path)["Results"], "more of each arm")
    assert table["DPO",]["verdicts, gold judge"] == "38 / 7 / 2"
    assert table["Reference",]["verdicts, gold judge"] == "–"  # noqa: RUF001
    caption = next(block.caption for block in reading.sections(path)["Results"] if isinstance(block, Table))
    assert caption.endswith("over 38 to 40 posts")


def test_dots_are_in_per_cent_with_their_intervals_and_room_at_both_ends(make_run, edit, reading):
    path = make_run()
    edit(
        path / "metrics.json",
        lambda metrics: metrics["arms"]["dpo"]["win_rate"]["gold"].update(value=1.0, ci95=[0.9, 1.0]),
    )
    run = report.load_run(path)
    rows = results.arm_table(run).to_dict("index")
    axes = reading.axes(results.win_rates(run)[0])
    arms = sorted(("base", "sft", "ppo", "dpo"), key=lambda arm: -rows[arm]["win_rate_gold"])
    for arm, errors in zip(arms, axes.containers, strict=True):
        assert list(errors.lines[0].get_xdata()) == pytest.approx([100 * rows[arm]["win_rate_gold"]])
        ends = [100 * rows[arm]["win_rate_gold_low"], 100 * rows[arm]["win_rate_gold_high"]]
        assert reading.bar(errors, 0) == pytest.approx(ends)
    low, high = axes.get_xlim()
    assert low < 0 and high > 100


def test_a_collapsed_arm_is_marked_where_its_numbers_stand(collapsed_dir, reading):
    table = reading.cells(reading.sections(collapsed_dir)["Results"], "arms, with")
    assert ("RLHF (PPO), collapsed",) in table and ("DPO",) in table
    plot = results.win_rates(report.load_run(collapsed_dir))[0]
    assert "RLHF (PPO) (collapsed)" in plot.alt and "DPO (collapsed)" not in plot.alt
    labels = {label.get_text() for label in reading.axes(plot).get_yticklabels()}
    assert labels == {"SFT", "Best of n", "RLHF (PPO), collapsed", "DPO"}
