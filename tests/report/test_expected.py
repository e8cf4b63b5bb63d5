"""Whether a run lies where runs of its settings are expected, and how that expectation is made."""

import json
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench import report
from bench.cli.bind import bind
from bench.cli.conf_dir import conf_dir
from bench.errors import RunFolderError
from bench.evaluate.prediction import range_of_a_further_run
from bench.report.__main__ import main
from bench.report.expected import against_expectation, write_expectation
from bench.report.load import leaves, settings

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "builtin_seeds" / "expected.json"


@pytest.fixture
def run_of(make_run, edit):
    """run_of(seed, shift): every win rate that is looked at is `shift` above one half, over 50 prompts."""

    def make(seed, shift=0.1):
        path = make_run(f"s{seed}", seed=seed)

        def change(metrics):
            for arm in ("sft", "ppo", "dpo"):
                metrics["arms"][arm]["win_rate"]["gold"].update(value=0.5 + shift, n=50)
            metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"].update(value=0.5 + shift, n=50)

        edit(path / "metrics.json", change)
        return path

    return make


@pytest.fixture
def seeds(run_of):
    return [run_of(seed, shift) for seed, shift in enumerate((0.05, 0.1, 0.15))]


@pytest.fixture
def expectation(seeds, tmp_path):
    return write_expectation(seeds, tmp_path / "expected.json")


def test_an_expectation_is_mean_spread_and_range_over_the_seeds(seeds, expectation):
    written = json.loads(expectation.read_text())
    runs = [report.load_run(folder) for folder in seeds]
    arm = [run.metrics["arms"]["dpo"]["win_rate"]["gold"]["value"] for run in runs]
    pair = [run.metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"]["value"] for run in runs]

    assert written["seeds"] == [0, 1, 2] and written["settings"] == settings(runs[0])
    for name, values in {"dpo": arm, "dpo_vs_ppo": pair}.items():
        found = written["win_rates"][name]
        assert (found["mean"], found["sd"]) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
        assert (found["n"], found["min"], found["max"]) == (3, min(values), max(values))
        assert found["range"] == list(range_of_a_further_run(values, 0.95))


def test_a_run_in_every_range_is_inside(run_of, expectation):
    line = against_expectation(run_of(7), [expectation])
    assert line.startswith("Inside the ranges expected from 3 seeds of these settings: SFT ") and "\n" not in line
    assert line.count(" to ") == 4 and "DPO over RLHF (PPO)" in line


def test_a_run_beyond_one_range_is_outside_and_says_where(run_of, edit, expectation):
    path = run_of(7)
    edit(path / "metrics.json", lambda metrics: metrics["arms"]["ppo"]["win_rate"]["gold"].update(value=0.0))
    line = against_expectation(path, [expectation])
    assert line.startswith("OUTSIDE ") and ": RLHF (PPO) 1.0 % (" in line  # half a prompt of 50 away from 0
    assert line.index("RLHF (PPO)") < line.index("inside:") < line.index("SFT")


def test_other_settings_have_no_expectation_but_a_seed_or_a_name_is_no_setting(make_run, run_of, edit, expectation):
    assert against_expectation(make_run("b", dpo_beta=0.5), [expectation]) == ""

    path = run_of(7)
    edit(path / "run.json", lambda run: run["config"].update(name="other", results_dir="elsewhere", later_setting=1))
    assert against_expectation(path, [expectation])


def test_a_missing_expectation_is_said_for_the_built_in_run_alone(make_run, edit, tmp_path):
    path = make_run()
    assert against_expectation(path, [tmp_path / "expected.json"]) == ""
    edit(path / "run.json", lambda run: run["config"].update(name="builtin"))
    assert "expected.json is missing" in against_expectation(path, [tmp_path / "expected.json"])


def test_the_first_place_that_has_an_expectation_is_read(run_of, expectation, tmp_path):
    assert against_expectation(run_of(7), [tmp_path / "none.json", expectation])


def test_only_seeds_of_one_setting_make_an_expectation(make_run, seeds, tmp_path):
    def refused(folders):
        with pytest.raises(RunFolderError) as caught:
            write_expectation(folders, tmp_path / "refused.json")
        assert not (tmp_path / "refused.json").exists()
        return str(caught.value)

    assert "differ in dpo.beta (0.1, 0.5)" in refused([*seeds, make_run("b", seed=3, dpo_beta=0.5)])
    assert "[0]" in refused(seeds[:1])
    assert "[0, 1, 2, 0]" in refused([*seeds, seeds[0]])
    no_ppo = [make_run(f"n{seed}", seed=seed, arms=("sft", "dpo")) for seed in (0, 1)]
    assert "no win rate of ppo by judge gold" in refused(no_ppo)


def test_the_command_writes_it_of_the_finished_runs(seeds, tmp_path, capsys):
    (tmp_path / "fixture" / "figures").mkdir()
    out = tmp_path / "expected.json"

    assert main([*map(str, seeds), str(tmp_path / "fixture" / "figures"), "--expectation", str(out)]) == 0

    captured = capsys.readouterr()
    assert captured.out.strip() == str(out) and "skipped" in captured.err
    assert json.loads(out.read_text())["seeds"] == [0, 1, 2]


def test_the_published_expectation_is_of_the_default_settings():
    """Otherwise `python -m bench` says nothing: change a default, and the reference seeds are to be run anew."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        default = OmegaConf.to_container(compose("config"), resolve=True)
    assert isinstance(default, dict)
    ours = dict(leaves(json.loads(json.dumps(asdict(bind({str(key): value for key, value in default.items()}))))))
    published = json.loads(REFERENCE.read_text())["settings"]
    assert {key: ours.get(key) for key in published} == published
