"""At equal KL, from run folders: policies are counted once, and what is said is what was computed."""

import shutil

import numpy as np
import pytest

from bench import report
from bench.evaluate.matched_kl import matched_kl
from bench.report.by_prompt import Duels, kls, points, share_prompts
from bench.report.frontier import frontiers, in_words, matched, section
from bench.report.page import Figures, Text


@pytest.fixture
def runs(make_run):
    """DPO at three betas and PPO at two, whose KLs overlap; the PPO arm of two runs is one policy."""
    betas = [(0.02, 0.02), (0.1, 0.2), (0.5, 0.2)]
    return [report.load_run(make_run(f"r{i}", dpo_beta=dpo, ppo_beta=ppo)) for i, (dpo, ppo) in enumerate(betas)]


def test_each_policy_is_there_once_with_its_prompts(runs):
    ((dpo, ppo),) = frontiers(runs, "gold").values()
    assert (len(dpo), len(ppo)) == (3, 2)
    assert dpo[0].points == points(runs[0], "dpo", "gold") and dpo[0].kl == kls(runs[0], "dpo")
    rate = runs[0].metrics["arms"]["dpo"]["win_rate"]["gold"]
    assert sum(dpo[0].points.values()) / len(dpo[0].points) == pytest.approx(rate["value"])
    kl = runs[0].metrics["arms"]["dpo"]["kl_ref"]["value"]
    assert sum(dpo[0].kl.values()) / len(dpo[0].kl) == pytest.approx(kl)


def test_the_section_says_what_was_computed(runs):
    found = matched_kl(frontiers(runs, "gold"))
    assert matched(runs, "gold") == found
    blocks = section(found, "gold")
    assert isinstance(blocks[0], Text) and blocks[0].text == in_words(found, "gold")
    assert isinstance(blocks[1], Figures)
    (plot,) = blocks[1].plots
    lines = plot.figure.axes[0].lines
    assert list(np.asarray(lines[0].get_ydata())) == pytest.approx([100 * row["first"]["value"] for row in found["at"]])
    assert list(np.asarray(lines[0].get_xdata())) == pytest.approx([row["kl"] ** 0.5 for row in found["at"]])


def test_one_setting_is_no_frontier(make_run):
    assert section(matched([report.load_run(make_run())], "gold"), "gold") == []


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
                    assert policy.kl == pytest.approx(before.kl, abs=1e-5)
    file = lean[0].path / "by_prompt.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"posts": "', '"posts": "other'), encoding="utf-8")
    assert not share_prompts(lean)
