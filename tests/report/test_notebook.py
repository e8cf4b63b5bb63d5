"""What a notebook asks for: every figure, every number in one table, and the notebook itself, which runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pandas as pd
import pytest

from bench import report
from bench.report.words import number

ROOT = Path(__file__).resolve().parents[2]


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(part)
    elif isinstance(value, int | float):
        yield float(value)


@pytest.fixture
def run(make_run):
    return report.load_run(make_run(arms=("sft", "best_of_n", "ppo", "dpo"), collapsed=True))


def test_tidy_holds_every_number_of_metrics_json_once(run):
    table = report.tidy(run)

    held = table[["value", "low", "high", "n"]].to_numpy().ravel()
    elsewhere = {name: part for name, part in run.metrics.items() if name != "cell"}  # its temperature is a column
    assert sorted(held[~pd.isna(held)]) == sorted(numbers_in(elsewhere))
    assert not table.duplicated(["run", "arm", "judge", "metric"]).any()


@pytest.mark.parametrize(
    ("arm", "judge", "metric", "place"),
    [
        ("dpo", "gold", "win_rate", ("arms", "dpo", "win_rate", "gold")),
        ("dpo", "", "rouge.rougeL", ("arms", "dpo", "rouge", "rougeL")),
        ("ppo", "", "reward.gold", ("arms", "ppo", "reward", "gold")),  # the gold reward, and no judge's
        ("dpo_vs_ppo", "gold", "head_to_head.win_rate", ("head_to_head", "dpo_vs_ppo", "win_rate", "gold")),
        ("dpo", "gold", "bradley_terry", ("bradley_terry", "gold", "dpo")),
        ("", "gold", "judges.length_bias", ("judges", "gold", "length_bias")),
        ("", "", "reward_model.accuracy", ("reward_model", "accuracy")),
    ],
)
def test_tidy_says_whose_each_estimate_is(run, arm, judge, metric, place):
    estimate: Any = run.metrics
    for name in place:
        estimate = estimate[name]
    table = report.tidy(run)

    found = table.query("arm == @arm and judge == @judge and metric == @metric")
    (row,) = found.to_dict("records")

    assert [row[name] for name in ("value", "low", "high", "n")] == [
        estimate["value"],
        *estimate["ci95"],
        estimate["n"],
    ]
    assert (row["run"], row["seed"]) == ("s0-fixture", 0)


def test_tidy_names_the_parts_of_a_list_and_writes_yes_as_one(run):
    table = report.tidy(run)
    of_the_run = {row["metric"]: row["value"] for row in table.to_dict("records") if row["arm"] == ""}

    assert of_the_run["verdicts_on_claims.1.estimate"] == pytest.approx(120 / 45)
    assert of_the_run["cost.projected.a100_sxm.assumed_mfu"] == 0.3
    assert (of_the_run["health.ppo.collapsed"], of_the_run["health.dpo.collapsed"]) == (1.0, 0.0)


def test_tidy_of_several_runs_tells_them_apart(make_run):
    runs = [report.load_run(make_run(f"s{seed}", seed=seed)) for seed in (0, 1)]
    table = report.tidy(runs)
    assert list(table.groupby("run")["seed"].first().items()) == [("s0", 0), ("s1", 1)]


def test_tidy_says_on_which_posts_and_at_which_temperature(make_run):
    run = report.load_run(make_run(temperatures=(0.0, 1.0)))
    table = report.tidy(run)

    assert sorted(set(zip(table["set"], table["temperature"], strict=True))) == [
        ("test", 0.0), ("test", 0.7), ("test", 1.0)
    ]  # fmt: skip
    assert not table.duplicated(["run", "set", "temperature", "arm", "judge", "metric"]).any()
    rates = table.query("metric == 'win_rate' and arm == 'dpo' and judge == 'gold'").set_index("temperature")
    of_grid = {cell["temperature"]: cell for cell in run.metrics["grid"]}
    for temperature, row in rates.iterrows():
        rate = of_grid.get(temperature, run.metrics)["arms"]["dpo"]["win_rate"]["gold"]
        assert row[["value", "low", "high", "n"]].tolist() == [rate["value"], *rate["ci95"], rate["n"]]
    assert len(rates) == 3


@pytest.mark.long
def test_figures_are_those_that_the_report_writes(run, make_run, tmp_path):
    report.render_run(run.path, tmp_path / "one")
    assert set(report.figures(run)) == {file.stem for file in (tmp_path / "one" / "figures").iterdir()}

    folders = [make_run("a"), make_run("b", dpo_beta=0.5)]
    report.render_comparison(folders, tmp_path / "two")
    names = set(report.figures([report.load_run(folder) for folder in folders]))
    assert names == {file.stem for file in (tmp_path / "two" / "figures").iterdir()} and names


def test_wide_puts_the_named_metrics_side_by_side(run):
    table = report.wide(report.tidy(run), "kl_ref", "win_rate")

    assert list(table.columns) == ["kl_ref", "win_rate, gold", "win_rate, reward_model"]
    rate = run.metrics["arms"]["dpo"]["win_rate"]["gold"]
    value, low, high = (number(of) for of in (rate["value"], *rate["ci95"]))
    assert table.loc["dpo", "win_rate, gold"] == f"{value} [{low}, {high}]"
    assert set(table.index) == {"sft", "best_of_n", "ppo", "dpo"}


def execute(name: str, home: Path) -> list[Any]:
    """The outputs of a notebook as a fresh clone has it: notebooks/, the published results, and nothing of its own."""
    (home / "notebooks").mkdir(parents=True)
    (home / "results").mkdir()
    (home / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    where = {"metadata": {"path": str(home / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=600, resources=where).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("RUN", "SWEEP"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "clone"


def shown(outputs: list[Any], kind: str) -> list[str]:
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.slow
def test_compare_arms_shows_the_published_run_in_a_fresh_clone(clone):
    outputs = execute("compare_arms", clone)

    assert outputs[0]["text"].strip() == str(clone / "results" / "reference" / "builtin")
    assert len(shown(outputs, "image/svg+xml")) == len(
        report.figures(report.load_run(ROOT / "results" / "reference" / "builtin"))
    )
    tables = shown(outputs, "text/html")
    assert len(tables) == 6  # arms, head to head, claims, cost, reward models, every number
    assert max(table.partition("</tr>")[0].count("<th") for table in tables) <= 16


@pytest.mark.slow
def test_beta_sweep_shows_the_published_sweep_in_a_fresh_clone(clone):
    outputs = execute("beta_sweep", clone)

    assert outputs[0]["text"].startswith("42 runs in ")
    table, _ = shown(outputs, "text/html")  # by setting, and every number
    assert table.count("<td>3</td>") == 1 + 5 + 7  # the SFT model, and each beta of DPO and PPO: three seeds
    assert len(shown(outputs, "image/svg+xml")) >= 3


@pytest.mark.long
@pytest.mark.slow
def test_own_data_reads_files_and_the_published_run_in_a_fresh_clone(clone):
    outputs = execute("own_data", clone)

    (sizes,) = [text for text in shown(outputs, "text/plain") if text.startswith("{")]
    assert "'demonstrations, train'" in sizes and "'evaluation prompts'" in sizes
    assert len(shown(outputs, "text/html")) == 1 and shown(outputs, "image/svg+xml")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
