"""Win rates at equal length and by length."""

import shutil

import pytest

from bench import report
from bench.files import read_jsonl, write_jsonl
from bench.report.sections import length


@pytest.fixture
def run_dir(make_run, edit):
    """A run in which one arm has no number at equal length by one judge."""
    path = make_run()

    def refuse(metrics):
        metrics["arms"]["dpo"]["win_rate_length_controlled"]["reward_model"].update(
            value=None, ci95=None, length_effect=None, reason="every verdict is the same"
        )

    def doubt(metrics):
        metrics["arms"]["ppo"]["win_rate_length_controlled"]["gold"].update(flag="extrapolated")

    edit(path / "metrics.json", refuse)
    edit(path / "metrics.json", doubt)
    return path


def test_the_win_rate_stands_as_judged_and_at_equal_length(run_dir, reading):
    dpo = reading.metrics(run_dir)["arms"]["dpo"]
    table = reading.cells(reading.sections(run_dir)["Length"], "win rate against the reference")

    row, controlled = table["DPO", "gold judge"], dpo["win_rate_length_controlled"]["gold"]
    assert row["win rate"] == reading.per_cent(dpo["win_rate"]["gold"])
    assert row["at equal length"] == reading.per_cent(controlled)
    assert row["n"] == str(controlled["n"])
    assert row["length effect (log-odds)"] == f"{controlled['length_effect']:.2f}"

    without = table["DPO", "reward-model judge"]
    assert without["at equal length"] == "–"  # noqa: RUF001
    assert without["why there is no number, or a doubtful one"] == "every verdict is the same"
    assert table["RLHF (PPO)", "gold judge"]["why there is no number, or a doubtful one"] == "extrapolated"


def empty_the_first_bin(metrics):
    metrics["arms"]["ppo"]["win_rate_by_length"]["gold"][0].update(value=None, ci95=None, n=0)


def test_bins_show_n_and_an_empty_bin_as_such(run_dir, edit, reading):
    edit(run_dir / "metrics.json", empty_the_first_bin)
    bins = reading.metrics(run_dir)["arms"]["ppo"]["win_rate_by_length"]["gold"]
    row = reading.cells(reading.sections(run_dir)["Length"], "win rate by the length")["RLHF (PPO)", "gold judge"]
    assert row["below 0.5"] == "– n 0"  # noqa: RUF001
    assert row["0.8 to 1.25"] == reading.per_cent(bins[2], with_n=True)
    assert row["2 and more"] == reading.per_cent(bins[4], with_n=True)


def test_the_figure_leaves_out_empty_bins(run_dir, edit, reading):
    edit(run_dir / "metrics.json", empty_the_first_bin)
    run = report.load_run(run_dir)
    plot = length.win_rate_by_length(run)[0]
    axes = reading.axes(plot)
    bins = run.metrics["arms"]["ppo"]["win_rate_by_length"]["gold"]
    drawn = reading.drawn(axes, "RLHF (PPO)")
    assert list(drawn.lines[0].get_xdata()) == pytest.approx([100 * bin_["value"] for bin_ in bins[1:]])
    assert [round(y) for y in drawn.lines[0].get_ydata()] == [1, 2, 3, 4]
    assert reading.bar(drawn, 0) == pytest.approx([100 * end for end in bins[1]["ci95"]])
    labels = [label.get_text().split("\n") for label in axes.get_yticklabels()]
    assert [name for name, _ in labels] == ["below 0.5", "0.5 to 0.8", "0.8 to 1.25", "1.25 to 2", "2 and more"]
    of_arms = [run.metrics["arms"][arm]["win_rate_by_length"]["gold"][4]["n"] for arm in ("base", "sft", "ppo", "dpo")]
    drawn_ns = sorted({n for n in of_arms if n})
    assert labels[4][1] == f"n {drawn_ns[0]} to {drawn_ns[-1]}"
    assert f"RLHF (PPO), 2 and more: {100 * bins[4]['value']:.1f} %" in plot.alt


def test_lengths_are_drawn_by_their_quantiles_in_words(make_run, reading):
    """Lengths of 1 to 40 words: a quantile q lies at 1 + 39 q."""
    path = make_run()
    file = path / "completions" / "dpo.jsonl"
    rows = [row | {"completion": "word " * (n + 1)} for n, row in enumerate(read_jsonl(file))]
    write_jsonl(file, rows)
    assert len(rows) == 40
    plot = length.length_distributions(report.load_run(path))
    axes = reading.axes(plot)
    place = [label.get_text() for label in axes.get_yticklabels()].index("DPO")
    far, middle_half, median = (list(line.get_xdata()) for line in axes.lines if line.get_ydata()[0] == place)
    assert far == pytest.approx([1 + 39 * 0.05, 1 + 39 * 0.95])
    assert middle_half == pytest.approx([1 + 39 * 0.25, 1 + 39 * 0.75])
    assert median == pytest.approx([20.5])
    assert plot.caption.startswith("40 summaries of each")


def test_without_completions_no_lengths_are_drawn(make_run):
    path = make_run()
    shutil.rmtree(path / "completions")
    assert length.length_distributions(report.load_run(path)) is None
