"""Pairs of arms: their duels, the same by way of the reference summary, and all on one scale."""

import pytest

from bench import report
from bench.report.page import Table
from bench.report.sections import head_to_head


def test_arms_against_each_other_come_before_arms_against_baselines(make_run, reading):
    path = make_run()
    expected = reading.metrics(path)["head_to_head"]

    table = head_to_head.head_to_head_table(report.load_run(path))

    first = table.iloc[0]
    duel = expected["dpo_vs_ppo"]
    assert (first["arm_a"], first["arm_b"], first["judge"]) == ("dpo", "ppo", "gold")
    assert first["win_rate"] == duel["win_rate"]["gold"]["value"]
    assert first["win_rate_ties"] == duel["win_rate"]["gold"]["ties"]
    assert first["p_value"] == duel["p_value"]["gold"]
    last = table.iloc[-1]
    assert {last["arm_a"], last["arm_b"]} == {"base", "sft"}
    assert len(table) == 6 * 2  # six pairs of four arms, two judges


def test_pairs_show_holm_equal_length_and_the_prompts_that_are_missing(make_run, edit, reading):
    path = make_run()

    def change(metrics):
        duel = metrics["head_to_head"]["dpo_vs_ppo"]
        duel["p_value"]["gold"], duel["p_holm"]["gold"] = 0.8, 0.012
        duel["prompts_needed"] = {"gold": 4321, "reward_model": None}

    edit(path / "metrics.json", change)
    table = reading.cells(reading.sections(path)["Head to head"], "share of prompts")
    row = table["DPO against RLHF (PPO)", "gold judge"]
    controlled = reading.metrics(path)["head_to_head"]["dpo_vs_ppo"]["win_rate_length_controlled"]["gold"]
    assert (row["p"], row["p (Holm)"], row["prompts needed"]) == ("0.800", "0.012", "4,321")
    assert row["at equal length"] == reading.per_cent(controlled)
    assert table["DPO against RLHF (PPO)", "reward-model judge"]["prompts needed"] == "–"  # noqa: RUF001


def test_paired_wins_show_counts_and_a_difference_in_points(make_run, edit, reading):
    path = make_run()
    counts = {"both": 20, "only_a": 12, "only_b": 9, "neither": 17, "p_value": 0.664, "p_holm": 0.99}
    edit(
        path / "metrics.json",
        lambda metrics: metrics["head_to_head"]["ppo_vs_sft"]["mcnemar"]["gold"].update(counts),
    )
    difference = reading.metrics(path)["head_to_head"]["ppo_vs_sft"]["mcnemar"]["gold"]["difference"]
    row = reading.cells(reading.sections(path)["Head to head"], "the same pairs")[
        "RLHF (PPO) against SFT", "gold judge"
    ]
    assert [row[name] for name in ("both", "only the first", "only the second", "neither")] == ["20", "12", "9", "17"]
    assert (row["p (McNemar)"], row["p (Holm)"]) == ("0.664", "0.990")
    shown = row["win rate of the first minus the second's (points)"]
    assert shown == reading.per_cent(difference).replace(" %", "")


def test_strengths_put_all_arms_on_one_scale(collapsed_dir, reading):
    fits = reading.metrics(collapsed_dir)["bradley_terry"]
    table = reading.cells(reading.sections(collapsed_dir)["Head to head"], "all arms")
    assert list(table) == [("SFT",), ("Best of n",), ("RLHF (PPO)",), ("DPO",), ("Reference",)]
    assert table["DPO",]["reward-model judge"] == reading.number(fits["reward_model"]["dpo"])


def test_strengths_are_drawn_from_strong_to_weak_with_intervals(collapsed_dir, reading):
    run = report.load_run(collapsed_dir)
    axes = reading.axes(head_to_head.strengths(run)[0])
    strengths = run.metrics["bradley_terry"]["gold"]
    names = {"sft": "SFT", "best_of_n": "Best of n", "ppo": "RLHF (PPO)", "dpo": "DPO", "reference": "Reference"}
    order = sorted(strengths, key=lambda arm: -strengths[arm]["value"])
    assert [label.get_text() for label in axes.get_yticklabels()] == [names[arm] for arm in order]
    for arm, errors in zip(order, axes.containers, strict=True):
        assert list(errors.lines[0].get_xdata()) == [strengths[arm]["value"]]
        assert reading.bar(errors, 0) == pytest.approx(strengths[arm]["ci95"] or [0.0, 0.0])  # the reference is at 0


def test_the_matrix_has_every_pair_from_both_sides_and_decided_ones_bold(make_run, edit, reading):
    path = make_run()

    def change(metrics):
        for pair, duel in metrics["head_to_head"].items():
            is_asked = pair == "dpo_vs_ppo"
            value = 0.61 if is_asked else 0.45
            duel["win_rate"]["gold"] |= {"value": value, "ci95": [0.52, 0.7] if is_asked else [0.3, 0.6]}
            duel["p_holm"]["gold"] = 0.01

    edit(path / "metrics.json", change)
    run = report.load_run(path)
    (of_gold, _) = head_to_head.pairwise_matrix(run)
    axes = reading.axes(of_gold)
    rows, columns = ([label.get_text() for label in of] for of in (axes.get_yticklabels(), axes.get_xticklabels()))
    assert rows == columns == ["Base", "SFT", "RLHF (PPO)", "DPO"]
    cells = {}
    for text in axes.texts:
        x, y = text.get_position()
        cells[rows[round(y)], columns[round(x)]] = (text.get_text(), text.get_fontweight())
    assert len(cells) == 4 * 3
    assert cells["DPO", "RLHF (PPO)"] == ("61", "bold") and cells["RLHF (PPO)", "DPO"] == ("39", "bold")
    first, second = next(pair for pair in run.metrics["head_to_head"] if pair != "dpo_vs_ppo").split("_vs_")
    names = {"base": "Base", "sft": "SFT", "ppo": "RLHF (PPO)", "dpo": "DPO"}
    assert cells[names[first], names[second]] == ("45", "normal")


def test_two_arms_make_no_matrix(make_run):
    assert head_to_head.pairwise_matrix(report.load_run(make_run(arms=("sft", "dpo")))) == []


def test_power_is_said_in_points(make_run, edit, reading):
    path = make_run()
    power = {"n": 60, "power": 0.8, "level": 0.05, "head_to_head": 0.18, "between_arms": None}
    edit(path / "metrics.json", lambda metrics: metrics.update(power=power))
    said = reading.texts(reading.sections(path)["Head to head"])
    assert "What 60 prompts can show" in said and "18.0 points from 50 %" in said
    assert "on prompts of their own none, however large" in said


def test_of_many_arms_the_pairs_that_are_the_question_stand_and_the_rest_is_folded(make_run, reading, monkeypatch):
    path = make_run()
    monkeypatch.setattr(head_to_head, "_MOST_ROWS", 11)  # six pairs, two judges

    tables = [block for block in reading.sections(path)["Head to head"] if isinstance(block, Table)]

    first, others, by_reference, strengths = tables
    pairs = {row[0].text for row in first.rows}
    assert pairs == {"DPO against RLHF (PPO)", "DPO against SFT", "RLHF (PPO) against SFT"}
    assert [first.folded, others.folded, by_reference.folded, strengths.folded] == [False, True, True, False]
    assert len(first.rows) + len(others.rows) == 12 and not pairs & {row[0].text for row in others.rows}
