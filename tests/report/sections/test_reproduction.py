"""Published numbers beside a run's: each has a source, and what is not comparable says why."""

from typing import Any

import pytest

from bench import report
from bench.files import read_json
from bench.report.load import records
from bench.report.page import Table
from bench.report.sections.reproduction import PUBLISHED, reproduction_table, section


@pytest.fixture
def of_the_paper(make_run, edit):
    """A run that says that it is GPT-J on TL;DR at temperature 0, its second judge GPT-4."""
    path = make_run()

    def record(run: Any) -> None:
        run["config"]["data"]["kind"] = "tldr"
        run["config"]["model"]["name"] = "EleutherAI/gpt-j-6b"
        run["config"]["judge"]["openai"] = {"model": "gpt-4-0314"}

    def metrics(found: Any) -> None:
        found["cell"]["temperature"] = 0.0
        found["judges"]["reward_model"]["kind"] = "openai"
        found["arms"]["dpo"]["win_rate"]["reward_model"] |= {"value": 0.6, "ci95": [0.57, 0.63], "n": 1000}

    edit(path / "run.json", record)
    edit(path / "metrics.json", metrics)
    return report.load_run(path)


def test_every_published_number_has_its_source():
    published = read_json(PUBLISHED)

    assert published["numbers"]
    for number in published["numbers"]:
        assert published["sources"][number["source"]].keys() == {"cite", "link"} and number["where"]
        assert published["sources"][number["source"]]["link"].startswith("https://")
        assert (number["value"] is None) == bool(number["seeds"])
        assert all(0 < share < 1 for share in number["seeds"] or [number["value"]])


def test_a_comparable_number_is_compared(of_the_paper):
    rows = records(reproduction_table(of_the_paper))
    (row,) = (r for r in rows if (r["arm"], r["judge"], r["published_n"]) == ("dpo", "reward_model", 256))

    assert row["ours"] - row["published"] == pytest.approx(row["difference"]) == pytest.approx(-0.017)
    assert row["cite"].startswith("Rafailov et al. 2023") and row["where"] == "section 6.2 and Figure 2, right"
    assert row["verdict"] == "consistent"  # +- 6.7 points about -1.7


def test_other_models_judges_and_temperatures_are_named(of_the_paper):
    rows = records(reproduction_table(of_the_paper))

    by_gold = next(r for r in rows if (r["arm"], r["judge"]) == ("dpo", "gold"))
    assert by_gold["verdict"] == "not comparable" and by_gold["reason"] == "judge gold here, gpt-4 there"
    of_pythia = next(r for r in rows if r["arm"] == "sft")
    assert "model EleutherAI/gpt-j-6b here, EleutherAI/pythia-1b-deduped there" in of_pythia["reason"]
    accuracy = next(r for r in rows if r["arm"] == "reward_model")
    assert accuracy["ours"] == of_the_paper.metrics["reward_model"]["accuracy"]["value"]
    (table,) = section(of_the_paper)
    assert isinstance(table, Table) and all("https://" in row[1].text for row in table.rows)


def test_of_the_built_in_world_nothing_is_published(make_run):
    assert section(report.load_run(make_run())) == []
