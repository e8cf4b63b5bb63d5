"""Several runs: what may be compared, and what is drawn once."""

import copy

import pytest

from bench import report
from bench.errors import RunFolderError
from bench.report.compare import check_comparable, varied_settings
from bench.report.load import policy_of


def test_a_sweep_over_dpo_beta_shows_the_ppo_arm_once(make_run):
    betas = (0.02, 0.1, 0.5)
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in betas]

    points = report.policy_points(runs)

    assert sorted(points["arm"]) == ["dpo", "dpo", "dpo", "ppo", "sft"]
    assert list(points.loc[points["arm"] == "dpo", "beta"]) == list(betas)
    assert points.loc[points["arm"] == "ppo", "beta"].item() == 0.05
    for run, kl in zip(runs, points.loc[points["arm"] == "dpo", "kl_ref"], strict=True):
        assert kl == run.metrics["arms"]["dpo"]["kl_ref"]["value"]


def test_policies_of_two_seeds_stay_apart(make_run):
    runs = [report.load_run(make_run(f"s{seed}", seed=seed)) for seed in (0, 1)]
    points = report.policy_points(runs)
    assert sorted(zip(points["seed"], points["arm"], strict=True)) == [
        (seed, arm) for seed in (0, 1) for arm in ("dpo", "ppo", "sft")
    ]


def test_comparison_says_what_varied_and_that_seeds_differ(make_run, tmp_path):
    folders = [make_run("a"), make_run("b", dpo_beta=0.5), make_run("c", seed=1)]
    page = report.render_comparison(folders, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "dpo.beta" in text and "These runs have 2 seeds (0, 1)" in text
    names = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    seeds = {
        f"{what}_over_seeds_{judge}.svg" for what in ("head_to_head", "win_rate") for judge in ("gold", "reward_model")
    }
    over = {"win_rate_vs_beta_gold.svg", "kl_vs_beta.svg", "reward_kl.svg", "win_rate_vs_cost_gold.svg"}
    assert names == over | seeds
    assert "DPO is best at beta" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_varied_settings_are_those_that_differ(make_run):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.1, 0.5)]
    assert varied_settings(runs) == {"dpo.beta": [0.1, 0.5]}


def _chosen_by(judge, points=2):
    return lambda run: run["config"]["samples_in_training"].update(keep_best=judge, points=points)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda run: run["data"].update(hash="other"), "data.hash"),
        (lambda run: run["stages"]["sft"].update(key="other"), "stages.sft.key"),
        (lambda run: run["config"]["sampling"].update(temperature=0.9), "config.sampling.temperature"),
        (lambda run: run["config"]["budget"].update(pairs=800), "config.budget.pairs"),
        (lambda run: run["config"]["judge"].update(names=["gold"]), "config.judge.names"),
        (lambda run: run["config"]["judge"].update(orders="one"), "config.judge.orders"),
        (_chosen_by("gold"), "config.samples_in_training.keep_best"),
    ],
)
def test_an_unfair_comparison_is_refused_and_named(make_run, edit, tmp_path, change, field):
    one, other = make_run("one"), make_run("other", dpo_beta=0.5)
    edit(other / "run.json", change)
    with pytest.raises(RunFolderError) as caught:
        report.render_comparison([one, other], tmp_path / "out")
    message = str(caught.value)
    assert field in message and str(one) in message and str(other) in message and "\n" not in message
    assert all(repr(report.load_run(path).setting(field)) in message for path in (one, other))
    assert not (tmp_path / "out").exists()


def test_who_chose_among_fewer_moments_is_not_compared(make_run, edit):
    one, other = make_run("one"), make_run("other", dpo_beta=0.5)
    for path, points in ((one, 2), (other, 2)):
        edit(path / "run.json", _chosen_by("gold", points))
    check_comparable([report.load_run(path) for path in (one, other)])
    edit(other / "run.json", _chosen_by("gold", 4))
    with pytest.raises(RunFolderError, match=r"samples_in_training\.points is 2 in .* but 4"):
        check_comparable([report.load_run(path) for path in (one, other)])


def test_one_training_chosen_from_by_two_judges_is_two_policies(make_run, edit):
    path = make_run("one")
    keys = {f"best_dpo_by_{judge}": {"key": judge} for judge in ("gold", "reward_model")}
    edit(path / "run.json", lambda run: run["stages"].update(keys))
    trained = policy_of(report.load_run(path), "dpo")
    found = []
    for judge in ("gold", "reward_model"):
        edit(path / "run.json", _chosen_by(judge))
        found.append(policy_of(report.load_run(path), "dpo"))
    assert [key for *_, key in found] == ["gold", "reward_model"] and trained not in found


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda run: run["config"]["data"]["reward"]["settings"].update(word_cost=0.02), "config.data.reward.settings"),
        (lambda run: run["stages"]["label"].update(key="other"), "stages.label.key"),
    ],
)
def test_arms_judged_by_two_truths_are_not_compared(make_run, edit, change, field):
    one, other = make_run("one"), make_run("other", dpo_beta=0.5)
    reward = {"scorer": "own:Reward", "settings": {"word_cost": 0.01}}
    for path in (one, other):
        edit(path / "run.json", lambda run: run["config"]["data"].update(reward=copy.deepcopy(reward)))
        edit(path / "run.json", lambda run: run["stages"].update(label={"key": "k"}))
    check_comparable([report.load_run(path) for path in (one, other)])
    edit(other / "run.json", change)
    with pytest.raises(RunFolderError, match=field):
        check_comparable([report.load_run(path) for path in (one, other)])


def test_over_seeds_too_somebodys_own_reward_is_one(make_run, edit):
    one, other = make_run("one"), make_run("other", seed=1)
    reward = {"scorer": "own:Reward", "settings": {}}
    for path, code in ((one, "a"), (other, "b")):
        edit(path / "run.json", lambda run: run["config"]["data"].update(reward=reward))
        edit(path / "run.json", lambda run, code=code: run["code"].update(known_reward=code))
    with pytest.raises(RunFolderError, match=r"code\.known_reward is 'a' in .* but 'b'"):
        check_comparable([report.load_run(path) for path in (one, other)])


def test_how_long_an_arm_trains_may_be_what_is_compared(make_run, edit, tmp_path):
    one, other = make_run("one"), make_run("other", dpo_beta=0.5)
    edit(other / "run.json", lambda run: run["config"]["budget"].update(ppo_episodes=128, dpo_epochs=3.0))
    text = report.render_comparison([one, other], tmp_path / "out").with_suffix(".md").read_text()
    table = text.partition("Settings that differ between the runs")[2]
    header, _, _, row = [line for line in table.splitlines() if line.startswith("|")][:4]
    assert "dpo\\_epochs" in header and "ppo\\_episodes" in header and "128" in row and "3.0" in row


def test_other_seeds_may_have_other_data_but_not_other_settings(make_run, edit, tmp_path):
    one, other = make_run("one"), make_run("other", seed=1)  # their data hash, SFT key and data.seed differ
    report.render_comparison([one, other], tmp_path / "out")
    edit(other / "run.json", lambda run: run["config"]["sft"].update(learning_rate=0.1))
    with pytest.raises(RunFolderError, match=r"config\.sft\.learning_rate"):
        report.render_comparison([one, other], tmp_path / "out")


def test_a_difference_inside_the_second_seed_is_seen(make_run, edit, tmp_path):
    folders = [make_run("a"), make_run("b", seed=1), make_run("c", seed=1, dpo_beta=0.5)]
    edit(folders[2] / "run.json", lambda run: run["data"].update(hash="other"))
    with pytest.raises(RunFolderError, match=r"data\.hash"):
        report.render_comparison(folders, tmp_path / "out")


def test_runs_that_cannot_show_their_data_are_refused(make_run, edit, tmp_path):
    folders = [make_run("a"), make_run("b", dpo_beta=0.5)]
    for folder in folders:
        edit(folder / "run.json", lambda run: run["data"].pop("hash"))
    with pytest.raises(RunFolderError, match=r"no data\.hash"):
        report.render_comparison(folders, tmp_path / "out")
