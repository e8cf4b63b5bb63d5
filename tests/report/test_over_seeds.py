"""Runs that differ in their seed alone."""

import math
import shutil
import statistics

import pytest
from scipy import stats

from bench import report
from bench.files import read_jsonl, write_jsonl
from bench.report.compare import comparison_page
from bench.report.duel_over_seeds import duel_summaries
from bench.report.load import records
from bench.report.over_seeds import groups_of_seeds, seeds_section, win_rate_over_seeds
from bench.report.page import Figures, Table


def test_seeds_of_one_setting_form_a_group(make_run, edit):
    def loaded(name, seed=0, beta=0.1):
        path = make_run(name, seed=seed)
        edit(path / "run.json", lambda run: run["config"]["dpo"].update(beta=beta))
        return report.load_run(path)

    a0, a1 = loaded("a0"), loaded("a1", seed=1)
    b0, b1 = loaded("b0", beta=0.5), loaded("b1", seed=1, beta=0.5)
    alone = loaded("c0", beta=0.9)
    twice = [loaded("d0", beta=0.7), loaded("d0-again", beta=0.7), loaded("d1", seed=1, beta=0.7)]

    assert groups_of_seeds([a0, b0, alone, a1, b1, *twice]) == [[a0, a1], [b0, b1]]


def test_a_seed_with_fewer_arms_is_a_seed_and_arms_that_were_swept_apart_are_no_seeds(make_run, edit):
    def loaded(name, arms, seed=0):
        path = make_run(name, seed=seed, arms=arms)
        edit(path / "run.json", lambda run: run["config"].update(arms=list(arms)))
        return report.load_run(path)

    both, fewer = loaded("a0", ("sft", "ppo", "dpo")), loaded("a1", ("sft", "dpo"), seed=1)
    assert groups_of_seeds([both, fewer]) == [[both, fewer]]
    apart = [[loaded(f"{arm}{seed}", ("sft", arm), seed) for seed in (0, 1)] for arm in ("ppo", "dpo")]
    assert groups_of_seeds([run for of_arm in apart for run in of_arm]) == apart


def test_the_tables_of_several_settings_are_folded_and_named_by_what_sets_them_apart(make_run, edit):
    runs = []
    for beta in (0.1, 0.5):
        for seed in (0, 1):
            path = make_run(f"s{seed}b{beta}", seed=seed)
            edit(path / "run.json", lambda run, beta=beta: run["config"]["dpo"].update(beta=beta))
            runs.append(report.load_run(path))

    blocks = seeds_section(groups_of_seeds(runs))

    tables = [block for block in blocks if isinstance(block, Table) and block.folded]
    assert len(tables) == len(blocks)
    assert [table.caption for table in tables if "dpo.beta=0.5" in table.caption] == [
        "Win rate against the reference summary over seeds: dpo.beta=0.5",
        "Head to head over seeds: dpo.beta=0.5",
    ]


@pytest.fixture
def seeds_with_a_collapse(make_run, edit):
    """Three seeds whose DPO wins 60, 70 and, below its SFT model, 10 % by the gold judge."""
    runs = []
    for seed, value in enumerate((0.6, 0.7, 0.1)):
        path = make_run(f"s{seed}", seed=seed)

        def change(metrics, value=value):
            metrics["arms"]["dpo"]["win_rate"]["gold"].update(value=value, ci95=[value - 0.05, value + 0.05])
            lost = {"value": value - 0.4, "ci95": [value - 0.6, value - 0.2], "n": 40}
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
    # Student's t, 2 degrees of freedom, 97.5 %, on the logit scale: each seed has prompts of its own.
    mean = statistics.mean(values)
    half = 4.302653 * statistics.stdev(values) / 3**0.5 / (mean * (1 - mean))
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

    (means,) = (line for line in page.answer if line.startswith("Mean over seeds"))
    assert "DPO 46.7 %" in means and "(3 seeds, 1 collapsed)" in means
    blocks = page.sections[0].blocks
    (plots,) = (block.plots for block in blocks if isinstance(block, Figures))
    assert page.sections[0].title == "Over seeds" and len(plots) == 4  # two of each judge
    table, of_seeds, _ = (block for block in blocks if isinstance(block, Table))
    (row,) = (row for row in table.rows if (row[0].text, row[1].text) == ("DPO", "gold judge"))
    cells = dict(zip(table.columns, row, strict=True))
    assert (cells["sd (points)"].text, cells["collapsed"].text) == ("32.1", "1")
    assert of_seeds.folded and list(of_seeds.columns[:3]) == ["arm", "seed", "win rate, gold judge"]
    each = {(arm.text, seed.text): gold for arm, seed, gold, *_ in of_seeds.rows}
    assert (each["DPO", "0"].text, each["DPO", "0"].interval) == ("60.0 %", "[55.0, 65.0]")
    assert (each["DPO", "2"].text, each["DPO", "2"].tone) == ("10.0 %, collapsed", "bad")


def test_a_seed_without_the_arm_leaves_only_that_arm_out(make_run):
    runs = [report.load_run(make_run(f"s{seed}", seed=seed)) for seed in (0, 1)]
    runs.append(report.load_run(make_run("s2", seed=2, arms=("sft", "dpo"))))
    seeds = {row["arm"]: row["seeds"] for row in records(report.seed_summaries(runs))}
    assert seeds == {"ppo": 2, "dpo": 3}


def test_one_seed_has_no_mean_over_seeds(make_run):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.1, 0.5)]
    page = comparison_page(runs)
    assert "Over seeds" not in [section.title for section in page.sections]
    assert not any("Mean over seeds" in line for line in page.answer)


def test_seeds_are_points_the_mean_is_a_line_and_a_collapsed_seed_is_a_cross(make_run, edit, reading):
    values = {0: 0.6, 1: 0.7, 2: 0.1}
    runs = []
    for seed, value in values.items():
        path = make_run(f"s{seed}", seed=seed, arms=("sft", "dpo"))

        def change(metrics, value=value):
            metrics["arms"]["dpo"]["win_rate"]["gold"].update(value=value, ci95=[value - 0.05, value + 0.05])
            lost = {"value": value - 0.4, "ci95": [value - 0.6, value - 0.2], "n": 40}
            metrics["head_to_head"]["dpo_vs_sft"]["mcnemar"]["gold"] |= {"difference": lost, "p_value": 0.001}

        edit(path / "metrics.json", change)
        runs.append(report.load_run(path))
    summaries, points = report.seed_summaries(runs), report.seed_points(runs)

    plot = win_rate_over_seeds(summaries, points, "gold")

    axes = reading.axes(plot)
    drawn = [(errors.lines[0].get_xdata()[0], errors.lines[0].get_marker()) for errors in axes.containers]
    *seeds, mean_drawn = drawn
    assert seeds == [(pytest.approx(60), "o"), (pytest.approx(70), "o"), (pytest.approx(10), "x")]
    (mean,) = (row["win_rate"] for row in records(summaries) if row["judge"] == "gold")
    assert mean == pytest.approx((0.6 + 0.7 + 0.1) / 3)
    assert mean_drawn == (pytest.approx(100 * mean), "D")
    assert "seed 2 10.0 % (collapsed)" in plot.alt


@pytest.fixture
def seeds_that_share_prompts(make_run, edit):
    """Three seeds judged on the same prompts, of whose arms nothing is known but what the tests write."""
    paths = [make_run(f"v{seed}", seed=seed) for seed in range(3)]
    for path in paths[1:]:
        (path / "prompts.jsonl").write_bytes((paths[0] / "prompts.jsonl").read_bytes())
    return paths


def test_shared_prompts_do_not_average_out_over_seeds(seeds_that_share_prompts, edit):
    values = [0.6, 0.7, 0.5]
    for path, value in zip(seeds_that_share_prompts, values, strict=True):
        shutil.rmtree(path / "verdicts")
        (path / "by_prompt.json").unlink()
        found = {"value": value, "ci95": [value - 0.05, value + 0.05], "n": 40}
        edit(
            path / "metrics.json", lambda metrics, found=found: metrics["arms"]["dpo"]["win_rate"]["gold"].update(found)
        )
    runs = [report.load_run(path) for path in seeds_that_share_prompts]
    (row,) = (row for row in records(report.seed_summaries(runs)) if (row["arm"], row["judge"]) == ("dpo", "gold"))
    # Without verdicts: the seeds' variance over 3, and that of one interval of +- 0.05.
    of_seeds, of_prompts = statistics.variance(values) / 3, (0.05 / 1.959964) ** 2
    variance = of_seeds + of_prompts
    freedom = variance**2 / (of_seeds**2 / 2 + of_prompts**2 / 39)
    half = stats.t.isf(0.025, freedom) * variance**0.5 / (0.6 * 0.4)  # on the logit scale
    assert row["win_rate_high"] == pytest.approx(1 / (1 + 0.4 / 0.6 * math.exp(-half)), rel=1e-6)


def test_verdicts_of_shared_prompts_tell_seeds_and_prompts_apart(seeds_that_share_prompts, edit):
    """DPO wins prompts 0 to 19 of 40 in every seed: all of the variance is the prompts'."""
    for path in seeds_that_share_prompts:
        ids = [row["prompt_id"] for row in read_jsonl(path / "prompts.jsonl")]
        rows = [
            {"prompt_id": prompt_id, "arm_a": a, "arm_b": b, "order": "ab", "judge": "gold", "prompt_hash": ""}
            | {"verdict": "a" if i < 20 else "b"}
            for a, b in (("dpo", "reference"), ("ppo", "reference"), ("dpo", "ppo"))
            for i, prompt_id in enumerate(ids)
        ]
        write_jsonl(path / "verdicts" / "gold.jsonl", rows)
        (path / "verdicts" / "reward_model.jsonl").unlink()
        (path / "by_prompt.json").unlink()

        def even(metrics):
            metrics["arms"]["dpo"]["win_rate"]["gold"]["value"] = 0.5

        edit(path / "metrics.json", even)
    runs = [report.load_run(path) for path in seeds_that_share_prompts]
    rows = {(row["arm"], row["judge"]): row for row in records(report.seed_summaries(runs))}
    row = rows["dpo", "gold"]
    assert row["prompts"] == 40 and math.isnan(rows["dpo", "reward_model"]["prompts"])
    # Mean square of prompts: 3 seeds times the variance 20 x 20 / 40 / 39 of their means; divided by 3 x 40.
    half = stats.t.isf(0.025, 39) * (20 * 20 / 40 / 39 / 40) ** 0.5 / (0.5 * 0.5)
    assert row["win_rate_high"] == pytest.approx(1 / (1 + math.exp(-half)), rel=1e-6)
    duels = {(r["arm_a"], r["arm_b"], r["judge"]): r for r in records(duel_summaries(runs))}
    duel = duels["dpo", "ppo", "gold"]
    assert (duel["seeds"], duel["prompts"]) == (3, 40)
    captions = [block.caption for block in comparison_page(runs).sections[0].blocks if isinstance(block, Table)]
    assert captions[-1] == "Head to head over seeds"
