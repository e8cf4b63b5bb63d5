"""What the trainers' checks found."""

import pytest

from bench.report.page import Table, Text


def test_findings_stand_with_advice_and_what_was_quiet_is_said(collapsed_dir, reading):
    (found, *_) = reading.metrics(collapsed_dir)["health"]["ppo"]["findings"]
    blocks = reading.sections(collapsed_dir)["Health"]
    rows = reading.cells(blocks, "what the trainers' checks found")
    assert [rows["ppo",][name] for name in ("kind", "what is seen", "what to try")] == [
        found["severity"], found["message"], found["advice"],
    ]  # fmt: skip
    assert rows["ppo",]["step"] == str(found["step"])
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert "No findings in dpo, judge_reward, reward, sft." in table.note


def test_a_collapse_is_a_note_of_its_own(collapsed_dir, reading):
    health = reading.metrics(collapsed_dir)["health"]["ppo"]
    assert health["collapsed"]
    said = reading.texts(reading.sections(collapsed_dir)["Health"])
    assert f"RLHF (PPO) collapsed at step {health['step']}: {health['why']}." in said


@pytest.mark.parametrize("stage", ["dpo", "ppo"])
def test_a_healthy_run_says_that_nothing_was_found(make_run, edit, reading, stage):
    path = make_run()
    edit(path / "metrics.json", lambda metrics: metrics.update(health={stage: metrics["health"][stage] | NOTHING}))
    assert list(reading.sections(path)["Health"]) == [Text(f"No findings in {stage}.")]


NOTHING = {"collapsed": False, "step": None, "why": None, "findings": []}
