"""Samples: the same prompts for every arm, picked by nobody."""

import hashlib
import json
import re

import pytest

from bench import report
from bench.report import browser
from bench.report.page import to_html
from bench.report.render import run_page
from bench.report.words import plain

pytestmark = pytest.mark.slow  # whole pages

ARMS = ("base", "sft", "ppo", "dpo")


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_run):
    """A run whose texts say whose they are; dpo was sampled at two temperatures."""
    path = write_run(tmp_path_factory.mktemp("samples") / "run")
    for arm in ARMS:
        file = path / "completions" / f"{arm}.jsonl"
        rows = [row | {"completion": f"{arm} about {row['prompt_id']}"} for row in rows_of(file)]
        if arm == "dpo":
            rows = [row | {"temperature": 0.0, "completion": f"greedy {row['completion']}"} for row in rows] + rows
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def page(folder):
    return to_html(run_page(report.load_run(folder)))


@pytest.fixture(scope="module")
def browsed(page, reading):
    return reading.samples(reading.outline(page))


def test_samples_are_by_hash_for_every_arm_and_the_first_stand_in_the_page(folder, page, browsed):
    ids = [row["prompt_id"] for row in rows_of(folder / "prompts.jsonl")]
    by_hash = sorted(ids, key=lambda prompt_id: hashlib.sha256(prompt_id.encode()).hexdigest())

    assert re.findall(r"<h3>(.*?)</h3>", page) == by_hash[:3]  # samples_in_report is 3 in the fixture
    for arm in ARMS:
        for prompt_id in by_hash[:3]:
            assert f"{arm} about {plain(prompt_id)}<" in page
    assert [sample["id"] for sample in browsed["samples"]] == by_hash
    assert all(sample["SFT"][0] == f"sft about {sample['id']}" for sample in browsed["samples"])
    assert "All 40 held-out prompts" in page and "not picked by hand" in page


def test_samples_take_the_lowest_temperature(page, browsed):
    assert page.count(">greedy dpo about") == 3 and ">dpo about" not in page
    assert all(sample["DPO"][0].startswith("greedy") for sample in browsed["samples"])


def test_the_browser_has_every_verdict_in_both_orders(folder, browsed):
    names = browsed["writers"]
    assert names == ["Reference summary", "Base", "SFT", "RLHF (PPO)", "DPO"]
    arms = dict(zip(names, ("reference", *ARMS), strict=True))
    said = {
        (judge, row["prompt_id"], row["arm_a"], row["arm_b"], row["order"]): row["verdict"][0]
        for judge in ("gold", "reward_model")
        for row in rows_of(folder / "verdicts" / f"{judge}.jsonl")
    }
    assert len(browsed["duels"]) == 4 + 6 and len(said) == 2 * 40 * 10 * 2
    for sample in browsed["samples"]:
        for judge, letters in zip(("gold", "reward_model"), sample["verdicts"], strict=True):
            expected = [
                said[judge, sample["id"], arms[names[a]], arms[names[b]], order]
                for a, b in browsed["duels"]
                for order in ("ab", "ba")
            ]
            assert list(letters) == expected


def test_the_browser_has_length_rewards_kl_and_what_is_degenerate(folder, browsed):
    rows = {row["prompt_id"]: row for row in rows_of(folder / "completions" / "ppo.jsonl")}
    assert browsed["rewards"] == ["gold", "proxy"] and browsed["flagged"]
    for sample in browsed["samples"]:
        row = rows[sample["id"]]
        scores = [f"{row['reward'][kind]:.2f}".replace("-0.00", "0.00") for kind in ("gold", "proxy")]
        assert sample["RLHF (PPO)"][1:] == [row["n_tokens"], scores, f"{row['kl']:.2f}", row["degenerate"]]


def test_a_verdict_that_was_not_given_is_not_shown(folder, make_run, reading):
    path = make_run()
    file = path / "verdicts" / "gold.jsonl"
    rows = [row for row in rows_of(file) if row["order"] == "ab"]
    rows[0]["verdict"] = "unparsed"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "verdicts" / "reward_model.jsonl").unlink()

    browsed = reading.samples(reading.outline(to_html(run_page(report.load_run(path)))))

    assert browsed["judges"] == ["gold judge"]
    letters = {sample["id"]: sample["verdicts"][0] for sample in browsed["samples"]}
    assert all(set(of[1::2]) == {"."} and "." not in of[::2] for of in letters.values())
    assert "".join(letters.values()).count("u") == letters[rows[0]["prompt_id"]].count("u") == 1


def test_what_does_not_fit_into_a_page_is_left_out_and_said(make_run, reading, monkeypatch):
    monkeypatch.setattr(browser, "MOST_BYTES", 40_000)
    page = to_html(run_page(report.load_run(make_run())))
    data = reading.outline(page).scripts[0]
    held = len(json.loads(data)["samples"])
    assert 10 < held < 40 and 35_000 < len(data.encode()) < 45_000
    assert f"{held} of 40 held-out prompts, the first by the hashes of their ids" in page
