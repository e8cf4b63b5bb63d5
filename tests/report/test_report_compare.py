"""Several runs: what may be compared, what is drawn once, and the command line."""

import math
import statistics

import pytest
from scipy import stats

from bench import report
from bench.errors import RunFolderError
from bench.files import read_jsonl, write_jsonl
from bench.report.__main__ import main
from bench.report.compare import comparison_page, varied_settings
from bench.report.load import records
from bench.report.over_seeds import duel_summaries, groups_of_seeds
from bench.report.page import Figures, Table


def test_a_sweep_over_dpo_beta_shows_the_ppo_arm_once(make_run):
    betas = (0.05, 0.1, 0.5)
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in betas]

    points = report.policy_points(runs)

    assert sorted(points["arm"]) == ["dpo", "dpo", "dpo", "ppo", "sft"]
    assert list(points.loc[points["arm"] == "dpo", "beta"]) == list(betas)
    assert points.loc[points["arm"] == "ppo", "beta"].item() == 0.05
    for run, kl in zip(runs, points.loc[points["arm"] == "dpo", "kl_ref"], strict=True):
        assert kl == run.metrics["arms"]["dpo"]["kl_ref"]["value"]


def test_policies_of_two_seeds_stay_apart(make_run):
    runs = [report.load_run(make_run(f"s{seed}", seed=seed)) for seed in (0, 1)]
    points = report.policy_points(runs)
    assert sorted(zip(points["seed"], points["arm"], strict=True)) == [
        (seed, arm) for seed in (0, 1) for arm in ("dpo", "ppo", "sft")
    ]


def test_comparison_says_what_varied_and_that_seeds_differ(make_run, tmp_path):
    folders = [make_run("a"), make_run("b", dpo_beta=0.5), make_run("c", seed=1)]
    page = report.render_comparison(folders, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "dpo.beta" in text and "These runs have 2 seeds (0, 1)" in text
    names = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    seeds = {"win_rate_over_seeds_gold.svg", "win_rate_over_seeds_reward_model.svg"}
    assert names == {"win_rate_vs_beta_gold.svg", "kl_vs_beta.svg", "reward_kl.svg"} | seeds
    assert "DPO, 3 policies" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_varied_settings_are_those_that_differ(make_run):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.1, 0.2)]
    assert varied_settings(runs) == {"dpo.beta": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("change", "field", "values"),
    [
        (lambda run: run["data"].update(hash="other"), "data.hash", ("data-0", "other")),
        (lambda run: run["stages"]["sft"].update(key="other"), "stages.sft.key", ("sft-0", "other")),
        (
            lambda run: run["config"]["sampling"].update(temperature=1.0),
            "config.sampling.temperature",
            ("0.7", "1.0"),
        ),
        (lambda run: run["config"]["budget"].update(pairs=800), "config.budget.pairs", ("400", "800")),
        (
            lambda run: run["config"]["judge"].update(names=["gold"]),
            "config.judge.names",
            ("reward_model", "['gold']"),
        ),
        (lambda run: run["config"]["judge"].update(orders="one"), "config.judge.orders", ("None", "one")),
    ],
)
def test_an_unfair_comparison_is_refused_and_named(make_run, edit, tmp_path, change, field, values):
    one, other = make_run("one"), make_run("other", dpo_beta=0.2)
    edit(other / "run.json", change)
    with pytest.raises(RunFolderError) as caught:
        report.render_comparison([one, other], tmp_path / "out")
    message = str(caught.value)
    assert field in message and str(one) in message and str(other) in message and "\n" not in message
    assert all(value in message for value in values)
    assert not (tmp_path / "out").exists()


def test_other_seeds_may_have_other_data_but_not_other_settings(make_run, edit, tmp_path):
    one, other = make_run("one"), make_run("other", seed=1)  # their data hash, SFT key and data.seed differ
    report.render_comparison([one, other], tmp_path / "out")
    edit(other / "run.json", lambda run: run["config"]["sft"].update(learning_rate=0.1))
    with pytest.raises(RunFolderError, match=r"config\.sft\.learning_rate"):
        report.render_comparison([one, other], tmp_path / "out")


def test_a_difference_inside_the_second_seed_is_seen(make_run, edit, tmp_path):
    folders = [make_run("a"), make_run("b", seed=1), make_run("c", seed=1, dpo_beta=0.2)]
    edit(folders[2] / "run.json", lambda run: run["data"].update(hash="other"))
    with pytest.raises(RunFolderError, match="data-1"):
        report.render_comparison(folders, tmp_path / "out")


def test_runs_that_cannot_show_their_data_are_refused(make_run, edit, tmp_path):
    folders = [make_run("a"), make_run("b", dpo_beta=0.2)]
    for folder in folders:
        edit(folder / "run.json", lambda run: run["data"].pop("hash"))
    with pytest.raises(RunFolderError, match=r"no data\.hash"):
        report.render_comparison(folders, tmp_path / "out")


@pytest.mark.slow
def test_command_renders_one_run_in_place(make_run, capsys):
    path = make_run()
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path / "report.html")
    assert (path / "report.html").is_file() and (path / "report.md").is_file()


@pytest.mark.slow
def test_command_writes_elsewhere_when_asked(make_run, tmp_path, capsys):
    path = make_run()
    assert main([str(path), "--out", str(tmp_path / "there")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "there" / "report.html")
    assert not (path / "report.html").exists()


def test_command_compares_beside_the_experiment(make_run, tmp_path, capsys):
    folders = [str(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.1, 0.2)]
    assert main([*folders, folders[0]]) == 0  # a folder given twice is one run
    page = tmp_path / "fixture-comparison" / "report.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert "2 runs of fixture" in page.read_text(encoding="utf-8")


def test_command_answers_bad_input_with_one_line_and_its_code(make_run, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "no run folder" in captured.err

    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    assert main([str(make_run()), "--out", str(blocked)]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_command_leaves_out_runs_that_did_not_finish_and_says_so(make_run, edit, tmp_path, capsys):
    finished = [make_run(f"b{beta}", dpo_beta=beta, logs=False) for beta in (0.1, 0.2)]
    killed, failed, empty = (
        make_run("killed", logs=False),
        make_run("failed", logs=False),
        tmp_path / "fixture" / "empty",
    )
    (killed / "metrics.json").unlink()
    edit(killed / "run.json", lambda run: run.update(status="running"))
    # It had finished, and its evaluation was to be made again: metrics.json is of before.
    edit(failed / "run.json", lambda run: run.update(status="failed", error="OutOfMemoryError: 2 GiB\nwere asked for"))
    empty.mkdir()

    assert main([str(folder) for folder in (empty, finished[0], killed, failed, finished[1])]) == 0

    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("skipped: ") for line in lines)
    assert f"{empty} is not a run folder" in lines[0]
    assert f"{killed} has not finished (running)" in lines[1]
    assert f"{failed} has not finished (OutOfMemoryError: 2 GiB were asked for)" in lines[2]
    page = tmp_path / "fixture-comparison" / "report.html"
    assert captured.out.strip() == str(page) and "2 runs of fixture" in page.read_text(encoding="utf-8")


def test_command_refuses_when_no_run_has_finished(make_run, tmp_path, capsys):
    folders = [make_run(name, logs=False) for name in ("a", "b")]
    for folder in folders:
        (folder / "metrics.json").unlink()

    assert main([str(folder) for folder in folders]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: none of these 2 folders holds a finished run"

    assert main([str(folders[0]), str(tmp_path / "mistyped")]) == 2  # a folder that is not there is no killed run
    assert "no run folder at" in capsys.readouterr().err


def test_seeds_of_one_setting_form_a_group(make_run):
    def loaded(name, **differing):
        return report.load_run(make_run(name, logs=False, **differing))

    a0, a1 = loaded("a0"), loaded("a1", seed=1)
    b0, b1 = loaded("b0", dpo_beta=0.5), loaded("b1", seed=1, dpo_beta=0.5)
    alone = loaded("c0", dpo_beta=0.9)
    twice = [loaded("d0", dpo_beta=0.7), loaded("d0-again", dpo_beta=0.7), loaded("d1", seed=1, dpo_beta=0.7)]

    assert groups_of_seeds([a0, b0, alone, a1, b1, *twice]) == [[a0, a1], [b0, b1]]


@pytest.fixture
def seeds_with_a_collapse(make_run, edit):
    """Three seeds whose DPO wins 60, 70 and, below its SFT model, 10 % by the gold judge."""
    runs = []
    for seed, value in enumerate((0.6, 0.7, 0.1)):
        path = make_run(f"s{seed}", seed=seed, logs=False)

        def change(metrics, value=value):
            metrics["arms"]["dpo"]["win_rate"]["gold"].update(value=value, ci95=[value - 0.05, value + 0.05])
            lost = {"value": value - 0.4, "ci95": [value - 0.6, value - 0.2], "n": 58}
            metrics["head_to_head"]["dpo_vs_sft"]["mcnemar"]["gold"] |= {"difference": lost, "p_value": 0.001}

        edit(path / "metrics.json", change)
        runs.append(report.load_run(path))
    return runs


def test_seed_summaries_hold_mean_spread_and_every_point(seeds_with_a_collapse):
    values = [0.6, 0.7, 0.1]
    (row,) = (
        row
        for row in records(report.seed_summaries(seeds_with_a_collapse))
        if (row["arm"], row["judge"]) == ("dpo", "gold")
    )
    assert row["win_rate"] == pytest.approx(statistics.mean(values))
    assert row["sd"] == pytest.approx(statistics.stdev(values))
    # The seeds share their prompts and left no verdicts: their variance over 3, and that of one interval of +- 0.05.
    of_seeds, of_prompts = statistics.variance(values) / 3, (0.05 / 1.959964) ** 2
    variance = of_seeds + of_prompts
    freedom = variance**2 / (of_seeds**2 / 2 + of_prompts**2 / 57)
    mean = statistics.mean(values)
    half = stats.t.isf(0.025, freedom) * variance**0.5 / (mean * (1 - mean))  # on the logit scale
    assert row["win_rate_high"] == pytest.approx(1 / (1 + (1 - mean) / mean * math.exp(-half)), rel=1e-6)
    assert (row["seeds"], row["collapsed_seeds"]) == (3, 1)
    points = [
        (point["seed"], point["win_rate"], point["collapsed"])
        for point in records(report.seed_points(seeds_with_a_collapse))
        if (point["arm"], point["judge"]) == ("dpo", "gold")
    ]
    assert points == [(0, 0.6, False), (1, 0.7, False), (2, 0.1, True)]


def test_comparison_shows_the_mean_over_seeds_and_marks_the_collapsed_one(seeds_with_a_collapse):
    page = comparison_page(seeds_with_a_collapse)

    assert "DPO 46.7 %" in page.answer[-1] and "(3 seeds, 1 collapsed)" in page.answer[-1]
    blocks = page.sections[0].blocks
    (plots,) = (block.plots for block in blocks if isinstance(block, Figures))
    assert page.sections[0].title == "Over seeds" and len(plots) == 2  # two judges
    table, _ = (block for block in blocks if isinstance(block, Table))
    (row,) = (row for row in table.rows if (row[0].text, row[1].text) == ("DPO", "gold judge"))
    cells = dict(zip(table.columns, row, strict=True))
    assert cells["seed 0"].text == "60.0 %" and cells["seed 0"].interval == "[55.0, 65.0]"
    assert cells["seed 2"].text == "10.0 %, collapsed" and cells["seed 2"].tone == "bad"
    assert (cells["sd (points)"].text, cells["collapsed"].text) == ("32.1", "1")


def test_a_seed_without_the_arm_leaves_only_that_arm_out(make_run):
    runs = [report.load_run(make_run(f"s{seed}", seed=seed, logs=False)) for seed in (0, 1)]
    runs.append(report.load_run(make_run("s2", seed=2, arms=("sft", "dpo"), logs=False)))
    seeds = {row["arm"]: row["seeds"] for row in records(report.seed_summaries(runs))}
    assert seeds == {"ppo": 2, "dpo": 3}


def test_one_seed_has_no_mean_over_seeds(make_run):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta, logs=False)) for beta in (0.1, 0.2)]
    page = comparison_page(runs)
    assert page.sections[0].title == "Against beta" and not any("Mean over seeds" in line for line in page.answer)


def test_verdicts_of_shared_prompts_tell_seeds_and_prompts_apart(make_run):
    """DPO wins prompts 0 to 29 in every seed: all of the variance is the prompts'."""
    runs = []
    for seed in range(3):
        path = make_run(f"v{seed}", seed=seed, logs=False)
        ids = [row["prompt_id"] for row in read_jsonl(path / "prompts.jsonl")]
        rows = [
            {"prompt_id": prompt_id, "arm_a": a, "arm_b": b, "order": "ab", "judge": "gold", "prompt_hash": ""}
            | {"verdict": "a" if i < 30 else "b"}
            for a, b in (("dpo", "reference"), ("ppo", "reference"), ("dpo", "ppo"))
            for i, prompt_id in enumerate(ids)
        ]
        write_jsonl(path / "verdicts" / "gold.jsonl", rows)
        runs.append(report.load_run(path))
    rows = {(row["arm"], row["judge"]): row for row in records(report.seed_summaries(runs))}
    row = rows["dpo", "gold"]
    assert row["prompts"] == 60 and math.isnan(rows["dpo", "reward_model"]["prompts"])
    mean = row["win_rate"]
    # Mean square of prompts: 3 seeds times the variance 30 x 30 / 60 / 59 of their means; divided by 3 x 60.
    half = stats.t.isf(0.025, 59) * (30 * 30 / 60 / 59 / 60) ** 0.5 / (mean * (1 - mean))
    assert row["win_rate_high"] == pytest.approx(1 / (1 + (1 - mean) / mean * math.exp(-half)), rel=1e-6)
    duels = {(r["arm_a"], r["arm_b"], r["judge"]): r for r in records(duel_summaries(runs))}
    duel = duels["dpo", "ppo", "gold"]
    assert (duel["seeds"], duel["prompts"]) == (3, 60)
    captions = [block.caption for block in comparison_page(runs).sections[0].blocks if isinstance(block, Table)]
    assert captions[-1] == "Head to head over seeds"
