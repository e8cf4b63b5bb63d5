"""What the reward models learned beside trivial rules."""

import pytest

from bench import report
from bench.report.page import to_html
from bench.report.render import run_page
from bench.report.sections.answer import answer
from bench.report.sections.reward_model import reward_model_table


def test_rules_stand_beside_accuracy(make_run, reading):
    path = make_run()
    measured = reading.metrics(path)["reward_model"]
    row = reward_model_table(report.load_run(path)).loc["reward_model"]
    assert row["accuracy"] == measured["accuracy"]["value"]
    assert row["longer_wins_low"] == measured["longer_wins"]["ci95"][0]
    assert row["beats_longer_wins"] == measured["beats_longer_wins"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("supported", "The reward model beats “longer wins”"),
        ("contradicted", "The reward model is worse than “longer wins”"),
        (
            "not decided at this n",
            "The reward model does not beat “longer wins” as far as these pairs can show",
        ),
    ],
)
def test_whether_the_reward_model_beats_longer_wins_is_said(make_run, edit, verdict, words):
    path = make_run()
    edit(path / "metrics.json", lambda metrics: metrics["reward_model"].update(beats_longer_wins=verdict))
    run = report.load_run(path)
    assert words in to_html(run_page(run))
    assert any("Read with care" in line for line in answer(run)) is (verdict != "supported")


@pytest.mark.slow
def test_a_reward_model_that_was_not_put_beside_length_is_not_blamed(make_run, edit):
    path = make_run()
    edit(path / "metrics.json", lambda metrics: metrics["reward_model"].pop("beats_longer_wins"))
    run = report.load_run(path)
    assert not any("Read with care" in line for line in answer(run))
    assert "The reward model does not beat" not in to_html(run_page(run))
