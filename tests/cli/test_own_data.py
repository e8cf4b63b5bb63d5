"""From a CSV of one's own to a report, as the README has it."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.conf_dir import conf_dir
from bench.cli.manual import overview
from bench.files import read_json


def write_csv(path: Path, posts: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["article", "better", "worse"], delimiter=";")
        writer.writeheader()
        for i in range(posts):
            text = f"My cat number {i} ran away, and I looked everywhere.\n\nThen it came back; what now?"
            writer.writerow({"article": text, "better": f"Cat {i} came back.", "worse": "I have a cat, I think."})


@pytest.mark.slow
def test_one_command_from_a_csv_to_a_report(
    command: Callable, smallest: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "pairs.csv", 60)
    own = "data=one_file data.columns.post=article data.columns.chosen=better data.columns.rejected=worse".split()

    outcome = command(*own, "judge=reward_model", *smallest, "name=own", f"results_dir={tmp_path / 'results'}")

    assert outcome.exit_code == 0, outcome.stderr
    report = Path(outcome.stdout.splitlines()[-1])
    metrics = read_json(report.parent / "metrics.json")
    assert {"ppo", "dpo", "sft", "reference"} <= set(metrics["arms"])
    assert "test prompts decide next to nothing" in report.with_suffix(".md").read_text(encoding="utf-8")


def test_the_manual_names_the_command():
    assert "data=one_file" in overview(conf_dir())
