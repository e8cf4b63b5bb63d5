"""The numbers that the checks look at, derived by hand on short logs, and no finding in runs that went well."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from bench.files import read_jsonl
from bench.train.health import check, dpo, numbers, pairwise, ppo, rollouts, sft
from bench.train.health.record import CHECKLISTS, health_record, health_summary
from bench.train.health.settings import HealthSettings
from bench.train.health.watch import Watch

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SHORT = HealthSettings(window=2, updates=2, patience=4)


def log(**columns: Any) -> list[dict[str, Any]]:
    """Rows from columns."""
    count = len(next(iter(columns.values())))
    return [{"step": i + 1, **{key: values[i] for key, values in columns.items()}} for i in range(count)]


def constant_rate(losses: list[float]) -> list[dict[str, Any]]:
    return log(loss=losses, learning_rate=[1.0] * len(losses))


def test_the_standard_error_of_a_mean():
    assert numbers.standard_error([1.0, 2.0, 3.0, 6.0]) == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))


def test_the_last_numbers_skip_what_is_missing():
    rows = [{"kl": 1.0}, {"kl": 2.0}, {"other": 5.0}, {"kl": None}, {"kl": 3.0}]

    assert numbers.last(rows, "kl", 2) == [2.0, 3.0]
    assert numbers.mean_of_last(rows, "kl", 3) == 2.0
    assert numbers.mean_of_last(rows, "kl", 4) is None


def test_a_run_has_settled_when_its_warm_up_lies_patience_steps_back():
    rates = [0.0, 0.5, 1.0, 0.9, 0.8, 0.7]
    settled = [numbers.has_settled(log(learning_rate=rates[:n]), SHORT) for n in range(1, 7)]

    assert settled == [False] * 5 + [True]  # the peak and three steps behind it


def test_a_fall_of_the_loss():
    assert sft.loss_fall(constant_rate([4.0, 3.0, 2.0, 3.0, 2.0, 2.0, 1.0, 1.0]), SHORT) == pytest.approx(1.5)
    assert sft.loss_fall(constant_rate([4.0, 3.0, 2.0, 3.0, 2.0, 2.0, 1.0]), SHORT) is None


def test_a_rise_of_the_loss_is_against_the_middle_in_standard_errors():
    # of six rows the middle two are the third and the fourth: means 1 and 5, standard errors 0.5 and 1
    rows = constant_rate([9.0, 9.0, 0.5, 1.5, 4.0, 6.0])

    assert sft.loss_rise(rows, SHORT) == pytest.approx((5 - 1) / math.sqrt(0.5**2 + 1**2))
    assert sft.loss_rise(rows[1:], SHORT) is None


def test_the_loss_over_that_of_a_model_that_knows_nothing():
    measure = pairwise.loss_above(lambda rows: 0.5)

    assert measure(constant_rate([1.0, 1.0, 0.25, 0.5]), SHORT) == pytest.approx(0.375 / 0.5)


def test_the_lower_end_of_an_accuracy():
    rows = log(accuracy=[1.0, 0.5, 0.75, 0.25, 0.5], learning_rate=[1.0] * 5)
    error = math.sqrt((0 + 0.0625 + 0.0625 + 0) / 3 / 4)

    assert pairwise.accuracy_floor("accuracy")(rows, SHORT) == pytest.approx(0.5 - 1.96 * error)


def test_log_probs_have_both_fallen_as_far_as_the_one_that_fell_less():
    rows = log(**{"rewards/chosen": [-1.0, -3.0], "rewards/rejected": [-9.0, -11.0]})  # both with a standard error of 1
    assert dpo.both_fallen(rows, SHORT) == pytest.approx(-2.0)
    rows[1]["rewards/chosen"] = 5.0
    assert dpo.both_fallen(rows, SHORT) == pytest.approx(2 / 3)


def test_a_margin_counts_as_memorised_only_with_the_accuracy_to_it():
    rows = log(**{"rewards/accuracies": [0.5, 1.0, 1.0], "rewards/margins": [1.0, 7.0, 9.0]})

    assert dpo.memorised_margin(rows, SHORT) == 8.0
    assert dpo.memorised_margin(rows[:2], SHORT) is None


def test_a_gradient_against_the_median_of_those_before():
    rows = log(grad_norm=[100.0] * 9 + [1.0, 2.0, 3.0, 4.0, 5.0])
    assert check.grad_spike(rows, HealthSettings(patience=10)) == pytest.approx(5 / 100)  # six 100s and 1 to 4
    assert check.grad_spike(rows[:10], HealthSettings(patience=10)) is None
    assert check.grad_spike(rows, HealthSettings(patience=11)) == pytest.approx(5 / 100)


def test_a_share_of_the_first_updates():
    rows = log(entropy=[4.0, 1.0, 2.0, 1.0])

    assert rollouts.share_of_start("entropy")(rows, SHORT) == pytest.approx(1.5 / 4)
    assert rollouts.share_of_start("entropy")(rows[:1], SHORT) is None


def test_the_best_explained_variance():
    rows = log(explained_variance=[0.5, -1.0, None, -0.5, -2.0, -3.0, -0.2])

    assert ppo.best_explained(rows, SHORT) == -0.2
    assert ppo.best_explained(rows[:-1], SHORT) == 0.5
    assert ppo.best_explained(rows[:3], SHORT) is None


def test_finished_completions_fall_only_while_the_score_rises():
    rows = log(finished=[1.0, 0.9, 0.5, 0.6], score=[0.0, 0.0, 1.0, 1.0])

    assert rollouts.finished_drop(rows, SHORT) == pytest.approx(0.95 - 0.55)
    rows[3]["score"] = -1.0
    assert rollouts.finished_drop(rows, SHORT) is None


def test_over_optimisation_is_the_smaller_of_two_changes_in_standard_errors():
    golds = [0.0, 2.0, 3.0, 3.0, 2.0, 1.0, 0.0, 0.0]  # best two: the third and the fourth
    scores = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0]
    # mean squares of the neighbours' differences: (4 + 1 + 0 + 1 + 1 + 1 + 0) / 7 and (0 + 1 + 1 + 1 + 1 + 1 + 4) / 7;
    # half of each is one update's variance, and a difference of two means of two has the variance of one update
    expected = min(3.0 / math.sqrt(8 / 7 / 2), 4.5 / math.sqrt(9 / 7 / 2))

    assert rollouts.overoptimised(log(gold=golds, score=scores), SHORT) == pytest.approx(expected)
    assert rollouts.overoptimised(log(gold=golds[:7], score=scores[:7]), SHORT) is None
    assert (rollouts.overoptimised(log(gold=scores, score=scores), SHORT) or 0) <= 0


def test_numbers_that_could_not_be_computed_are_counted_in_the_last_row_alone():
    measure = check.missing_numbers("loss", "grad_norm")

    assert measure([{"loss": None, "grad_norm": None}, {"loss": 1.0}], SHORT) == 0
    assert measure([{"loss": 1.0}, {"loss": None, "grad_norm": 2.0, "other": None}], SHORT) == 1


def test_rloo_rows_in_the_words_of_ppos_log():
    row = {"step": 1, "reward": 2.0, "kl": 0.5, "completions/mean_length": 8.0, "completions/clipped_ratio": 0.25}
    ours = CHECKLISTS["rloo"].in_our_words(row)

    assert (ours["score"], ours["kl_ref"], ours["length_tokens"], ours["finished"]) == (2.0, 4.0, 8.0, 0.75)
    assert CHECKLISTS["rloo"].in_our_words({"step": 2})["kl_ref"] is None  # a step without samples of its own


KL = [0.0, 1.0, 48.0, 60.0, 44.0, 80.0]


def test_a_check_speaks_once_when_its_number_reaches_the_threshold():
    watch = Watch("ppo", CHECKLISTS["ppo"], SHORT)
    steps = [[f.step for f in watch.read(row) if f.check == "kl_runaway"] for row in log(kl_ref=KL)]

    assert steps == [[], [], [], [4], [], []]  # (48 + 60) / 2, and silence at (44 + 80) / 2
    finding = watch.findings[-1]
    assert (finding.value, finding.threshold, finding.severity) == (54.0, 50.0, "collapse")
    assert "54 nats" in finding.message and "ppo.beta" in finding.advice


def test_thresholds_are_settings():
    (finding,) = health_record("ppo", log(kl_ref=[2.0, 3.0]), HealthSettings(updates=2, kl_collapse=2.5))["findings"]

    assert (finding["value"], finding["threshold"]) == (2.5, 2.5)


def test_the_record_of_a_collapse_and_its_summary():
    record = health_record("ppo", log(kl_ref=KL), SHORT)

    assert (record["collapsed"], record["step"]) == (True, 4)
    assert record["why"] == record["findings"][0]["message"]
    json.dumps(record, allow_nan=False)
    (line,) = health_summary({"sft": health_record("sft", [], SHORT), "ppo": record})
    assert line.startswith("health: ppo, step 4: collapse: the policy is 54 nats") and "; try: " in line


def test_a_run_without_findings_says_so():
    assert health_record("sft", [], SHORT) == {"collapsed": False, "step": None, "why": None, "findings": []}
    assert health_summary({"sft": health_record("sft", [], SHORT)}) == ["health: no findings in sft"]


@pytest.mark.parametrize("stage", CHECKLISTS)
def test_every_check_says_what_and_what_to_try(stage: str):
    checks = CHECKLISTS[stage].checks
    for one in checks:
        text = one.message.format(value=0.5, threshold=1.0) + one.advice.format(group="ppo")
        assert "\n" not in text and "{" not in text and len(one.advice) > 20
    assert len({one.name for one in checks}) == len(checks)


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("builtin/training/*.jsonl")), ids=lambda path: path.stem)
def test_a_run_that_went_well_raises_no_alarm(path: Path):
    record = health_record(path.stem, read_jsonl(path), HealthSettings())

    assert [f["check"] for f in record["findings"] if f["severity"] != "note"] == [] and not record["collapsed"]


def test_the_over_optimisation_run_is_found_out():
    """PPO without its KL pull: the proxy reward ends at its height, the gold reward far below its own."""
    rows = read_jsonl(REFERENCE / "builtin_overoptimisation" / "training" / "ppo.jsonl")
    record = health_record("ppo", rows, HealthSettings())
    checks = {finding["check"]: finding for finding in record["findings"]}

    golds = [row["gold"] for row in rows]
    assert rows[-1]["score"] > rows[0]["score"] + 1.5 and golds[-1] < max(golds) - 0.5
    found = checks["overoptimised"]["step"]
    assert golds.index(max(golds)) < found - 1 < len(rows) - 1  # after the height, well before the end
    assert golds[found - 1] > golds[-1]


@pytest.mark.parametrize(
    ("key", "value"), [("window", 0), ("patience", 1), ("grad_spike", 1.0), ("kl_collapse", 0.0), ("min_finished", 1.0)]
)
def test_a_threshold_that_cannot_be_is_refused(key: str, value: Any):
    with pytest.raises(ConfigError, match=f"health.{key} must be"):
        HealthSettings(**{key: value})
