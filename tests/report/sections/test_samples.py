"""Samples: the same prompts for every arm, picked by nobody."""

import hashlib
import json
import re

import pytest

from bench import report
from bench.report.page import to_html
from bench.report.render import run_page
from bench.report.words import plain

pytestmark = pytest.mark.slow  # whole pages


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_samples_are_the_first_prompts_by_hash_for_every_arm(make_run):
    path = make_run()
    for arm in ("base", "sft", "ppo", "dpo"):
        file = path / "completions" / f"{arm}.jsonl"
        rows = [row | {"completion": f"{arm} about {row['prompt_id']}"} for row in rows_of(file)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ids = [row["prompt_id"] for row in rows_of(path / "prompts.jsonl")]
    by_hash = sorted(ids, key=lambda prompt_id: hashlib.sha256(prompt_id.encode()).hexdigest())

    page = to_html(run_page(report.load_run(path)))

    assert re.findall(r"<h3>(.*?)</h3>", page) == by_hash[:3]  # samples_in_report is 3 in the fixture
    for arm in ("base", "sft", "ppo", "dpo"):
        for prompt_id in by_hash[:3]:
            assert f"{arm} about {plain(prompt_id)}<" in page
    assert "not picked by hand" in page


def test_samples_take_the_lowest_temperature(make_run):
    path = make_run()
    file = path / "completions" / "dpo.jsonl"
    rows = [row | {"completion": f"dpo about {row['prompt_id']}"} for row in rows_of(file)]
    greedy = [row | {"temperature": 0.0, "completion": "greedy " + row["completion"]} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in greedy + rows))
    page = to_html(run_page(report.load_run(path)))
    assert page.count("greedy dpo about") == 3
    assert ">dpo about" not in page
