"""Whole reports: of runs that lack parts, of earlier versions, and of every published run."""

import shutil
from pathlib import Path

import pytest

from bench import report
from bench.report.compare import comparison_page
from bench.report.load import records
from bench.report.page import to_html, to_markdown
from bench.report.render import run_page
from bench.report.sections import claims, cost, head_to_head, health, length, results, reward_model, world


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arms", "gold"),
    [
        (("sft", "dpo"), True),
        pytest.param(("sft",), False, marks=pytest.mark.long),
        pytest.param(("base", "sft", "ppo", "dpo"), False, marks=pytest.mark.long),
    ],
)
def test_absent_arms_and_judges_leave_a_sound_page(make_run, reading, arms, gold):
    page, _ = reading.page(report.render_run(make_run(arms=arms, gold=gold)))
    assert ("RLHF (PPO)" in page) is ("ppo" in arms)
    assert ("Built-in world" in page) is gold
    assert "nan" not in page.lower().split()


def test_a_bare_run_still_renders(make_run, edit, reading):
    path = make_run()

    def keep_only_arms(metrics):
        metrics.clear()
        metrics.update(schema=1, arms={"dpo": {}})

    edit(path / "metrics.json", keep_only_arms)
    edit(path / "run.json", lambda run: [run.pop(key) for key in list(run) if key != "schema"])
    for file in ("completions", "training"):
        shutil.rmtree(path / file)
    (path / "prompts.jsonl").unlink()
    page, _ = reading.page(report.render_run(path))
    assert "This run compares no two arms" in page


@pytest.mark.parametrize(
    ("arms", "gold"), [(("sft", "dpo"), True), (("sft",), False), (("base", "sft", "ppo", "dpo"), False)]
)
def test_absent_parts_leave_no_columns_and_no_error(make_run, arms, gold):
    run = report.load_run(make_run(arms=arms, gold=gold))
    assert set(results.arm_table(run).index) == {*arms, "reference"}
    assert ("reward_gold" in results.arm_table(run)) is gold
    assert ("reward_model" in reward_model.reward_model_table(run).index) is ("ppo" in arms)
    assert world.trivial_policy_table(run).empty is not gold
    assert len(head_to_head.head_to_head_table(run)) == len(run.metrics["head_to_head"]) * len(run.judges)


def test_a_run_with_nothing_but_arms_still_has_every_table(make_run, edit):
    path = make_run()

    def keep_only_arms(metrics):
        arms = {"dpo": {}}
        metrics.clear()
        metrics.update(schema=1, arms=arms)

    edit(path / "metrics.json", keep_only_arms)
    run = report.load_run(path)
    assert list(results.arm_table(run).index) == ["dpo"]
    for table in (
        head_to_head.head_to_head_table,
        cost.cost_table,
        cost.arm_cost_table,
        claims.claims_table,
        reward_model.reward_model_table,
    ):
        assert table(run).empty


def test_a_run_of_before_the_evaluator_measured_these_shows_none_of_them(make_run, edit):
    path = make_run()

    def as_before(metrics):
        for name in ("bradley_terry", "judges", "power", "health"):
            del metrics[name]
        for arm in metrics["arms"].values():
            for name in [name for name in arm if name.startswith("win_rate_") or name == "degeneration"]:
                del arm[name]
        for pair in metrics["head_to_head"].values():
            for name in [name for name in pair if name not in ("win_rate", "p_value")]:
                del pair[name]
        sums = [metrics["cost"], *(arm["cost"] for arm in metrics["arms"].values() if "cost" in arm)]
        for fields in [*sums, *(stage for of in sums for stage in of["stages"].values())]:
            for name in [name for name in fields if name not in BEFORE]:
                del fields[name]
        for claim in metrics["verdicts_on_claims"]:
            claim["measure"] = "what it was"

    edit(path / "metrics.json", as_before)
    run = report.load_run(path)
    page = run_page(run)
    titles = [section.title for section in page.sections]
    assert not {"Length", "Health", "Best of n", "Degeneration", "Judges"} & set(titles)
    text = to_markdown(page).partition("## How it was made")[0]
    for absent in ("Holm", "at equal length", "FLOPs", "MFU", "projected", "Bradley", "Energy", "collapsed"):
        assert absent not in text
    for table in (
        length.length_table,
        head_to_head.strength_table,
        health.health_table,
        head_to_head.paired_wins_table,
    ):
        assert records(table(run)) == []


BEFORE = ("stages", "wall_s", "device_hours", "gpu_hours", "peak_memory_gib", "models_resident")
"""Fields of a cost that the meter has always had."""
REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PUBLISHED = sorted(path.parent.relative_to(REFERENCE).as_posix() for path in REFERENCE.glob("**/metrics.json"))
FIRST = {next(name for name in PUBLISHED if name.split("/")[0] == of) for of in {n.split("/")[0] for n in PUBLISHED}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # Of many runs of one experiment the first is like the others.
    [pytest.param(name, marks=() if "/" not in name or name in FIRST else pytest.mark.long) for name in PUBLISHED],
)
def test_the_published_runs_render(name):
    page = run_page(report.load_run(REFERENCE / name))
    text = to_markdown(page)
    assert "## Results" in text and "| nan" not in text
    if (REFERENCE / name / "report.md").exists():  # committed: made again where what it says has changed
        assert text == (REFERENCE / name / "report.md").read_text(encoding="utf-8")
    if "/" not in name:  # the seeds of one experiment have the same figures: those of the others are drawn
        assert ">nan" not in to_html(page)


BESIDE = {
    "builtin_seeds": "builtin",
    "tldr_controlled_betas": "tldr_controlled",
    "tldr_controlled_seeds": "tldr_controlled",
    "tldr_real_betas": "tldr_real",
}
"""A comparison -> the run of its own that it has too: seed 0, and the headline's setting."""
COMPARISONS = [path.parent.name for path in REFERENCE.glob("*/report.md") if not (path.parent / "run.json").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMPARISONS))
def test_the_published_comparisons_say_what_their_runs_do(name):
    """Committed reports over runs are made again where what they say has changed."""
    runs = [report.load_run(path.parent) for path in sorted((REFERENCE / name).glob("s*/run.json"))]
    if name in BESIDE:
        runs = [report.load_run(REFERENCE / BESIDE[name]), *runs]
    text = to_markdown(comparison_page(runs))
    assert "| nan" not in text
    assert text == (REFERENCE / name / "report.md").read_text(encoding="utf-8")
