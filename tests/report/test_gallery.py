"""The list of figures is complete, and its page shows what runs have of them."""

import importlib

import pytest

from bench import report
from bench.report.__main__ import main
from bench.report.gallery import FIGURES, gallery_page
from bench.report.page import Figures

pytestmark = pytest.mark.slow  # every figure is drawn


@pytest.fixture(scope="module")
def full(tmp_path_factory, write_run):
    """A run with all that figures of one run need."""
    folder = tmp_path_factory.mktemp("gallery") / "run"
    arms = ("base", "sft", "best_of_n", "ppo", "dpo")
    return report.load_run(write_run(folder, arms=arms, temperatures=(0.0, 1.0), points=4))


def names(drawings, runs):
    return {plot.name for drawing in drawings for plot in drawing.of(runs)}


def test_every_figure_of_one_run_has_something_to_draw_and_no_other_is_on_its_page(full):
    of_one = [drawing for drawing in FIGURES if not drawing.of_runs]
    assert [drawing.path for drawing in of_one if not drawing.of([full])] == []
    both = {"reward_kl", "win_rate_vs_cost_gold"}  # of one run or several
    assert set(report.figures(full)) == names(of_one, [full]) | both
    assert both < names(FIGURES, [full])


@pytest.mark.long
def test_every_figure_over_runs_is_in_the_list(make_run):
    betas = [report.load_run(make_run(f"b{b}", dpo_beta=b, ppo_beta=b)) for b in (0.02, 0.1, 0.5, 2.0)]
    seeds = [report.load_run(make_run(f"s{seed}", seed=seed)) for seed in (0, 1)]
    found = set()
    for runs in (betas, seeds):
        shown = set(report.figures(runs))
        found |= shown
        assert shown <= names([drawing for drawing in FIGURES if drawing.of_runs], runs)
    for start in ("at_equal_kl", "kl_vs_beta", "head_to_head_over_seeds", "win_rate_over_seeds", "gold_over_kl"):
        assert any(name.startswith(start) for name in found), start


def test_each_is_found_where_the_list_says():
    for drawing in FIGURES:
        module, _, name = drawing.path.rpartition(".")
        assert getattr(importlib.import_module(module), name) is drawing.function
        assert not name.startswith("_") and drawing.question.endswith("?")


def test_the_page_says_what_a_figure_needs_where_the_runs_lack_it(make_run):
    page = gallery_page([report.load_run(make_run())])
    sections = {section.title: section.blocks for section in page.sections}
    words, note = sections["What did tuning find?"]
    assert getattr(words, "text", "") == "bench.report.tuned.trials_figure; needs trials (experiment=tuned)."
    assert note.kind == "note"
    assert any(isinstance(block, Figures) for block in sections["Who beats whom?"])


def test_the_command_writes_it_beside_the_report(make_run, capsys):
    path = make_run()
    assert main(["--gallery", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path / "gallery.html")
    assert not (path / "report.html").exists()
    assert "bench.report.sections.head_to_head.pairwise_matrix" in (path / "gallery.html").read_text(encoding="utf-8")
