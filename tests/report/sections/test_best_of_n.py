"""The best of n over n."""

from bench import report
from bench.report.sections import best_of_n


def test_rows_are_in_order_of_n_and_their_kl_is_a_bound(collapsed_dir, reading):
    by_n = reading.metrics(collapsed_dir)["best_of_n"]["by_n"]
    table = reading.cells(reading.sections(collapsed_dir)["Best of n"], "best of n")
    assert list(table) == [("1",), ("2",), ("4",), ("8",), ("16",)]
    assert table["16",]["win rate, gold judge"] == reading.per_cent(by_n["16"]["win_rate"]["gold"], with_n=True)
    assert table["16",]["KL to SFT (nats)"] == "at most 1.84"  # log 16 - 15/16


def test_it_is_drawn_over_n_for_each_judge(collapsed_dir, reading):
    run = report.load_run(collapsed_dir)
    axes = reading.axes(best_of_n.best_of_n_curve(run))
    by_n = run.metrics["best_of_n"]["by_n"]
    for judge, label in (("gold", "gold judge"), ("reward_model", "reward-model judge")):
        line = reading.drawn(axes, label).lines[0]
        assert list(line.get_xdata()) == [1, 2, 4, 8, 16]
        assert list(line.get_ydata()) == [100 * by_n[str(n)]["win_rate"][judge]["value"] for n in (1, 2, 4, 8, 16)]
    assert axes.get_xscale() == "log"


def test_no_best_of_n_arm_means_no_curve(make_run):
    assert best_of_n.best_of_n_curve(report.load_run(make_run())) is None
