"""`python -m bench.judge_audit`: what it finds in a file whose biases are known, and what it says of bad ones."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from bench.audit import judges
from bench.audit.config import AuditColumns, AuditConfig
from bench.cli import audit
from bench.cli.conf_dir import conf_dir
from bench.cli.settings import composed
from bench.evaluate.judges.base import ScoringJudge
from bench.files import read_json, read_jsonl, write_jsonl

SHORT, LONG = "short one", "the one that is longer"
POST = "SUBREDDIT: r/pets\n\nTITLE: the one that is longer\n\nPOST: a post {}.\n\nTL;DR:"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable:
    """command(*arguments): exit code, stdout and stderr of the command, whose results go below tmp_path."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["judge_audit", f"results_dir={tmp_path / 'results'}", *arguments])
        capsys.readouterr()
        exit_code = audit.main()
        out, err = capsys.readouterr()
        return exit_code, out, err

    return run


@pytest.fixture
def tldr(tmp_path: Path) -> Path:
    """200 pairs in three files: 112 (56 %) chosen as A, and of every 20 the longer chosen 13 times, 2 equal."""
    rows = []
    for i in range(200):
        chosen, rejected = (LONG, SHORT) if i % 20 < 13 else (SHORT, LONG) if i % 20 < 18 else (SHORT, SHORT[::-1])
        shown_as = "A" if (i * 7) % 25 < 14 else "B"
        rows.append({"id": str(i), "prompt": POST.format(i), "chosen": chosen, "rejected": rejected,
                     "chosen_shown_as": shown_as, "annotator": "someone"})  # fmt: skip
    for split, part in (("train", rows[:120]), ("validation", rows[120:150]), ("test", rows[150:])):
        write_jsonl(tmp_path / "tldr" / "preferences" / f"{split}.jsonl", part)
    return tmp_path / "tldr"


def audited(stdout: str) -> dict:
    return read_json(Path(stdout.splitlines()[-1]).parent / "audit.json")


def test_known_biases_of_the_labels_are_found(command: Callable, tldr: Path):
    exit_code, stdout, _ = command(f"data={tldr}")
    labels = audited(stdout)["labels"]

    assert exit_code == 0
    assert (labels["pairs"], labels["position_bias"]["value"]) == (200, 0.56)
    low, high = labels["position_bias"]["ci95"]
    assert (low, high) == (
        pytest.approx(0.56 - 1.96 * 0.0351, abs=0.005),
        pytest.approx(0.56 + 1.96 * 0.0351, abs=0.005),
    )
    assert labels["length_bias"]["value"] == pytest.approx((130 + 20 / 2) / 200)
    assert labels["length_bias"]["equal_length"] == 20
    assert "56.0 % [" in stdout and "70.0 % [" in stdout


def test_the_rule_longer_is_as_accurate_as_the_labels_lean(command: Callable, tldr: Path):
    _, stdout, _ = command(f"data={tldr}", "judge=longer")
    numbers = audited(stdout)
    judge, bias = numbers["judges"]["longer"], numbers["labels"]["length_bias"]

    assert judge["accuracy"] == {name: bias[name] for name in ("value", "ci95", "n")}
    assert judge["length_bias"]["value"] == 1
    assert (judge["n"], judge["ties"], judge["flip_rate"]) == (200, 20, None)


def test_a_judge_sees_what_the_annotator_saw_and_both_orders_where_that_is_not_known(
    command: Callable, tldr: Path, monkeypatch: pytest.MonkeyPatch
):
    class First(ScoringJudge):
        """Whatever is shown first wins."""

        def judge(self, items):
            return ["a"] * len(items)

        def score(self, summaries):
            raise NotImplementedError

    monkeypatch.setitem(judges._RULES, "longer", lambda: First("first"))
    _, stdout, _ = command(f"data={tldr}", "judge=longer")
    as_shown = audited(stdout)["judges"]["first"]
    _, stdout, _ = command(f"data={tldr}", "judge=longer", "as_shown=false")
    both = audited(stdout)["judges"]["first"]

    assert (as_shown["accuracy"]["value"], as_shown["position_bias"]["value"]) == (0.56, 1.0)
    assert (both["accuracy"]["value"], both["position_bias"]["value"]) == (0.5, 1.0)
    assert (both["flip_rate"], both["ties"]) == (1.0, 200)
    verdicts = read_jsonl(Path(stdout.splitlines()[-1]).parent / "verdicts" / "first.jsonl")
    assert [(v["prompt_id"], v["order"], v["verdict"]) for v in verdicts[:2]] == [
        ("150", "ab", "a"),
        ("150", "ba", "b"),
    ]


def test_the_same_command_finds_the_same_folder_and_the_same_numbers(command: Callable, tldr: Path):
    _, first, _ = command(f"data={tldr}", "judge=title_overlap")
    folder = Path(first.splitlines()[-1]).parent
    before = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    _, second, _ = command(f"data={tldr}", "judge=title_overlap")

    assert second == first
    assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == before
    assert set(before) == {"run.json", "audit.json", "pairs.jsonl", "report.md", "title_overlap.jsonl"}
    assert (
        json.loads(before["audit.json"])["judges"]["title_overlap"]["length_bias"]["value"] == 0.95
    )  # the title is LONG
    assert not any(SHORT in text for text in before.values())  # artifacts hold no texts of the data
    exit_code, _, stderr = command(f"data={tldr}", f"name={folder.name}")
    assert exit_code == 2 and "holds another audit; choose another name or remove it" in stderr


def test_verdicts_out_of_a_column_against_several_annotators(command: Callable, tmp_path: Path):
    rows = [
        {"summary_a": f"{i} a", "summary_b": f"{i} b", "verdict": label, "gpt": gpt}
        for i in range(10)
        for label, gpt in (("a", "a" if i < 6 else "unparsed"), ("b" if i < 3 else "a", "a" if i < 6 else ""))
    ]
    write_jsonl(tmp_path / "labels.jsonl", rows)
    exit_code, stdout, _ = command(f"data={tmp_path / 'labels.jsonl'}", "judge=column", "columns.judge=gpt")
    numbers = audited(stdout)
    judge, human = numbers["judges"]["gpt"], numbers["labels"]["human_agreement"]

    assert exit_code == 0
    assert (judge["n"], judge["unparsed"], judge["accuracy"]["n"]) == (10, 4, 6)
    assert judge["accuracy"]["value"] == pytest.approx((3 * 0.5 + 3 * 1) / 6)
    assert human["pairwise"]["value"] == pytest.approx(7 / 10)
    # 20 labels, 3 of them b, each against an a: observed 6/20, expected 2 * 17 * 3 / (20 * 19)
    assert human["krippendorff_alpha"]["value"] == pytest.approx(1 - (6 / 20) / (2 * 17 * 3 / (20 * 19)))
    assert "Krippendorff's alpha" in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "data must be given: data=VALUE"),
        (["data=x", "seeed=1"], "unknown config key seeed; did you mean seed?"),
        (["data=x", "columns.verdikt=y"], "unknown config key columns.verdikt; did you mean columns.verdict?"),
        (["data=x", "seed=1,2"], "cannot read 'seed=1,2'; write seed=VALUE, and commas in quotes"),
        (["data=x", "+seed=1"], "cannot read '+seed=1'; write seed=VALUE"),
        (["data=x", "judge"], "cannot read 'judge'; write KEY=VALUE"),
        (["data=x", "judge=nobody"], "there is no such judge (judge=nobody); choose one of labels, longer, "),
        (["data=x", "seed=-1"], "seed must be at least 0"),
        (["data=x", "rule=nobody"], "rule must be one of labels, longer, title_overlap, column, got 'nobody'"),
        (["data=x", "judge=column"], "columns.judge must name the column of verdicts with judge=column"),
        (["data=x", "columns.judge=y"], "and be null without it, got 'y'"),
        (["data=x", "judge=builtin"], "judge.names has gold, which is known in the built-in world alone"),
        (["data=x", "judge=reward_model"], "reward_model must be the folder of a trained reward model"),
        (["data=x", "judge=longer", "reward_model=y"], "reward_model must be the folder of a trained reward model"),
        (["data=x", "judge=reward_model", "reward_model=y", "rule=longer"], "rule must not be set together with"),
        (["data=x", "bootstrap_resamples=9"], "bootstrap_resamples must be at least 100"),
        (["data=x", "name=a/b"], "name must be a plain folder name"),
        (["data=/nowhere"], "/nowhere: no such file or folder"),
        (["data=x", "experiment=nobody"], "experiment=nobody is no audit; choose one of judge_agreement"),
    ],
)  # fmt: skip
def test_bad_config_is_one_line(arguments: list[str], message: str, command: Callable):
    exit_code, stdout, stderr = command(*arguments)

    assert exit_code == 2 and stdout == ""
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    assert message in stderr


def test_the_experiment_asks_both_judges_of_the_paper():
    names = composed("judge_agreement", [], []).judge.names

    assert list(names) == ["simple", "concise"]
    assert set(audit._EXPERIMENTS) == {p.stem for p in conf_dir().glob("*.yaml")} - {"audit", "config", "score"}


def test_a_judge_needs_the_posts_and_a_reward_model_that_is_there(command: Callable, tmp_path: Path, tldr: Path):
    write_jsonl(tmp_path / "bare.jsonl", [{"summary_a": "x", "summary_b": "y", "verdict": "a"}])

    assert "judge title_overlap needs the posts, but 1 of 1 pairs have none" in command(
        f"data={tmp_path / 'bare.jsonl'}", "judge=title_overlap"
    )[2]  # fmt: skip
    assert "holds no trained reward model; name a stage's folder" in command(
        f"data={tldr}", "judge=reward_model", f"reward_model={tmp_path}"
    )[2]  # fmt: skip
    assert not (tmp_path / "results").exists()


BAD_FILES = {
    "no_verdict.csv": ("summary_a,summary_b\nx,y\n", "row 1: no column 'verdict' (columns: summary_a, summary_b)"),
    "unknown.csv": ("summary_a,summary_b,verdict\nx,y,a\nx,y,left\n", "row 2: column 'verdict' holds 'left'"),
    "broken.jsonl": ('{"chosen": "x", "rejected": "y"}\n{"chosen": \n', "line 2: broken JSON"),
    "empty.jsonl": ("", "is empty; it needs at least one row"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_before_anything_is_judged(name: str, command: Callable, tmp_path: Path):
    (tmp_path / name).write_text(BAD_FILES[name][0])
    exit_code, stdout, stderr = command(f"data={tmp_path / name}", "judge=local_llm", "judge.local_llm.name=absent")

    assert (exit_code, stdout) == (2, "")
    assert stderr.startswith(f"error: {tmp_path / name}") and BAD_FILES[name][1] in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["unknown.csv", pytest.param("broken.jsonl", marks=pytest.mark.long)])
def test_the_module_itself(name: str, tmp_path: Path):
    (tmp_path / name).write_text(BAD_FILES[name][0])
    outcome = subprocess.run(
        [sys.executable, "-m", "bench.judge_audit", f"data={tmp_path / name}", f"results_dir={tmp_path / 'results'}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(audit.__file__).parents[2])},
    )

    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: {tmp_path / name}") and BAD_FILES[name][1] in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_help_shows_judges_and_every_setting(command: Callable):
    exit_code, page, _ = command("--help")

    assert exit_code == 0
    for name in ("labels", "longer", "title_overlap", "column", *(p.stem for p in conf_dir().glob("judge/*.yaml"))):
        assert f"\n  {name} " in page
    written = yaml.safe_load((conf_dir() / "audit.yaml").read_text(encoding="utf-8"))
    del written["defaults"]
    assert {*written, "judge"} == {field.name for field in fields(AuditConfig)}
    assert set(written["columns"]) == {field.name for field in fields(get_type_hints(AuditConfig)["columns"])}
    assert AuditConfig(data="x", **{k: v for k, v in written.items() if k not in ("data", "columns")}) == AuditConfig(
        "x"
    )
    assert AuditColumns(**written["columns"]) == AuditColumns()
