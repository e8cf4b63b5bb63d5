"""Tuning with equal effort, from run folders whose numbers are known."""

import pytest

from bench import report
from bench.data.evaluation_sets import EvalSetConfig
from bench.report.load import records
from bench.report.tuned import section, trial_table, trials, trials_figure, tuned_duel
from bench.tuning import Space, TuningConfig

SPACE = {"dpo": {"beta": Space(0.02, 0.5)}, "ppo": {"beta": Space(0.02, 0.5)}}
VALIDATION = {(0, 0): (0.5, 0.6), (0, 1): (0.7, 0.55), (1, 0): (0.8, 0.4), (1, 1): (0.6, 0.65)}
"""(seed, trial) -> win rates of DPO and PPO on validation posts."""


@pytest.fixture
def runs(tmp_path, write_run, edit):
    found = []
    for (seed, trial), rates in VALIDATION.items():
        path = write_run(
            tmp_path / f"s{seed}-t{trial}",
            seed=seed,
            dpo_beta=0.1 + trial,
            ppo_beta=0.05 + trial,
            sets={"validation": EvalSetConfig(split="validation", prompts=20)},
            tuning=TuningConfig(trial=trial, trials=2, space=SPACE),
        )

        def change(metrics, rates=rates):
            for arm, rate in zip(("dpo", "ppo"), rates, strict=True):
                metrics["grid"][0]["arms"][arm]["win_rate"]["gold"]["value"] = rate

        edit(path / "metrics.json", change)
        found.append(report.load_run(path))
    return found


def test_the_best_on_validation_posts_is_chosen_in_each_seed(runs):
    rows = records(trial_table(runs, "gold"))
    assert len(rows) == 8
    chosen = {(row["seed"], row["arm"]): row["trial"] for row in rows if row["chosen"]}
    assert chosen == {(0, "dpo"): 1, (0, "ppo"): 0, (1, "dpo"): 0, (1, "ppo"): 1}
    for row in rows:
        run = next(
            r for r in runs if (r.setting("seed"), r.setting("config.tuning.trial")) == (row["seed"], row["trial"])
        )
        assert row["test"] == run.metrics["arms"][row["arm"]]["win_rate"]["gold"]["value"]
        assert row["settings"] == f"beta {run.setting('config.' + row['arm'] + '.beta'):g}"


def test_what_is_shared_costs_the_first_trial_alone(runs):
    """120 s of RLHF are 30 of its reward model and 90 of PPO; DPO's 45 are 5 of reference log-probs and 40."""
    hours = {(r["trial"], r["arm"]): 3600 * r["hours"] for r in records(trial_table(runs, "gold")) if r["seed"] == 0}
    assert hours == pytest.approx({(0, "ppo"): 120, (1, "ppo"): 90, (0, "dpo"): 45, (1, "dpo"): 40})


def test_in_equal_hours_the_dearer_arm_has_fewer_trials(runs):
    """DPO's two trials take 85 s, in which not one of RLHF's fits."""
    rows = records(trial_table(runs, "gold"))
    assert {row["trial"] for row in rows if row["chosen_in_equal_hours"] and row["arm"] == "dpo"} == {0, 1}
    assert not [row for row in rows if row["chosen_in_equal_hours"] and row["arm"] == "ppo"]
    assert tuned_duel(runs, "gold", "chosen_in_equal_hours") is None


def test_the_chosen_ones_are_compared_on_test_posts(runs):
    duel = tuned_duel(runs, "gold")
    assert duel is not None
    by = {(run.setting("seed"), run.setting("config.tuning.trial")): run.metrics["arms"] for run in runs}
    of = [
        by[0, 1]["dpo"]["win_rate"]["gold"]["value"] - by[0, 0]["ppo"]["win_rate"]["gold"]["value"],
        by[1, 0]["dpo"]["win_rate"]["gold"]["value"] - by[1, 1]["ppo"]["win_rate"]["gold"]["value"],
    ]
    assert [row["difference"]["value"] for row in duel["seeds"]] == pytest.approx(of)
    assert duel["difference"]["mean"] == pytest.approx(sum(of) / 2)
    assert duel["difference"]["ci95"] is None and "needs three" in duel["difference"]["reason"]


def test_the_comparison_of_trials_says_it(runs, tmp_path):
    page = report.render_comparison([run.path for run in runs], tmp_path / "out").with_suffix(".md").read_text()
    assert "2 trials of each arm" in page and "Equal trials: tuned, gold judge" in page


def test_runs_that_are_no_trials_have_no_section(make_run):
    run = report.load_run(make_run())
    assert trials([run]) == [] and section([run], "gold", {}) == []


def test_trials_stand_at_both_win_rates_and_the_chosen_are_filled(runs, reading):
    axes = reading.axes(trials_figure(runs, "gold"))
    drawn = {
        (*(round(float(ends[0]), 6) for ends in (c.lines[0].get_xdata(), c.lines[0].get_ydata())),): c.lines[0]
        for c in axes.containers
    }
    for row in records(trial_table(runs, "gold")):
        mark = drawn[round(100 * row["validation"], 6), round(100 * row["test"], 6)]
        assert (mark.get_markerfacecolor() == "none") is not row["chosen"]
    assert len(axes.containers) == 8


def test_runs_that_are_no_trials_have_no_such_figure(make_run):
    assert trials_figure([report.load_run(make_run())], "gold") is None
