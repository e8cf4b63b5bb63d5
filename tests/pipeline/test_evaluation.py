"""The evaluator's part of metrics.json, recomputed from what the run stores."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config import RunConfig
from bench.evaluate.bradley_terry import bradley_terry
from bench.evaluate.degeneration import Sampled, degeneration
from bench.evaluate.power import power_summary
from bench.evaluate.summary_metrics import DEFAULT_METRICS, Summary, descriptions, summary_estimates
from bench.evaluate.text_models import TextModels
from bench.evaluate.win_rate import points_by_prompt
from bench.files import read_json, read_jsonl
from bench.records import Verdict

ARMS = ["base", "sft", "ppo", "dpo"]
JUDGES = ("gold", "reward_model")


@pytest.fixture
def folder(finished: tuple[RunConfig, Path]) -> Path:
    return finished[1]


@pytest.fixture
def metrics(folder: Path) -> dict[str, Any]:
    return read_json(folder / "metrics.json")


def verdicts(folder: Path, judge: str, arm: str, opponent: str) -> list[Verdict]:
    rows = [Verdict(**row) for row in read_jsonl(folder / "verdicts" / f"{judge}.jsonl")]
    return [row for row in rows if (row.arm_a, row.arm_b) == (arm, opponent)]


def test_degeneration_of_every_arm(folder: Path, metrics: dict[str, Any]):
    prompts = {row["prompt_id"]: row for row in read_jsonl(folder / "prompts.jsonl")}
    for arm in ARMS:
        rows = read_jsonl(folder / "completions" / f"{arm}.jsonl")
        sampled = [Sampled(prompts[r["prompt_id"]]["prompt"], r["completion"], r["finished"]) for r in rows]
        assert metrics["arms"][arm]["degeneration"] == degeneration(sampled, seed=0)
        assert metrics["arms"][arm]["degeneration"]["no_eos"]["value"] == pytest.approx(
            1 - metrics["arms"][arm]["finished"]["value"]
        )
    human = metrics["arms"]["reference"]["degeneration"]
    assert human == degeneration([Sampled(p["prompt"], p["reference"]) for p in prompts.values()], seed=0)
    assert human["no_eos"]["n"] == 0  # no model had to end it


def test_metrics_of_the_summaries_of_every_arm(folder: Path, metrics: dict[str, Any], tmp_path: Path):
    prompts = {row["prompt_id"]: row for row in read_jsonl(folder / "prompts.jsonl")}
    models = TextModels({}, torch.device("cpu"), tmp_path)
    assert metrics["summary_metrics"] == descriptions(DEFAULT_METRICS)
    for arm in ARMS:
        rows = read_jsonl(folder / "completions" / f"{arm}.jsonl")
        texts = [Summary.of(prompts[row["prompt_id"]]["prompt"], row["completion"]) for row in rows]
        assert metrics["arms"][arm]["summaries"] == summary_estimates(texts, DEFAULT_METRICS, models, 0, 100)
    human = [Summary.of(row["prompt"], row["reference"]) for row in prompts.values()]
    assert metrics["arms"]["reference"]["summaries"] == summary_estimates(human, DEFAULT_METRICS, models, 0, 100)


def test_rewards_and_detectors_of_a_row_are_those_of_the_arm(folder: Path, metrics: dict[str, Any]):
    for arm in ARMS:
        rows = read_jsonl(folder / "completions" / f"{arm}.jsonl")
        for kind, mean in metrics["arms"][arm]["reward"].items():
            assert sum(row["reward"][kind] for row in rows) / len(rows) == pytest.approx(mean["value"])
        shares = metrics["arms"][arm]["degeneration"]
        assert sum(bool(row["degenerate"]) for row in rows) / len(rows) == shares["any"]["value"]
        cut_off = sum("no_eos" in row["degenerate"] for row in rows)
        assert cut_off == sum(not row["finished"] for row in rows)


@pytest.mark.parametrize("scorer", ["reward_model", "judge_reward_model"])
def test_reward_models_are_put_to_what_they_say(scorer: str, metrics: dict[str, Any]):
    accuracy, found = metrics[scorer]["accuracy"], metrics[scorer]["calibration"]
    pairs = sum(row["n"] for row in found["curve"])
    confidence = sum(row["n"] * row["mean_confidence"] for row in found["curve"]) / pairs
    assert found["brier"]["n"] == found["ece"]["n"] == pairs == accuracy["n"]
    assert sum(row["n"] * row["value"] for row in found["curve"]) / pairs == pytest.approx(accuracy["value"])
    assert found["overconfidence"]["value"] == pytest.approx(confidence - accuracy["value"])


def test_win_rates_are_corrected_by_the_held_out_pairs_of_a_reward_model_judge(metrics: dict[str, Any]):
    labels = metrics["judges"]["reward_model"]["labels"]
    assert (labels["source"], labels["pairs"]) == ("validation", metrics["data"]["counts"]["preferences"]["validation"])
    assert labels["sensitivity"]["n"] + labels["specificity"]["n"] == pytest.approx(labels["pairs"], abs=1)  # halves
    assert "labels" not in metrics["judges"]["gold"]
    for arm in ARMS:
        corrected = metrics["arms"][arm]["win_rate_corrected"]
        assert list(corrected) == ["reward_model"]
        assert corrected["reward_model"]["n"] == metrics["arms"][arm]["win_rate"]["reward_model"]["n"]
        assert (corrected["reward_model"]["value"] is None) is (corrected["reward_model"]["reason"] is not None)


@pytest.mark.parametrize("judge", JUDGES)
def test_length_control_of_every_arm(judge: str, metrics: dict[str, Any]):
    for arm in ARMS:
        numbers = metrics["arms"][arm]
        controlled = numbers["win_rate_length_controlled"][judge]
        assert controlled["n"] == numbers["win_rate"][judge]["n"]
        assert (controlled["value"] is None) is (controlled["reason"] is not None)
        bins = numbers["win_rate_by_length"][judge]
        assert sum(b["n"] for b in bins) == 4
        total = sum(b["n"] * b["value"] for b in bins if b["n"])
        assert total / 4 == pytest.approx(numbers["win_rate"][judge]["value"])


@pytest.mark.parametrize("judge", JUDGES)
def test_pairs_of_arms(judge: str, folder: Path, metrics: dict[str, Any]):
    points = {arm: points_by_prompt(verdicts(folder, judge, arm, "reference")) for arm in ARMS}
    for pair, entry in metrics["head_to_head"].items():
        a, b = pair.split("_vs_")
        mcnemar = entry["mcnemar"][judge]
        assert mcnemar["only_a"] == sum(points[a][p] == 1 != points[b][p] for p in points[a])
        assert mcnemar["difference"]["value"] == pytest.approx(sum(points[a][p] - points[b][p] for p in points[a]) / 4)
        assert entry["p_value"][judge] <= entry["p_holm"][judge] <= min(1.0, 6 * entry["p_value"][judge])
        assert mcnemar["p_value"] <= mcnemar["p_holm"] <= 1
        assert entry["first_is_better"][judge] in ("supported", "contradicted", "not decided at this n")
        assert "win_rate_length_controlled" in entry and judge in entry["prompts_needed"]
    assert len(metrics["head_to_head"]) == math.comb(len(ARMS), 2)


@pytest.mark.parametrize("judge", JUDGES)
def test_strengths_are_of_all_duels(judge: str, folder: Path, metrics: dict[str, Any]):
    duels = [(arm, "reference") for arm in ARMS] + [("base", "dpo"), ("base", "ppo"), ("base", "sft")]
    duels += [("dpo", "ppo"), ("dpo", "sft"), ("ppo", "sft")]
    points = {duel: points_by_prompt(verdicts(folder, judge, *duel)) for duel in duels}
    assert metrics["bradley_terry"][judge] == bradley_terry(points, "reference", seed=0, resamples=100)


def test_judges_and_power(metrics: dict[str, Any]):
    for judge in JUDGES:
        habits = metrics["judges"][judge]
        assert habits["decided"] + habits["ties"] + habits["unparsed"] == (4 + 6) * 4 * 2  # duels, prompts, orders
        assert habits["flip_rate"] == 0 and habits["prompt_hash"] == ""  # neither looks at the order or is asked
        assert habits["position_bias"]["value"] == pytest.approx(0.5)
        assert "usage" not in habits
    assert metrics["power"] == power_summary(4)


def test_what_no_judge_may_prefer_is_put_to_the_reward_model_alone(metrics: dict[str, Any]):
    assert "checks" not in metrics["judges"]["gold"]
    checks = metrics["judges"]["reward_model"]["checks"]
    assert set(checks) == {"empty", "title", "shuffled"}
    assert all(found["n"] == 4 and found["ci95"] is not None for found in checks.values())


def test_k1_and_exact_kl_are_of_the_same_samples(metrics: dict[str, Any]):
    for arm in ARMS:
        k1, exact = metrics["arms"][arm]["kl_ref_k1"], metrics["arms"][arm]["kl_ref"]
        assert (k1["estimator"], exact["estimator"]) == ("k1", "exact")
        assert k1["minus_exact"]["value"] == pytest.approx(k1["value"] - exact["value"], abs=1e-9)
