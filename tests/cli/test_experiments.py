"""Every experiment takes one step and leaves what results/README.md says; a sweep shares its stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli.conf_dir import conf_dir
from bench.files import read_json, read_jsonl, write_jsonl
from bench.report.__main__ import main as report_main

pytestmark = pytest.mark.slow
EXPERIMENTS = sorted(path.stem for path in conf_dir().glob("experiment/*.yaml"))
LARGER = ["nplus_pythia_2_8b", "nplus_pythia_6_9b"]
"""Those that differ from another in the model alone, which a step of a small one has no use for."""
CONTROLLED = "tldr_controlled"
"""Takes its step in test_controlled.py, with data of its kind."""
LIKE_OTHERS = [
    "paper_gptj",
    "all_arms",
    "out_of_distribution",
    "tldr_real",
    "tldr_smollm2",
    "training_budget",
    "temperature",
    "tuned",
    "nplus_pythia_1b",
    "beta_frontier",
    "overoptimisation",
    "builtin_overoptimisation",
    "builtin_seeds",
]
"""Those whose arms, sets and files others have too."""
ARMS_OF = {
    "builtin_overoptimisation": ["sft", "ppo"],
    "beta_frontier": ["sft", "ppo", "dpo"],
    "overoptimisation": ["sft", "best_of_n", "ppo", "dpo"],
    "tuned": ["sft", "ppo", "dpo"],
    "training_budget": ["sft", "ppo", "dpo"],
    "temperature": ["base", "sft", "preferred_ft", "best_of_n", "ppo", "dpo"],
    "paper_gptj": ["base", "sft", "preferred_ft", "best_of_n", "ppo", "dpo"],
    "all_arms": ["base", "sft", "preferred_ft", "best_of_n", "rloo", "iterated_dpo", "ppo", "dpo"],
}
ESTIMATE = {"value", "ci95", "n"}
JUDGED = ESTIMATE | {"ties", "unparsed"}
TIMES = {"wall_s", "device_hours", "gpu_hours"}
SIZES = {"peak_memory_gib", "peak_rss_gib", "devices", "models_resident", "tokens_trained", "tokens_generated"}


def check_estimate(estimate: dict[str, Any], fields: set[str] = ESTIMATE) -> None:
    assert fields <= set(estimate)
    assert estimate["n"] >= 1
    if estimate["ci95"] is None:  # a few equal values say nothing of their spread
        assert estimate["reason"]
    else:
        low, high = estimate["ci95"]
        assert low <= estimate["value"] <= high


def check_metrics(metrics: dict[str, Any], arms: list[str], judges: list[str], gold: bool) -> None:
    """The fields of results/README.md."""
    assert metrics["schema"] == 2
    assert {"experiment", "seed", "config_hash", "data", "cost", "verdicts_on_claims"} <= set(metrics)
    assert set(metrics["arms"]) == {*arms, "reference"}
    for arm in arms:
        numbers = metrics["arms"][arm]
        for judge in judges:
            check_estimate(numbers["win_rate"][judge], JUDGED)
        for rouge in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
            check_estimate(numbers["rouge"][rouge])
        for field in ("length_tokens", "finished"):
            check_estimate(numbers[field])
        if arm == "best_of_n":  # no model, so no log-probs: an analytic bound
            assert numbers["kl_ref"]["estimator"] == "bound" and numbers["kl_ref"]["ci95"] is None
            assert "kl_ref_k1" not in numbers
        else:
            for field, estimator in (("kl_ref", "exact"), ("kl_ref_k1", "k1")):
                check_estimate(numbers[field])
                assert numbers[field]["estimator"] == estimator
        assert set(numbers["reward"]) == ({"proxy"} if "ppo" in arms else set()) | ({"gold"} if gold else set())
        assert {"stages", "device_hours", "gpu_hours", "peak_memory_gib", "models_resident"} <= set(numbers["cost"])
        assert all(set(cost) >= TIMES | SIZES for cost in numbers["cost"]["stages"].values())
    check_estimate(metrics["arms"]["reference"]["length_tokens"])
    for a in arms:
        for b in arms:
            if a < b:
                duel = metrics["head_to_head"][f"{a}_vs_{b}"]
                for judge in judges:
                    check_estimate(duel["win_rate"][judge], JUDGED)
                    assert 0 <= duel["p_value"][judge] <= 1
    assert ("implicit_reward" in metrics) == ("dpo" in arms)
    for name in {"reward_model", "judge_reward_model"} & set(metrics):
        for field in ("accuracy", "longer_wins", "title_overlap_wins"):
            check_estimate(metrics[name][field])
        assert 0 <= metrics[name]["agrees_with_longer"] <= 1
        assert metrics[name]["beats_longer_wins"] in ("supported", "contradicted", "not decided at this n")
    assert set(metrics["data"]) >= {
        "counts",
        "prompt_tokens",
        "completion_tokens",
        "dropped",
        "longer_wins",
        "truncated_prompts",
    }
    assert ("world" in metrics) == gold
    if gold:
        assert set(metrics["world"]["trivial"]) == {"empty", "title", "first_sentence", "longest"}
        for trivial in metrics["world"]["trivial"].values():
            check_estimate(trivial["gold"])
            check_estimate(trivial["win_rate_vs_sft"], JUDGED)
        assert {"best_attainable", "headroom"} <= set(metrics["world"])
    assert [row["claim"] for row in metrics["verdicts_on_claims"]] == [1, 2, 3, 4, 5]
    for row in metrics["verdicts_on_claims"]:
        assert set(row) == {"claim", "statement", "measure", "estimate", "verdict"}
        assert row["verdict"] in ("supported", "contradicted", "not decided at this n")


def check_run(stdout: str, arms: list[str], judges: list[str], gold: bool) -> Path:
    """Everything that a run leaves behind, found by the last line that it prints; gives back the folder."""
    report = Path(stdout.splitlines()[-1])
    assert report.name == "report.html" and report.is_file()
    folder = report.parent
    assert (folder / "report.md").is_file() and list((folder / "figures").glob("*.svg"))
    check_metrics(read_json(folder / "metrics.json"), arms, judges, gold)
    record = read_json(folder / "run.json")
    assert set(record) >= set(
        "experiment run_id command config config_hash seed git versions device data stages started finished".split()
    )
    assert record["experiment"] == folder.parent.name and record["run_id"] == folder.name
    assert set(record["stages"]) >= {"base", "sft", *(f"generate_{arm}" for arm in arms)}
    for arm in arms:
        assert len(read_jsonl(folder / "completions" / f"{arm}.jsonl")) == 4
    for judge in judges:
        assert read_jsonl(folder / "verdicts" / f"{judge}.jsonl")
    for stage in {"sft", "ppo", "dpo"} & set(arms):
        assert all({"step", "wall_s"} <= set(row) for row in read_jsonl(folder / "training" / f"{stage}.jsonl"))
    return folder


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=pytest.mark.long if name in LIKE_OTHERS else ())
        for name in sorted({*EXPERIMENTS} - {*LARGER, CONTROLLED})
    ],
)
def test_experiment_takes_one_step(experiment: str, command: Callable, smallest: list[str], smallest_world: list[str]):
    no_server = ["judge=builtin"] if experiment == "paper_gptj" else []
    outcome = command(f"experiment={experiment}", *smallest, *smallest_world, *no_server)

    assert outcome.exit_code == 0, outcome.stderr
    arms = ARMS_OF.get(experiment, ["base", "sft", "ppo", "dpo"])
    judges = ["reward_model"] if experiment.startswith(("tldr", "nplus")) else ["gold", "reward_model"]
    folder = check_run(outcome.stdout, arms, judges, gold=True)
    config = read_json(folder / "run.json")["config"]
    assert config["name"] == experiment
    assert (config["ppo"]["beta"] == 0) == (experiment == "builtin_overoptimisation")
    watched = read_json(folder / "metrics.json").get("in_training", {})
    assert set(watched) == ({"ppo", "dpo"} if experiment == "overoptimisation" else set())


@pytest.mark.long
def test_own_files_with_other_column_names(command: Callable, smallest: list[str], own_files: Path):
    """The experiment's own kind of data: files, here with the columns called something else."""
    names = {"prompt": "text", "chosen": "better", "rejected": "worse", "completion": "summary"}
    for path in own_files.rglob("*.jsonl"):
        write_jsonl(path, [{names.get(key, key): value for key, value in row.items()} for row in read_jsonl(path)])
    columns = [f"data.columns.{ours}={theirs}" for ours, theirs in names.items()]
    files = [f"data.root={own_files}", "data.preferences.judge=preferences/judge.*", "data.preferences.test=null"]

    outcome = command("experiment=tldr_smollm2", *smallest, *files, *columns)

    assert outcome.exit_code == 0, outcome.stderr
    folder = check_run(outcome.stdout, ["base", "sft", "ppo", "dpo"], ["reward_model"], gold=False)
    metrics = read_json(folder / "metrics.json")
    assert metrics["data"]["counts"]["eval_prompts"] == 4
    sources = read_json(folder / "run.json")["data"]["source"]
    assert sources["demonstrations/test.jsonl"].startswith("sha256:")

    again = command("experiment=tldr_smollm2", *smallest, *files, *columns)
    assert again.exit_code == 0 and "finished: nothing to do" in again.stderr

    test = own_files / "demonstrations" / "test.jsonl"
    write_jsonl(test, [{**row, "summary": row["summary"] + " indeed"} for row in read_jsonl(test)])
    edited = command("experiment=tldr_smollm2", *smallest, *files, *columns)
    assert edited.exit_code == 2
    assert "was made from other data (demonstrations/test.jsonl has changed since)" in edited.stderr


def test_a_sweep_trains_sft_once_and_its_runs_compare(
    command: Callable,
    smallest: list[str],
    smallest_world: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """-m may stand anywhere among the overrides."""
    fresh = f"results_dir={tmp_path / 'results'}"
    arms = "arms=[sft,dpo]"

    outcome = command(
        *smallest, *smallest_world, fresh, "-m", "name=beta", arms, "judge.names=[gold]", "dpo.beta=0.1,0.5"
    )

    assert outcome.exit_code == 0, outcome.stderr
    folders = sorted(
        (tmp_path / "results" / "beta").iterdir(), key=lambda f: read_json(f / "run.json")["config"]["dpo"]["beta"]
    )
    first, second = (read_json(folder / "run.json") for folder in folders)
    assert (first["config"]["dpo"]["beta"], second["config"]["dpo"]["beta"]) == (0.1, 0.5)
    assert not any(stage["reused"] for stage in first["stages"].values())
    assert {name: stage["reused"] for name, stage in second["stages"].items()} == {
        "base": True, "sft": True, "generate_sft": True, "reference_logps": True, "dpo": False, "generate_dpo": False,
    }  # fmt: skip
    costs = [read_json(folder / "metrics.json")["cost"]["stages"]["sft"] for folder in folders]
    assert costs[0] == costs[1]  # a reused stage carries what it cost to make
    assert "dpo.beta=0.5" in second["command"] and "0.1,0.5" not in second["command"]

    assert report_main([str(folder) for folder in folders]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]).is_file()


def test_a_run_of_a_local_model_folder(
    command: Callable, smallest: list[str], smallest_world: list[str], results_dir: Path
):
    """Any folder with a tokenizer and safetensors does: here a cached SFT model."""
    few = [*smallest_world, "arms=[sft]", "judge.names=[gold]"]
    assert command(*smallest, *few, "name=first").exit_code == 0
    sft = next((results_dir / ".cache" / "stages").glob("sft-*"))

    no_sizes = [argument for argument in smallest if not argument.startswith("model")]
    outcome = command(*no_sizes, *few, "name=second", "model=local", f"model.name={sft}", "model.precision=fp32")

    assert outcome.exit_code == 0, outcome.stderr
    check_run(outcome.stdout, ["sft"], ["gold"], gold=True)
