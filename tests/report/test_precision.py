"""bf16 against fp32, paired by seed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bench.errors import RunFolderError
from bench.report.precision import compare, last_quarter, rows, table


def run_folder(path: Path, seed: int, precision: str, shift: float = 0.0, **config) -> Path:
    """A finished run of three stages; `shift` moves its last DPO losses."""
    config = {"seed": seed, "name": "n", "model": {"precision": precision}, **config}
    (path / "training").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"schema": 1, "seed": seed, "config": config}))
    win_rate = {"value": 0.5 + shift, "ci95": [0.4, 0.6], "n": 10}
    arms = {arm: {"win_rate": {"gold": win_rate}} for arm in ("sft", "dpo")}
    (path / "metrics.json").write_text(json.dumps({"schema": 1, "seed": seed, "arms": arms}))
    for stage, last in (("sft", 0.4), ("dpo", 0.5 + shift + seed / 100)):
        losses = [2.0] * 6 + [last - 0.1, last + 0.1]
        log = "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(losses))
        (path / "training" / f"{stage}.jsonl").write_text(log)
    return path


def both(tmp_path: Path, seeds=(0, 1, 2), shift=0.0, **config) -> list[Path]:
    return [
        run_folder(
            tmp_path / f"{precision}-{seed}",
            seed,
            precision,
            shift * (1 + seed / 100) if precision == "bf16" else 0.0,
            **config,
        )
        for seed in seeds
        for precision in ("fp32", "bf16")
    ]


def test_the_last_quarter_of_the_steps():
    assert last_quarter(np.array([9.0, 9, 9, 9, 9, 9, 1, 2])) == 1.5
    assert last_quarter(np.array([3.0])) == 3.0


def test_a_row_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3); t of 2 degrees of freedom at 97.5 % is 4.3027."""
    (row,) = rows({"m": {0: {"fp32": 0.0, "bf16": 1.0}, 1: {"fp32": 2.0, "bf16": 4.0}, 2: {"fp32": 4.0, "bf16": 7.0}}})
    assert (row.fp32, row.bf16, row.difference, row.between_seeds) == (2.0, 4.0, 2.0, 2.0)
    assert row.ci95 == pytest.approx((2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-4)
    # P(|t| > 2 sqrt(3)) with 2 degrees of freedom, whose distribution has a closed form: 1 - t / sqrt(t^2 + 2).
    assert row.p == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))


@pytest.mark.parametrize("difference", [0.0, 0.5])
def test_seeds_that_all_differ_alike_have_no_spread_to_compare_with(difference):
    found = rows({"m": {seed: {"fp32": float(seed), "bf16": seed + difference} for seed in range(3)}})
    assert (found[0].ci95, found[0].p, found[0].difference) == (None, 1.0, difference)
    assert f"| {difference:+.4f} in every seed |" in table(found, 3)


@pytest.mark.slow
def test_many_rows_are_one_family():
    """Holm: of two tests, the smaller p counts twice."""
    far = {seed: {"fp32": 0.0, "bf16": 1.0 + seed / 10} for seed in range(3)}
    near = {seed: {"fp32": 0.0, "bf16": float(seed - 1)} for seed in range(3)}
    alone = rows({"far": far})[0].p
    assert [row.p for row in rows({"far": far, "near": near})] == pytest.approx([2 * alone, 1.0])
    assert [row.endswith("| yes |") for row in table(rows({"far": far, "near": near}), 3).splitlines()[2:4]] == [
        2 * alone < 0.05,
        False,
    ]


def test_runs_are_read_and_drawn(tmp_path):
    text = compare(both(tmp_path, shift=0.25), tmp_path / "out")
    assert (tmp_path / "out" / "precision.md").read_text() == text
    (dpo,) = [line for line in text.splitlines() if line.startswith("| DPO, loss")]
    # fp32: .50, .51, .52; bf16 lies .25, .2525 and .255 above, of which the sd is .0025: 4.3027 * .0025 / sqrt(3).
    assert dpo.split(" | ")[1:4] == ["0.5100", "0.7625", "+0.2525 [+0.2463, +0.2587]"]
    assert dpo.endswith("| yes |")
    assert "DPO, win rate" in text and "PPO" not in text
    svg = (tmp_path / "out" / "precision.svg").read_text()
    assert "</svg>" in svg


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: both(path, seeds=(0,)), "two seeds"),
        (lambda path: both(path)[:-1], "seed 2 has model.precision=fp32"),
        (lambda path: [*both(path), run_folder(path / "x", 0, "bf16")], "same seed"),
        (lambda path: [*both(path), run_folder(path / "x", 3, "fp32", beta=1)], "differ in beta"),
    ],
)
def test_runs_that_do_not_pair_are_refused(tmp_path, change, message):
    with pytest.raises(RunFolderError, match=message):
        compare(change(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
