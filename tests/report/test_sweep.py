"""Which setting of a sweep: rows are settings, and where they were chosen is said."""

from typing import Any

import pytest

from bench import report
from bench.data.evaluation_sets import EvalSetConfig
from bench.report import over_beta
from bench.report.compare import comparison_page
from bench.report.page import Table
from bench.report.sweep import _listed, every_verdict, in_a_sentence, section, swept, verdicts
from bench.report.words import setting_in_words, strength

RATES = {0.5: (0.5, 0.6), 0.02: (0.9, 0.7), 0.1: (0.6, 0.95)}
"""Beta -> win rates on validation and test posts, written into one run."""


@pytest.fixture
def runs(make_run, edit):
    """One seed at three betas, given in no order; its PPO arm is one policy."""
    found = []
    for beta, (on_validation, on_test) in RATES.items():
        path = make_run(f"b{beta}", sets={"validation": EvalSetConfig(split="validation", prompts=20)})

        def change(metrics: Any, on_validation: float = on_validation, on_test: float = on_test) -> None:
            metrics["grid"][0]["arms"]["dpo"]["win_rate"]["gold"]["value"] = on_validation
            metrics["arms"]["dpo"]["win_rate"]["gold"]["value"] = on_test

        def other(record: Any, beta: float = beta) -> None:
            record["config"]["dpo"]["beta"] = beta
            record["stages"]["dpo"]["key"] += str(beta)

        edit(path / "metrics.json", change)
        edit(path / "run.json", other)
        found.append(report.load_run(path))
    return found


def test_settings_are_what_was_varied_of_an_arm_by_size(runs):
    assert list(swept(runs, "dpo")) == ["beta 0.02", "beta 0.1", "beta 0.5"]
    assert swept(runs, "ppo") == {} and verdicts(runs, "ppo", "gold") == []


def test_the_best_on_validation_posts_stands_with_its_test_number(runs):
    rows = {row["setting"]: row for row in verdicts(runs, "dpo", "gold")}

    assert rows["beta 0.02"]["verdict"] == "best" and rows["beta 0.02"]["chosen_on"] == "validation"
    assert (rows["beta 0.02"]["rate"], rows["beta 0.02"]["test"]) == (0.9, 0.7)
    assert rows["beta 0.1"]["verdict"] == "not told apart"  # the three folders hold the same verdicts
    kl = runs[0].metrics["arms"]["dpo"]["kl_ref"]
    low, high = kl["ci95"]
    assert rows["beta 0.1"]["kl"] == f"{kl['value']:.2f} [{low:.2f}, {high:.2f}]"


def test_a_seed_that_has_one_setting_alone_is_in_no_row(runs, make_run, edit):
    path = make_run("s1", seed=1, sets={"validation": EvalSetConfig(split="validation", prompts=20)})
    edit(path / "run.json", lambda record: record["config"]["dpo"].update(beta=0.1))
    edit(path / "metrics.json", lambda metrics: metrics["arms"]["dpo"]["kl_ref"].update(value=50.0))
    assert verdicts([*runs, report.load_run(path)], "dpo", "gold") == verdicts(runs, "dpo", "gold")


def test_without_validation_posts_the_choice_and_the_number_are_of_the_same(runs, edit):
    edit(runs[0].path / "metrics.json", lambda metrics: metrics.update(grid=[]))
    runs = [report.load_run(run.path) for run in runs]

    rows = {row["setting"]: row for row in verdicts(runs, "dpo", "gold")}
    assert rows["beta 0.1"]["verdict"] == "best" and rows["beta 0.1"]["chosen_on"] == "test"
    table = section(every_verdict(runs, ["gold"]))[0]
    assert isinstance(table, Table) and table.note.startswith("Chosen on the very posts that the numbers are of")


def test_the_comparison_begins_with_it(runs):
    page = comparison_page(runs)

    assert page.sections[0].title == "Which setting"
    (line,) = in_a_sentence(every_verdict(runs, ["gold"]), "gold")
    assert line in page.answer
    assert line.startswith("DPO is best at beta 0.02, gold judge: 70.0 %") and "chosen on validation posts" in line
    assert line.endswith("Not told apart from it: beta 0.1; beta 0.5. Worse: none.")


def test_a_long_list_is_counted():
    assert _listed([]) == "none" and _listed(["beta 1", "beta 2"]) == "beta 1; beta 2"
    assert _listed(["beta 0.1, learning_rate 0.001, warmup_steps 10"] * 3) == "3 settings"


def test_a_kl_target_is_called_one(runs, edit, reading):
    assert setting_in_words({"ppo.kl_target": 6.0, "ppo.beta": 0.05}) == "KL target 6, beta 0.05"
    assert setting_in_words({"ppo.kl_target": None}) == "as given"
    for run, target in zip(runs, (3.0, 6.0, 9.0), strict=True):

        def change(record: Any, target: float = target) -> None:
            record["config"]["ppo"]["kl_target"] = target
            record["stages"]["ppo"]["key"] += str(target)

        edit(run.path / "run.json", change)
    points = report.policy_points([report.load_run(run.path) for run in runs])
    rows = points.to_dict("records")
    assert [strength(row) for row in rows if row["arm"] == "ppo"] == ["KL target 3", "KL target 6", "KL target 9"]
    axes = reading.axes(over_beta.reward_kl_points(points))
    labels = [text.get_text() for text in axes.texts]
    assert sorted(labels) == ["0.02", "0.1", "0.5", "3", "6", "9"]
    assert [c.get_label() for c in axes.containers][1:] == ["RLHF (PPO) (at its KL target)", "DPO (at its beta)"]
