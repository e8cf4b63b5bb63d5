"""The first sentences of a report are made from its numbers."""

import pytest

from bench import report
from bench.report.sections.answer import answer
from bench.report.summary import summary


def judged(value, ci95):
    return {"value": value, "ci95": ci95, "n": 58, "ties": 0, "unparsed": 0}


@pytest.fixture
def run_dir(make_run, edit):
    """A run whose pairs came out as the tests need them."""
    path = make_run()

    def change(metrics):
        pairs = metrics["head_to_head"]
        pairs["dpo_vs_sft"]["win_rate"]["gold"] = judged(0.7, [0.58, 0.81])
        pairs["dpo_vs_sft"]["p_holm"]["gold"] = 0.004
        pairs["dpo_vs_ppo"]["win_rate"]["gold"] = judged(0.52, [0.4, 0.65])
        metrics["reward_model"]["beats_longer_wins"] = "not decided at this n"

    edit(path / "metrics.json", change)
    return path


def test_effect_kl_cost_and_what_to_distrust_come_first(run_dir, reading):
    run = report.load_run(run_dir)
    lines = answer(run)
    assert "DPO beats the SFT model on 70.0 % [58.0, 81.0] of 58 posts" in lines[0]
    assert "DPO against RLHF (PPO) is not decided at this n" in lines[0] and "52.0 %" in lines[0]
    assert "reward-model judge" in lines[1]
    kls = {arm: reading.number(run.metrics["arms"][arm]["kl_ref"]) for arm in ("ppo", "dpo")}
    told = f"KL to the SFT model, nats per completion: RLHF (PPO) {kls['ppo']}, DPO {kls['dpo']}; "
    assert lines[2] == told + "the arms are not compared at equal KL here: experiment=beta_frontier asks that."
    assert lines[3].startswith("One seed (0): the intervals are over posts")
    assert "Read the reward-model judge with care" in lines[4]
    assert "RLHF (PPO) 2.00 min, DPO 0.75 min" in lines[5]  # 120 s and 45 s
    assert "not shown to beat" in lines[6]


def test_on_a_busy_machine_the_cpu_time_stands_beside(run_dir, edit):
    def change(metrics):
        metrics["arms"]["dpo"]["cost"] |= {"busy": ["dpo"], "cpu_s": 40.0}
        metrics["arms"]["ppo"]["cost"] |= {"busy": [], "cpu_s": 90.0}

    edit(run_dir / "metrics.json", change)
    (line,) = (line for line in answer(report.load_run(run_dir)) if line.startswith("Device time"))
    assert line.endswith(", on a machine that was busy with other work; CPU time RLHF (PPO) 90.0 s, DPO 40.0 s.")


@pytest.mark.parametrize(
    ("ci95", "p", "said"),
    [
        ([0.3, 0.45], 0.01, "Not so the reward-model judge: DPO loses to RLHF (PPO), winning on 40.0 % [30.0, 45.0]"),
        ([0.3, 0.55], 0.4, "The reward-model judge decides the same (DPO over RLHF (PPO) 40.0 % [30.0, 55.0])."),
    ],
)
def test_another_judge_says_whether_it_decides_the_same(run_dir, edit, ci95, p, said):
    def change(metrics):
        duels = metrics["head_to_head"]
        for pair in [pair for pair in duels if pair != "dpo_vs_ppo"]:
            del duels[pair]
        duels["dpo_vs_ppo"]["win_rate"]["reward_model"] = judged(0.4, ci95)
        duels["dpo_vs_ppo"]["p_holm"]["reward_model"] = p

    edit(run_dir / "metrics.json", change)  # the gold judge does not decide
    assert answer(report.load_run(run_dir))[1].startswith(said)


def test_completions_of_no_known_seed_have_no_word_about_seeds(run_dir, edit):
    edit(run_dir / "run.json", lambda run: run.pop("seed"))
    assert not any("One seed" in line for line in answer(report.load_run(run_dir)))


@pytest.mark.parametrize(
    ("ci95", "p", "words"),
    [
        ([0.3, 0.45], 0.01, "DPO loses to RLHF (PPO), winning on 40.0 % [30.0, 45.0]"),
        ([0.3, 0.45], 0.125, "not decided at this n"),
        ([0.55, 0.7], 0.01, "beats"),
        ([0.55, 0.7], 0.05, "not decided at this n"),
        ([0.3, 0.55], 0.01, "not decided at this n"),
    ],
)
def test_interval_and_test_decide_what_is_said(run_dir, edit, ci95, p, words):
    def change(metrics):
        metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"] = judged(0.4, ci95)
        metrics["head_to_head"]["dpo_vs_ppo"]["p_holm"]["gold"] = p

    edit(run_dir / "metrics.json", change)
    assert words in answer(report.load_run(run_dir))[0].split(";")[0]
    (line,) = (line for line in summary(run_dir).splitlines() if line.startswith("  dpo beats ppo (gold)"))
    assert ("not decided" in words) == line.endswith("not decided at this n")


def test_a_pair_without_a_verdict_has_no_share_of_no_posts(run_dir, edit):
    unread = {"value": None, "ci95": None, "n": 0, "ties": 0, "unparsed": 58, "flip_rate": None}
    edit(
        run_dir / "metrics.json", lambda metrics: metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"].update(gold=unread)
    )
    said = answer(report.load_run(run_dir))[0]
    assert "of DPO against RLHF (PPO) no verdict could be read" in said and "of 0 posts" not in said


def test_what_was_measured_again_stands_behind_what_was_recorded(run_dir, edit):
    def change(metrics):
        for arm, hours in (("ppo", 0.021), ("dpo", 0.0042)):
            again = {"device_hours": hours, "rounds": [hours] * 3, "other_load": 0.0, "stages": {}}
            metrics["arms"][arm]["cost"]["remeasured"] = again

    edit(run_dir / "metrics.json", change)
    said = answer(report.load_run(run_dir))
    assert "Measured again, warm and in turns, it is: RLHF (PPO) 1.26 min, DPO 0.25 min." in said


def test_a_collapse_is_said(collapsed_dir, run_dir):
    assert "Collapsed in training: RLHF (PPO)" in " ".join(answer(report.load_run(collapsed_dir)))
    assert not any("Collapsed" in line for line in answer(report.load_run(run_dir)))
