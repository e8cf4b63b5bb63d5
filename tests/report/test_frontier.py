"""At equal KL, from run folders: policies are counted once, and what is said is what was computed."""

import shutil

import numpy as np
import pytest

from bench import report
from bench.evaluate.matched import matched as matched_frontiers
from bench.report.by_prompt import Duels, kls, points, share_prompts
from bench.report.compare import comparison_page
from bench.report.frontier import budgets_differ, equal_time, frontiers, in_words, matched, section
from bench.report.page import Figures, Text, to_markdown


@pytest.fixture
def runs(make_run):
    """DPO at three betas and PPO at two, whose KLs overlap; the PPO arm of two runs is one policy."""
    betas = [(0.02, 0.02), (0.1, 0.2), (0.5, 0.2)]
    return [report.load_run(make_run(f"r{i}", dpo_beta=dpo, ppo_beta=ppo)) for i, (dpo, ppo) in enumerate(betas)]


def test_each_policy_is_there_once_with_its_prompts(runs):
    ((dpo, ppo),) = frontiers(runs, "gold").values()
    assert (len(dpo), len(ppo)) == (3, 2)
    assert dpo[0].points == points(runs[0], "dpo", "gold") and dpo[0].spent == kls(runs[0], "dpo")
    rate = runs[0].metrics["arms"]["dpo"]["win_rate"]["gold"]
    assert sum(dpo[0].points.values()) / len(dpo[0].points) == pytest.approx(rate["value"])
    kl = runs[0].metrics["arms"]["dpo"]["kl_ref"]["value"]
    assert sum(dpo[0].spent.values()) / len(dpo[0].spent) == pytest.approx(kl)


def test_the_section_says_what_was_computed(runs):
    found = matched_frontiers(frontiers(runs, "gold"))
    assert matched(runs, "gold") == found
    blocks = section(found, "gold")
    assert isinstance(blocks[0], Text) and blocks[0].text == in_words(found, "gold")
    assert isinstance(blocks[1], Figures)
    (plot,) = blocks[1].plots
    lines = plot.figure.axes[0].lines
    assert list(np.asarray(lines[0].get_ydata())) == pytest.approx([100 * row["first"]["value"] for row in found["at"]])
    assert list(np.asarray(lines[0].get_xdata())) == pytest.approx([row["spent"] ** 0.5 for row in found["at"]])


def test_a_seed_of_one_setting_is_no_frontier_and_takes_none_away(runs, make_run):
    another_seed = report.load_run(make_run("s1", seed=1, dpo_beta=0.1, ppo_beta=0.1))
    assert set(frontiers([*runs, another_seed], "gold")) == {0, 1}
    alone, beside = matched(runs, "gold"), matched([*runs, another_seed], "gold")
    assert alone is not None and beside is not None and beside["seeds"] == 1
    assert (beside["value"], beside["range"], beside["n"]) == (alone["value"], alone["range"], alone["n"])


def test_one_setting_is_no_frontier(make_run):
    assert section(matched([report.load_run(make_run())], "gold"), "gold") == []


def test_at_equal_time(make_run, edit):
    """Budgets of both arms differ: the policies stand at the time that they took, CPU time on a busy machine."""

    def spends(path, episodes, epochs, ppo, dpo, **of_cost):
        edit(path / "run.json", lambda run: run["config"]["budget"].update(ppo_episodes=episodes, dpo_epochs=epochs))
        for arm, hours in (("ppo", ppo), ("dpo", dpo)):
            cost = {"device_hours": 2 * hours, "cpu_s": 3600 * hours, "busy": [], **of_cost}
            edit(path / "metrics.json", lambda m, arm=arm, cost=cost: m["arms"][arm]["cost"].update(cost))
        return report.load_run(path)

    paths = [make_run(f"r{place}", dpo_beta=beta, ppo_beta=beta) for place, beta in enumerate((0.02, 0.2))]
    assert not budgets_differ([report.load_run(path) for path in paths])  # betas alone
    idle = [spends(paths[0], 64, 1.0, 1.0, 0.5), spends(paths[1], 128, 3.0, 4.0, 2.25)]
    assert budgets_differ(idle)
    equal = equal_time(idle)
    assert equal is not None and (equal.name, equal.unit.sign) == ("device time", "h")
    assert set(equal.spent(idle[0], "dpo").values()) == {1.0}
    busy = [spends(paths[0], 64, 1.0, 1.0, 0.5, busy=["ppo"]), spends(paths[1], 128, 3.0, 4.0, 2.25)]
    equal = equal_time(busy)
    assert equal is not None and equal.name == "CPU time"

    found = matched(busy, "gold", equal)

    # Between 1 and 2.25 h. PPO's roots are 1 and 2, DPO's 0.71 and 1.5: halfway, at 1.25, PPO is a quarter of its way.
    assert found is not None and found["range"] == pytest.approx([1.0, 2.25])
    ppo, dpo = ([run.metrics["arms"][arm]["win_rate"]["gold"]["value"] for run in busy] for arm in ("ppo", "dpo"))
    middle = found["at"][2]
    assert middle["spent"] == pytest.approx(1.25**2)
    assert middle["second"]["value"] == pytest.approx(ppo[0] + 0.25 * (ppo[1] - ppo[0]))
    way = (1.25 - 0.5**0.5) / (1.5 - 0.5**0.5)
    assert middle["first"]["value"] == pytest.approx(dpo[0] + way * (dpo[1] - dpo[0]))
    blocks = section(found, "gold", equal)
    assert isinstance(blocks[0], Text)
    assert blocks[0].text.startswith("At equal CPU time (1.00 to 2.25 h, 1 seed of 40 prompts), gold judge: DPO's win")
    page = to_markdown(comparison_page(busy))
    assert "## At equal time" in page and blocks[0].text.partition("[")[0] in page
    assert "episodes 128" in page and "epochs 3" in page  # which setting


def test_words():
    found = {"reason": None, "ci95": [0.01, 0.05], "value": 0.03, "range": [0.8, 4.1], "seeds": 3, "n": 256}
    assert in_words(found, "gold") == (
        "At equal KL (0.80 to 4.10 nats, 3 seeds of 256 prompts), gold judge: DPO's win rate less RLHF (PPO)'s is 3.0"
        " points [1.0, 5.0]: DPO is better."
    )
    assert in_words(found | {"ci95": [-0.01, 0.05]}, "gold").endswith("not decided at this n.")
    assert "not compared, too far" in in_words({"reason": "too far"}, "gold")


def test_what_is_kept_of_every_prompt_says_the_same_without_verdicts_and_completions(runs):
    """Points and KL of by_prompt.json are those of the rows; other posts are not taken for the same."""
    whole = {judge: frontiers(runs, judge) for judge in ("gold", "reward_model")}
    duels = {judge: Duels(runs[0], judge).points("dpo", "ppo") for judge in whole}
    assert all(duels.values())
    shared = share_prompts(runs)
    for run in runs:
        for name in ("verdicts", "completions"):
            shutil.rmtree(run.path / name)
        (run.path / "prompts.jsonl").unlink()
    lean = [report.load_run(run.path) for run in runs]

    assert share_prompts(lean) == shared
    for judge, expected in whole.items():
        assert Duels(lean[0], judge).points("dpo", "ppo") == duels[judge]
        for found, wanted in zip(frontiers(lean, judge).values(), expected.values(), strict=True):
            for arm, other in zip(found, wanted, strict=True):
                for policy, before in zip(arm, other, strict=True):
                    assert policy.points == before.points
                    assert policy.spent == pytest.approx(before.spent, abs=1e-5)
    file = lean[0].path / "by_prompt.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"posts": "', '"posts": "other'), encoding="utf-8")
    assert not share_prompts(lean)
