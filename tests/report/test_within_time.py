"""The best within the same time: chosen by hand from the runs' own numbers."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest

from bench import report
from bench.evaluate.statistics import estimate, paired_difference
from bench.report.by_prompt import points
from bench.report.compare import comparison_page
from bench.report.frontier import equal_time
from bench.report.load import Run
from bench.report.page import Table
from bench.report.within_time import in_words, section, within_time

HOURS = {"ppo": (1.0, 4.0), "dpo": (0.5, 2.25)}


@pytest.fixture
def runs(make_run: Callable[..., Path], edit: Callable[..., None]) -> list[Run]:
    """Two budgets of both arms, in one seed: the longer one takes 4 h (PPO) and 2.25 h (DPO)."""
    paths = [make_run(f"r{place}", dpo_beta=beta, ppo_beta=beta) for place, beta in enumerate((0.02, 0.2))]
    for place, (path, budget) in enumerate(zip(paths, ((64, 1.0), (128, 3.0)), strict=True)):
        edit(path / "run.json", lambda r, b=budget: r["config"]["budget"].update(ppo_episodes=b[0], dpo_epochs=b[1]))
        for arm, hours in HOURS.items():
            cost = {"device_hours": hours[place], "cpu_s": 3600 * hours[place], "busy": []}
            edit(path / "metrics.json", lambda m, arm=arm, cost=cost: m["arms"][arm]["cost"].update(cost))
    return [report.load_run(path) for path in paths]


def rate(run: Run, arm: str) -> float:
    return run.metrics["arms"][arm]["win_rate"]["gold"]["value"]


def test_each_arm_may_stop_where_it_is_best(runs: list[Run]):
    equal = equal_time(runs)
    assert equal is not None
    rows = within_time(runs, "gold", equal)

    # Within 1 h there is one setting of each; within 2.25 h two of DPO, within 4 h two of PPO.
    assert rows[0]["hours"] == 1.0 and "64" in rows[0]["ppo_setting"] and "1" in rows[0]["dpo_setting"]
    best = {arm: max(runs, key=lambda run, arm=arm: rate(run, arm)) for arm in HOURS}
    last = rows[-1]
    for arm, budget in (("ppo", "ppo_episodes"), ("dpo", "dpo_epochs")):
        assert f"{best[arm].setting(f'config.budget.{budget}'):g}" in last[f"{arm}_setting"]
        assert last[arm]["mean"] == pytest.approx(rate(best[arm], arm))
    won, lost = points(best["dpo"], "dpo", "gold"), points(best["ppo"], "ppo", "gold")
    assert last["difference"]["mean"] == pytest.approx(fmean(won[prompt] - lost[prompt] for prompt in won))
    of_posts = paired_difference([*won.values()], [lost[prompt] for prompt in won], 0, bounds=(-1, 1))
    assert last["difference"]["ci95"] == pytest.approx(estimate(of_posts)["ci95"])  # one seed: over its posts
    assert "over the posts of 1 seed" in in_words(last, "gold", equal)
    changes = [best["dpo"] is runs[1], best["ppo"] is runs[1]]
    assert [row["hours"] for row in rows] == [
        1.0,
        *(h for h, is_new in zip((2.25, 4.0), changes, strict=True) if is_new),
    ]


def test_the_page_says_it(runs: list[Run]):
    equal = equal_time(runs)
    assert equal is not None
    rows = within_time(runs, "gold", equal)
    said = in_words(rows[-1], "gold", equal)
    assert said.startswith(f"Within {rows[-1]['hours']:.2f} h of device time each, DPO at ")
    assert said in comparison_page(runs).answer
    assert len(section(rows, "gold", equal)) == 2


def test_without_two_settings_there_is_nothing_to_say(runs: list[Run]):
    equal = equal_time(runs)
    assert equal is not None
    assert within_time(runs[:1], "gold", equal) == [] and section([], "gold", equal) == []


def test_settings_of_one_length_are_held_within_the_longest_time_alone(runs: list[Run], edit: Callable[..., None]):
    """Betas were swept, not budgets: the arms' times differ by chance, and there is no line over time."""
    for run in runs:
        edit(run.path / "run.json", lambda r: r["config"]["budget"].update(ppo_episodes=64, dpo_epochs=1.0))
    for arm, hours in HOURS.items():  # the better setting took longer: it is another row's
        for run, taken in zip(sorted(runs[::-1], key=lambda run, arm=arm: rate(run, arm)), hours, strict=True):
            cost = {"device_hours": taken, "cpu_s": 3600 * taken}
            edit(run.path / "metrics.json", lambda m, arm=arm, cost=cost: m["arms"][arm]["cost"].update(cost))
    runs = [report.load_run(run.path) for run in runs]
    equal, page = equal_time(runs), comparison_page(runs)
    assert equal is not None and len(within_time(runs, "gold", equal)) > 1
    (blocks,) = (section.blocks for section in page.sections if section.title == "At equal time")
    assert isinstance(blocks[1], Table) and len(blocks[1].rows) == 1
    assert [said for said in page.answer if said.startswith("Within ")] == [
        in_words(within_time(runs, "gold", equal)[-1], "gold", equal)
    ]


def test_of_an_unknown_cost_there_is_no_time(runs: list[Run], edit: Callable[..., None]):
    edit(runs[0].path / "metrics.json", lambda m: m["arms"]["dpo"].pop("cost"))
    assert equal_time([report.load_run(run.path) for run in runs]) is None
