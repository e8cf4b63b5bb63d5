"""The claims of several run folders: which numbers each line takes, and why some cannot be had."""

import shutil

import pytest

from bench import report
from bench.data.evaluation_sets import EvalSetConfig
from bench.evaluate.matched import matched as matched_frontiers
from bench.evaluate.robustness import simpler
from bench.report.claims_over_runs import best_judge, claims_over_runs, section
from bench.report.failures import failure_rows, setting_rows
from bench.report.frontier import frontiers, matched
from bench.report.load import distinct
from bench.report.page import Table
from bench.report.tuned import tuned_duel, tuned_duels
from bench.tuning import Space, TuningConfig


def by_view(runs):
    return {
        found["view"]: found
        for found in claims_over_runs(runs, "gold", matched(runs, "gold"), tuned_duels(runs, "gold"))
    }


@pytest.fixture
def seeds(make_run):
    return [report.load_run(make_run(f"s{seed}", seed=seed)) for seed in range(3)]


def test_seeds_of_one_setting_decide_at_their_own_kl_alone(seeds):
    found = by_view(seeds)

    rates = [run.metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"]["value"] for run in seeds]
    assert found["at own KL"]["estimate"]["value"] == pytest.approx(sum(rates) / 3)
    assert (found["at own KL"]["estimate"]["seeds"], found["at own KL"]["reason"]) == (3, None)
    assert "one setting alone" in found["at equal KL"]["reason"]
    assert all("no trials" in found[view]["reason"] for view in ("tuned, equal trials", "tuned, equal hours"))
    assert "3 runs of both arms" in found["failures and spread"]["reason"]
    # Every seed's RLHF took 120 s and DPO 45: nothing varies, and the runs decide.
    device_hours = next(row for row in claims_over_runs(seeds, "gold", None, {}) if row["claim"] == 1)
    assert device_hours["estimate"]["value"] == pytest.approx(120 / 45) and device_hours["verdict"] == "supported"


def test_a_sweep_is_put_to_equal_kl_and_not_to_its_settings_own(make_run):
    betas = [(0.02, 0.02), (0.5, 0.2)]
    runs = [report.load_run(make_run(f"r{i}", dpo_beta=dpo, ppo_beta=ppo)) for i, (dpo, ppo) in enumerate(betas)]
    found = by_view(runs)

    expected = matched_frontiers(frontiers(runs, "gold"))
    assert found["at equal KL"]["estimate"]["value"] == expected["value"]
    assert found["at equal KL"]["reason"] == "1 seed: a claim about a method needs 3"
    assert found["at own KL"]["reason"] == "each setting has one seed"


def test_several_settings_have_several_kls_of_their_own(seeds, edit):
    for run in seeds[1:]:
        edit(run.path / "run.json", lambda record: record["config"]["dpo"].update(beta=0.5))
    runs = [report.load_run(run.path) for run in seeds]
    for run in runs[:1]:
        twin = run.path.with_name("twin")
        shutil.copytree(run.path, twin)
        edit(twin / "run.json", lambda record: record["config"].update(seed=9) or record.update(seed=9))
        runs.append(report.load_run(twin))

    assert "2 settings" in by_view(runs)["at own KL"]["reason"]


def test_arms_in_runs_of_their_own_have_no_head_to_head(make_run, edit):
    runs = []
    for arm, other in (("ppo", "dpo"), ("dpo", "ppo")):
        path = make_run(arm)
        edit(path / "metrics.json", lambda metrics, other=other: metrics["arms"].pop(other))
        runs.append(report.load_run(path))

    assert by_view(runs)["at own KL"]["reason"] == "no run holds both arms"
    assert "0 runs of both arms" in by_view(runs)["failures and spread"]["reason"]
    assert section(runs[:1], "gold", None, {}) == []


@pytest.mark.long
def test_trials_are_put_to_the_chosen_ones_and_the_presets_to_their_own_kl(tmp_path, write_run):
    space = {"dpo": {"beta": Space(0.02, 0.5)}, "ppo": {"beta": Space(0.02, 0.5)}}
    runs = [
        report.load_run(
            write_run(
                tmp_path / f"s{seed}-t{trial}",
                seed=seed,
                dpo_beta=0.1 + trial,
                ppo_beta=0.05 + trial,
                sets={"validation": EvalSetConfig(split="validation", prompts=20)},
                tuning=TuningConfig(trial=trial, trials=2, space=space),
            )
        )
        for seed in range(2)
        for trial in range(2)
    ]
    found = by_view(runs)

    duel = tuned_duel(runs, "gold")
    assert duel is not None
    assert found["tuned, equal trials"]["estimate"]["value"] == duel["difference"]["mean"]
    assert "fits into the hours" in found["tuned, equal hours"]["reason"]  # as in test_tuned
    presets = [run.metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"]["value"] for run in runs[::2]]
    assert found["at own KL"]["estimate"]["value"] == pytest.approx(sum(presets) / 2)
    apart = simpler([run.metrics for run in runs], "gold")["estimate"]
    assert found["failures and spread"]["estimate"]["value"] == apart["value"]
    assert (found["failures and spread"]["estimate"]["n"], found["failures and spread"]["estimate"]["seeds"]) == (4, 2)


@pytest.fixture
def swept(make_run, edit):
    """Seeds 0 and 1 at four betas of DPO, whose win rate falls with it; the PPO arm of a seed is one policy."""
    runs = []
    for seed in (0, 1):
        for i, beta in enumerate((0.02, 0.1, 0.5, 0.9)):
            path = make_run(f"s{seed}b{beta}", seed=seed)
            value = 0.9 - 0.1 * i + 0.01 * seed

            def change(metrics, value=value):
                metrics["arms"]["dpo"]["win_rate"]["gold"].update(value=value, ci95=[value - 0.1, value + 0.05])
                metrics["health"]["ppo"]["collapsed"] = True

            def other(record, beta=beta):
                record["config"]["dpo"]["beta"] = beta
                record["stages"]["dpo"]["key"] += str(beta)

            edit(path / "metrics.json", change)
            edit(path / "run.json", other)
            runs.append(report.load_run(path))
    return runs


def test_a_policy_that_several_runs_share_fails_once(swept):
    rows = {row["arm"]: row for row in failure_rows(swept, "gold")}

    assert (rows["ppo"]["policies"], rows["ppo"]["collapsed"], rows["ppo"]["failed"]) == (2, 2, 1.0)
    assert (rows["dpo"]["policies"], rows["dpo"]["collapsed"]) == (8, 0)
    assert distinct(swept, "ppo", "dpo") == [swept[0], swept[4]]


def test_settings_that_matter_are_those_that_were_varied(swept):
    (row,) = setting_rows(swept, "gold")

    assert (row["arm"], row["setting"], row["settings"]) == ("dpo", "dpo.beta", 4)
    assert row["rank_correlation"] == pytest.approx(-1)


def test_the_claims_stand_in_the_comparison(seeds):
    blocks = section(seeds, "gold", None, {})

    claims = blocks[0]
    assert isinstance(claims, Table)
    rows = [dict(zip(claims.columns, [cell.text for cell in row], strict=True)) for row in claims.rows]
    assert [row["claim"] for row in rows] == ["1", "2", "3", "4", "4", "4", "4", "5"]
    assert rows[0]["estimate"] == "2.67" and rows[3]["estimate"].endswith(" %")
    assert all(row["verdict"] == "not decided at this n" for row in rows[4:7])


def test_the_most_trusted_judge_of_every_run_is_asked(seeds, edit):
    assert best_judge(seeds) == "gold"

    def without_gold(metrics):
        for of in (*metrics["arms"].values(), *metrics["head_to_head"].values()):
            of.get("win_rate", {}).pop("gold", None)

    edit(seeds[0].path / "metrics.json", without_gold)
    assert best_judge([*seeds[1:], report.load_run(seeds[0].path)]) == "reward_model"
