"""Damaged run folders: what is missing is said on the page and on stderr, what is broken is refused in one line."""

import json
import shutil

import pytest

from bench import report
from bench.files import read_json, write_json
from bench.report.__main__ import main
from bench.report.sections.missing import missing

pytestmark = pytest.mark.slow  # whole pages


def cut_rows(file, keep):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for place, line in enumerate(lines) if keep(place)))


def without(*path):
    """Takes a number out of metrics.json."""

    def damage(folder):
        metrics = read_json(folder / "metrics.json")
        value = metrics
        for name in path[:-1]:
            value = value[name]
        del value[path[-1]]
        write_json(folder / "metrics.json", metrics)

    return damage


MISSING = {
    "completions/dpo.jsonl is not in the run folder": lambda f: (f / "completions" / "dpo.jsonl").unlink(),
    "completions/ppo.jsonl has nothing on 40 of 40 prompts": lambda f: (f / "completions/ppo.jsonl").write_text(""),
    "completions/sft.jsonl has nothing on 3 of 40 prompts": lambda f: cut_rows(
        f / "completions/sft.jsonl", lambda place: place < 37
    ),
    "completions/ is not in the run folder": lambda f: shutil.rmtree(f / "completions"),
    "prompts.jsonl is not in the run folder, or empty": lambda f: (f / "prompts.jsonl").unlink(),
    "verdicts/gold.jsonl is not in the run folder": lambda f: (f / "verdicts" / "gold.jsonl").unlink(),
    # 10 duels on 40 prompts, in both orders: the last four rows are two pairs.
    "verdicts/gold.jsonl has nothing on 2 of 400 pairs": lambda f: cut_rows(
        f / "verdicts/gold.jsonl", lambda place: place < 800 - 4
    ),
    "verdicts/reward_model.jsonl has nothing on 400 of 400 pairs": lambda f: (
        f / "verdicts/reward_model.jsonl"
    ).write_text(""),
    "training/ppo.jsonl is not in the run folder": lambda f: (f / "training" / "ppo.jsonl").unlink(),
    "training/dpo.jsonl is empty": lambda f: (f / "training" / "dpo.jsonl").write_text(""),
    "training/ is not in the run folder": lambda f: shutil.rmtree(f / "training"),
    "metrics.json has no win rate of DPO by the gold judge": without("arms", "dpo", "win_rate", "gold"),
    "metrics.json has no kl_ref of RLHF": without("arms", "ppo", "kl_ref"),
    "metrics.json has no head to head of DPO and RLHF": without("head_to_head", "dpo_vs_ppo"),
    "metrics.json has no p_value.gold of dpo_vs_ppo": without("head_to_head", "dpo_vs_ppo", "p_value", "gold"),
    "metrics.json has no win_rate.reward_model of dpo_vs_sft": without(
        "head_to_head", "dpo_vs_sft", "win_rate", "reward_model"
    ),
    "metrics.json has no verdicts_on_claims": without("verdicts_on_claims"),
}


def test_nothing_is_missing_of_a_whole_run(make_run):
    assert missing(report.load_run(make_run())) == []


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_said(make_run, what):
    folder = make_run()
    MISSING[what](folder)

    (said,) = missing(report.load_run(folder))

    assert said.startswith(what)


def test_what_is_missing_is_on_the_page_and_on_stderr(make_run, capsys):
    folder = make_run()
    wanted = [what for what in MISSING if "gold" in what or "dpo.jsonl" in what][:2]
    wanted.append("metrics.json has no kl_ref of RLHF")
    for what in wanted:
        MISSING[what](folder)
    capsys.readouterr()  # what making it said

    assert main([str(folder)]) == 0

    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(wanted) and all(line.startswith("missing: ") for line in said)
    page, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert page.index('id="missing"') < page.index('id="results"')
    for what in wanted:
        assert any(what in line for line in said)
        shown = f"Missing: {what}"
        assert shown in page and shown.replace("_", r"\_") in markdown


def test_of_several_runs_it_is_said_once(make_run, tmp_path, capsys):
    folders = [make_run(f"b{beta}", dpo_beta=beta) for beta in (0.1, 0.5)]
    for folder in folders:
        MISSING["training/ppo.jsonl is not in the run folder"](folder)
    capsys.readouterr()  # what making them said
    assert main([str(folder) for folder in folders]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("missing: training/ppo.jsonl") and line.endswith("(2 of 2 runs)")


def put(name, text, place=None):
    """Writes `text` into a file of the run, or over its line `place` (from 1)."""

    def damage(folder):
        file = folder / name
        if place is None:
            file.write_bytes(text)
        else:
            lines = file.read_bytes().splitlines(keepends=True)
            lines[place - 1] = text
            file.write_bytes(b"".join(lines))

    return damage


def value(*path, value):
    def damage(folder):
        metrics = read_json(folder / "metrics.json")
        of = metrics
        for name in path[:-1]:
            of = of[name]
        of[path[-1]] = value
        (folder / "metrics.json").write_text(json.dumps(metrics))

    return damage


def folder_for_file(folder):
    (folder / "completions" / "dpo.jsonl").unlink()
    (folder / "completions" / "dpo.jsonl").mkdir()


REFUSED = {
    "completions/dpo.jsonl, line 7 is broken (Expecting ',' delimiter)": put(
        "completions/dpo.jsonl", b'{"arm": "dp', 7
    ),
    "completions/dpo.jsonl, line 40 is broken (Expecting": put("completions/dpo.jsonl", b'{"arm": "dpo", ', 40),
    "completions/dpo.jsonl, line 2 is broken (no JSON object)": put("completions/dpo.jsonl", b"[1]\n", 2),
    "completions/dpo.jsonl, line 2 is broken (it has no completion)": put(
        "completions/dpo.jsonl", b'{"arm": "dpo", "prompt_id": "test-00001"}\n', 2
    ),
    "completions/dpo.jsonl, line 3 is broken (completion is 5, and not a text)": put(
        "completions/dpo.jsonl", b'{"arm": "dpo", "prompt_id": "test-00001", "completion": 5}\n', 3
    ),
    "completions/dpo.jsonl, line 1 is broken ('utf-8'": put("completions/dpo.jsonl", b"\xff\xfe\n", 1),
    "completions/dpo.jsonl cannot be read (Is a directory)": folder_for_file,
    "prompts.jsonl, line 4 is broken (it has no reference)": put(
        "prompts.jsonl", b'{"prompt_id": "test-00001", "prompt": "p"}\n', 4
    ),
    "verdicts/gold.jsonl, line 800 is broken": put("verdicts/gold.jsonl", b'{"arm_a": "dpo", "ar', 800),
    "verdicts/gold.jsonl: verdict 'c' is none of a, b, tie, unparsed": put(
        "verdicts/gold.jsonl",
        b'{"arm_a": "dpo", "arm_b": "sft", "order": "ab", "verdict": "c", "prompt_id": "test-00001"}\n',
        5,
    ),
    "verdicts/gold.jsonl, line 5 is broken (it has no order)": put(
        "verdicts/gold.jsonl", b'{"arm_a": "dpo", "arm_b": "sft", "verdict": "a", "prompt_id": "test-00001"}\n', 5
    ),
    "training/ppo.jsonl, line 3 is broken": put("training/ppo.jsonl", b'{"step": 3, "kl', 3),
    'training/ppo.jsonl, line 3 is broken (kl_ref is "high", and not a number)': put(
        "training/ppo.jsonl", b'{"step": 3, "kl_ref": "high"}\n', 3
    ),
    "training/ppo.jsonl, line 3 is broken (NaN is no number of JSON)": put(
        "training/ppo.jsonl", b'{"step": 3, "kl_ref": NaN}\n', 3
    ),
    "metrics.json is broken (it is empty)": put("metrics.json", b""),
    "run.json is broken (it is empty)": put("run.json", b"\n"),
    "metrics.json is broken": put("metrics.json", b'{"schema": 2, "arms"'),
    "metrics.json is broken (no JSON object)": put("metrics.json", b"[]"),
    'metrics.json: arms.dpo.win_rate.gold.value is no number ("0.6")': value(
        "arms", "dpo", "win_rate", "gold", "value", value="0.6"
    ),
    "metrics.json: arms.ppo.kl_ref.ci95 is no pair of numbers ([1])": value("arms", "ppo", "kl_ref", "ci95", value=[1]),
    'metrics.json: arms.ppo.kl_ref.ci95.1 is no number ("x")': value("arms", "ppo", "kl_ref", "ci95", value=[1, "x"]),
    "metrics.json: arms is no object ([1])": value("arms", value=[1]),
    "metrics.json: head_to_head is no object": value("head_to_head", value="none"),
    "metrics.json: arms.dpo is no object (3)": value("arms", "dpo", value=3),
    "metrics.json: verdicts_on_claims is no list": value("verdicts_on_claims", value={}),
    "its numbers are not as results/README.md has them": value("arms", "dpo", "win_rate", value=[0.6]),
    "metrics.json has schema 3": value("schema", value=3),
    "metrics.json has schema None": without("schema"),
    "it has no run.json": lambda f: (f / "run.json").unlink(),
    "has not finished (no metrics.json)": lambda f: (f / "metrics.json").unlink(),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_broken_is_refused_in_one_line(make_run, capsys, why):
    folder = make_run()
    REFUSED[why](folder)
    capsys.readouterr()  # what making it said

    assert main([str(folder)]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and why in line and str(folder) in line
    assert not (folder / "report.html").exists()


def test_half_a_character_is_shown_as_its_escape(make_run, capsys):
    folder = make_run()
    half = json.dumps("half \ud83d")
    put("completions/dpo.jsonl", b'{"arm": "dpo", "prompt_id": "test-00000", "completion": %s}\n' % half.encode(), 1)(
        folder
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["health"]["ppo"]["findings"].append(
        {"step": 1, "severity": "note", "check": "c", "message": "half \ud83d", "advice": "none"}
    )
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert main([str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count(r"half \ud83d") == 1 and page.count(r"half \\ud83d") == 1  # the table; the samples' JSON


@pytest.mark.parametrize("below", ["", "there"])
def test_out_on_a_file_says_so(make_run, tmp_path, capsys, below):
    file = tmp_path / "file"
    file.write_text("a file where a folder is wanted")
    folders = [make_run(f"b{beta}", dpo_beta=beta) for beta in (0.1, 0.5)]
    capsys.readouterr()  # what making them said
    for runs in (folders[:1], folders):
        assert main([*map(str, runs), "--out", str(file / below)]) == 1
        said = capsys.readouterr().err
        assert said == f"error: cannot write into {file / below}: {file} is a file; name a folder\n"
