"""What the evaluator, the meter and the trainers' checks found is in the report, by the numbers of metrics.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.report.load import records
from bench.report.page import Table, Text, to_html, to_markdown
from bench.report.render import run_page
from bench.report.sections import head_to_head, health, length, results
from bench.report.sections.answer import answer
from bench.report.summary import summary


def metrics_of(path) -> Any:
    return json.loads((path / "metrics.json").read_text())


def per_cent(estimate, with_n=False) -> str:
    low, high = (f"{100 * end:.1f}" for end in estimate["ci95"])
    return f"{100 * estimate['value']:.1f} % [{low}, {high}]" + (f" n {estimate['n']}" if with_n else "")


def plain_number(estimate) -> str:
    low, high = (f"{end:.2f}" for end in estimate["ci95"])
    return f"{estimate['value']:.2f} [{low}, {high}]"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, write_run):
    """A run with every kind of finding: an arm that collapsed, and the best of n."""
    arms = ("sft", "best_of_n", "ppo", "dpo", "reference")
    return write_run(tmp_path_factory.mktemp("evaluator") / "run", arms=arms, collapsed=True, logs=False)


@pytest.fixture(scope="module")
def sections(run_dir):
    """Title -> its blocks."""
    return {section.title: section.blocks for section in run_page(report.load_run(run_dir)).sections}


def cells(sections, title: str, caption: str) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a table by their first cells, up to the first with a number in it: column -> what is written."""
    (table,) = (
        block for block in sections[title] if isinstance(block, Table) and block.caption.lower().startswith(caption)
    )
    keys = 2 if table.columns[1] == "judge" else 1
    return {
        tuple(cell.text for cell in row[:keys]): {
            column: f"{cell.text} {cell.interval}".strip() for column, cell in zip(table.columns, row, strict=True)
        }
        for row in table.rows
    }


def texts(sections, title: str) -> str:
    return " ".join(getattr(block, "text", "") for block in sections[title])


def test_length_shows_the_win_rate_as_judged_and_at_equal_length(run_dir, sections):
    dpo = metrics_of(run_dir)["arms"]["dpo"]
    table = cells(sections, "Length", "win rate against the reference")

    row = table["DPO", "gold judge"]
    controlled = dpo["win_rate_length_controlled"]["gold"]
    assert row["win rate"] == per_cent(dpo["win_rate"]["gold"])
    assert row["at equal length"] == per_cent(controlled)
    assert row["n"] == str(controlled["n"]) and row["length effect (log-odds)"] == "0.70"

    without = table["DPO", "reward-model judge"]
    assert without["at equal length"] == "–" and without["n"] == "58"  # noqa: RUF001
    assert without["why there is no number"] == "every verdict is the same"


def test_length_bins_show_n_and_an_empty_bin_as_such(run_dir, sections):
    bins = metrics_of(run_dir)["arms"]["ppo"]["win_rate_by_length"]["gold"]
    row = cells(sections, "Length", "win rate by the length")["RLHF (PPO)", "gold judge"]
    assert row["below 0.5"] == "– n 0"  # noqa: RUF001
    assert row["0.8 to 1.25"] == per_cent(bins[2], with_n=True)
    assert row["2 and more"] == per_cent(bins[4], with_n=True)


def test_pairs_show_holm_equal_length_and_the_prompts_that_are_missing(run_dir, sections):
    pairs = metrics_of(run_dir)["head_to_head"]
    table = cells(sections, "Head to head", "share of prompts")
    row = table["DPO against RLHF (PPO)", "gold judge"]
    assert (row["p"], row["p (Holm)"], row["prompts needed"]) == ("0.800", "0.012", "4,321")
    assert row["at equal length"] == per_cent(pairs["dpo_vs_ppo"]["win_rate_length_controlled"]["gold"])
    assert table["DPO against SFT", "gold judge"]["prompts needed"] == "–"  # noqa: RUF001


def test_paired_wins_show_counts_and_a_difference_in_points(run_dir, sections):
    difference = metrics_of(run_dir)["head_to_head"]["ppo_vs_sft"]["mcnemar"]["gold"]["difference"]
    row = cells(sections, "Head to head", "the same pairs")["RLHF (PPO) against SFT", "gold judge"]
    assert [row[name] for name in ("both", "only the first", "only the second", "neither")] == ["20", "12", "9", "17"]
    assert (row["p (McNemar)"], row["p (Holm)"]) == ("0.664", "0.990")
    assert row["win rate of the first minus the second's (points)"] == per_cent(difference).replace(" %", "")


def test_strengths_put_all_arms_on_one_scale(run_dir, sections):
    fits = metrics_of(run_dir)["bradley_terry"]
    table = cells(sections, "Head to head", "all arms")
    assert list(table) == [("SFT",), ("Best of n",), ("RLHF (PPO)",), ("DPO",), ("Reference",)]
    assert table["DPO",]["reward-model judge"] == plain_number(fits["reward_model"]["dpo"])


def test_power_is_said_in_points(sections):
    said = texts(sections, "Head to head")
    assert "What 60 prompts can show" in said and "18.0 points from 50 %" in said
    assert "on prompts of their own none, however large" in said


def test_degeneration_shows_every_detector_and_what_does_not_apply(run_dir, sections):
    found = metrics_of(run_dir)["arms"]["dpo"]["degeneration"]
    table = cells(sections, "Degeneration", "completions that are no summary")
    assert table["DPO",]["copies the post"] == per_cent(found["post_copy"]) and table["DPO",]["n"] == "60"
    assert table["DPO",]["any of these"] == per_cent(found["any"])
    assert table["Reference",]["cut off (no EOS)"] == "–"  # noqa: RUF001


def test_judges_show_their_habits_and_what_the_asked_one_used(run_dir, sections):
    habits = metrics_of(run_dir)["judges"]["reward_model"]
    row = cells(sections, "Judges", "what each judge prefers")["reward-model judge",]
    assert row["chose the one shown first"] == per_cent(habits["position_bias"], with_n=True)
    assert row["chose the longer one"] == per_cent(habits["length_bias"], with_n=True)
    assert row["changed its mind with the order"] == "12.5 %"
    assert [row[name] for name in ("decided", "ties", "unparsed")] == ["700", "33", "7"]

    used = cells(sections, "Judges", "what the judges that are asked")
    assert list(used) == [("reward-model judge",)]
    counts = ("requests", "retries", "cached", "prompt tokens", "completion tokens")
    assert [used["reward-model judge",][name] for name in counts] == ["1,234", "5", "67", "89,012", "3,456"]


def test_best_of_n_is_in_order_of_n_and_its_kl_is_a_bound(run_dir, sections):
    by_n = metrics_of(run_dir)["best_of_n"]["by_n"]
    table = cells(sections, "Best of n", "best of n")
    assert list(table) == [("1",), ("2",), ("4",), ("16",)]
    assert table["16",]["win rate, gold judge"] == per_cent(by_n["16"]["win_rate"]["gold"], with_n=True)
    assert table["16",]["KL to SFT (nats)"] == "at most 1.60"


def test_cost_shows_flops_mfu_and_why_there_is_no_energy(sections):
    row = cells(sections, "Cost", "cost of each stage")["ppo",]
    assert (row["FLOPs"], row["MFU"]) == ("9.00e+10", "9.0 %")  # 90 s, as the fixture sets them
    assert "energy (kWh)" not in row and "CO2 (kg)" not in row
    said = texts(sections, "Cost")
    assert "Energy and CO2 were not measured (no counter was made up)." in said
    assert "The run took 245 s, of which 17.0 s went to the evaluator" in said and "3.25 s to neither" in said
    assert "1,234 requests, 89,012 prompt tokens and 3,456 completion tokens" in said


def test_energy_that_was_read_is_shown_with_its_source(write_run, edit, tmp_path):
    path = write_run(tmp_path / "run", logs=False)

    def read_ppo(metrics):
        metrics["cost"]["stages"]["ppo"] |= {"energy_kwh": 0.125, "co2_kg": 0.0625, "energy_source": "rapl+nvml"}

    edit(path / "metrics.json", read_ppo)
    page = run_page(report.load_run(path))
    sections = {section.title: section.blocks for section in page.sections}
    table = cells(sections, "Cost", "cost of each stage")
    assert (table["ppo",]["energy (kWh)"], table["ppo",]["CO2 (kg)"]) == ("0.125", "0.0625")
    assert table["dpo",]["energy (kWh)"] == "–"  # noqa: RUF001
    said = texts(sections, "Cost")
    assert "Energy in ppo was read from rapl+nvml" in said
    assert "not measured in sft, reward, dpo, evaluate" in said


def test_projected_hours_are_marked_as_projected_with_what_they_assume(sections):
    (table,) = (block for block in sections["Cost"] if isinstance(block, Table) and "projected" in block.caption)
    assert table.columns == ["arm", "FLOPs counted", "L4, projected"] and "not measured" in table.caption
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["RLHF (PPO)"] == ["1.20e+11", "1.33e-06"]  # 30 s + 90 s at 1e9 FLOP/s; over 25 TFLOP/s, in hours
    assert rows["All stages"][0] == "2.25e+11"
    assert "25 % of 100 TFLOP/s" in table.note and "made up" in table.note


def test_health_lists_findings_with_advice_and_says_what_was_quiet(sections):
    rows = cells(sections, "Health", "what the trainers' checks found")
    assert list(rows["ppo",].values()) == [
        "ppo", "12", "collapse", "it is 70 nats away: it has collapsed", "a larger ppo.beta",
    ]  # fmt: skip
    assert rows["dpo",]["kind"] == "note"
    (table,) = (block for block in sections["Health"] if isinstance(block, Table))
    assert table.note.endswith("No findings in sft.")
    assert "RLHF (PPO) collapsed at step 12: it is 70 nats away" in texts(sections, "Health")


def test_a_healthy_run_says_that_nothing_was_found(write_run, edit, tmp_path):
    path = write_run(tmp_path / "run", logs=False)
    edit(path / "metrics.json", lambda metrics: metrics["health"]["dpo"].update(findings=[]))
    run = report.load_run(path)
    (health,) = (section for section in run_page(run).sections if section.title == "Health")
    assert list(health.blocks) == [Text("No findings in sft, ppo, dpo.")]
    assert not any("Collapsed" in line for line in answer(run))


def test_a_collapsed_arm_is_marked_where_its_numbers_stand(run_dir, sections):
    run = report.load_run(run_dir)
    table = cells(sections, "Results", "arms, with")
    assert ("RLHF (PPO), collapsed",) in table and ("DPO",) in table
    assert "Collapsed in training: RLHF (PPO)" in " ".join(answer(run))
    plot = results.win_rate_bars(run)[0]
    assert "RLHF (PPO) (collapsed)" in plot.alt and "DPO (collapsed)" not in plot.alt
    labels = [label.get_text() for label in plot.figure.axes[0].get_xticklabels()]
    assert labels == ["SFT", "Best of n", "RLHF (PPO)\n(collapsed)", "DPO"]
    assert "ppo (collapsed)" in summary(run_dir)


def test_the_terminal_shows_the_pairs_in_question_and_counts_the_others(run_dir, edit, write_run, tmp_path):
    assert summary(run_dir).splitlines()[-1].startswith("  ppo beats sft (reward_model)")
    path = write_run(tmp_path / "run", logs=False)

    def add_pair(metrics):
        metrics["head_to_head"]["base_vs_sft"] = metrics["head_to_head"]["dpo_vs_sft"]

    edit(path / "metrics.json", add_pair)
    text = summary(path)
    assert text.splitlines()[-1] == "  2 more in the report" and "base beats" not in text


def test_a_run_of_before_the_evaluator_measured_these_shows_none_of_them(write_run, tmp_path):
    path = write_run(tmp_path / "run", evaluator=False, logs=False)
    run = report.load_run(path)
    page = run_page(run)
    titles = [section.title for section in page.sections]
    assert not {"Length", "Health", "Best of n", "Degeneration", "Judges"} & set(titles)
    text = to_markdown(page)
    for absent in ("Holm", "at equal length", "FLOPs", "MFU", "projected", "Bradley", "Energy", "collapsed"):
        assert absent not in text
    for table in (
        length.length_table,
        head_to_head.strength_table,
        health.health_table,
        head_to_head.paired_wins_table,
    ):
        assert records(table(run)) == []


REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PUBLISHED = sorted(path.parent.relative_to(REFERENCE).as_posix() for path in REFERENCE.glob("**/metrics.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_runs_render(name):
    page = to_html(run_page(report.load_run(REFERENCE / name)))
    assert "Results" in page and ">nan" not in page
