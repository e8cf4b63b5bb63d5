"""Claim 3 (simpler) from several runs, seeds or trials: how often an arm fails, how far its result moves, with what.

Reads metrics.json of finished runs that both arms are in. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from bench.errors import DataError
from bench.evaluate.claims import STATEMENTS
from bench.evaluate.decisions import CONTRADICTED, NOT_DECIDED, SUPPORTED, Decision
from bench.evaluate.seeds import is_collapsed
from bench.evaluate.statistics import ALPHA, estimate, holm, mcnemar_test, paired_difference, proportion_interval

LEAST_RUNS = 4  # behind which a spread, or a correlation over settings, is not put to a test
_EQUAL = 1e-12


def failures(runs: Sequence[Mapping[str, Any]], arm: str, judge: str) -> dict[str, Any]:
    """How often `arm` failed over `runs`, and how far its win rate against the reference summary moves between them.

    Returns:
        `failed`: estimate of the share of runs that failed, n counting runs; the runs among them that `collapsed` (said
        the trainer's own checks) and that `lost_to_sft` (`is_collapsed`: the win rate is decided to be below SFT's);
        `win_rate`: mean, sd (n - 1; None for one run), min, max.

    Raises:
        DataError: no runs, or one in which the arm or SFT was not judged by `judge`.
    """
    if not runs:
        raise DataError(f"no runs with arm {arm}: name finished runs")
    rates = _rates(runs, arm, judge)
    return {
        "failed": estimate(proportion_interval(_failed(runs, arm, judge), seed=0)),
        "collapsed": sum(_collapsed(runs, arm)),
        "lost_to_sft": sum(is_collapsed(run, arm, judge) for run in runs),
        "win_rate": {
            "mean": float(rates.mean()),
            "sd": float(rates.std(ddof=1)) if len(rates) > 1 else None,
            "min": float(rates.min()),
            "max": float(rates.max()),
        },
    }


def simpler(runs: Sequence[Mapping[str, Any]], judge: str) -> dict[str, Any]:
    """Claim 3 over several runs of both arms, paired by run, as a row of `verdicts_on_claims`.

    Two questions, each with an exact or a t test, adjusted as a family (Holm): does PPO fail more often than DPO
    (McNemar's test over runs), and does its win rate spread more (Pitman & Morgan 1939: equal variances of paired
    values, by the correlation of their sum and difference)? The claim is supported where one of them says so and none
    the opposite.

    Raises:
        DataError: as `failures`.
    """
    arms = {arm: failures(runs, arm, judge) for arm in ("ppo", "dpo")}
    ppo, dpo = (_failed(runs, arm, judge) for arm in ("ppo", "dpo"))
    difference = paired_difference(ppo, dpo, seed=0, bounds=(-1, 1))
    only_ppo = sum(a > b for a, b in zip(ppo, dpo, strict=True))
    only_dpo = sum(a < b for a, b in zip(ppo, dpo, strict=True))
    spread = equal_spread(_rates(runs, "ppo", judge), _rates(runs, "dpo", judge))
    p_values = holm({"failed": mcnemar_test(only_ppo, only_dpo), "spread": spread["p_value"] or 1.0})
    said = {
        _side(only_ppo - only_dpo, p_values["failed"]),
        _side((spread["ratio"] or 1.0) - 1.0, p_values["spread"]),
    } - {NOT_DECIDED}
    return {
        "claim": 3,
        "statement": STATEMENTS[3],
        "measure": f"share of {len(runs)} runs (seeds, settings) in which PPO collapsed or lost to SFT, minus DPO's,"
        f" judge {judge}, paired by run; and the sd of its win rate over DPO's; two tests as one family",
        "estimate": estimate(difference) | {"p_value": p_values, "spread": spread, "arms": arms},
        "verdict": said.pop() if len(said) == 1 else NOT_DECIDED,
    }


def equal_spread(a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
    """The sds of paired values, their `ratio` a over b, and the p-value of Pitman and Morgan that they are equal.

    Variances of a and b are equal just where a + b and a - b do not correlate. None where there are too few pairs, or
    nothing varies.
    """
    if len(a) < LEAST_RUNS or min(a.std(), b.std()) < _EQUAL or np.std(a + b) < _EQUAL or np.std(a - b) < _EQUAL:
        return {"ratio": None, "p_value": None}
    ratio = float(a.std(ddof=1) / b.std(ddof=1))
    _, p_value = tuple(stats.pearsonr(a + b, a - b))
    return {"ratio": ratio, "p_value": float(p_value)}  # pyright: ignore[reportArgumentType]


def settings_that_matter(
    settings: Sequence[Mapping[str, float]], results: Sequence[float]
) -> dict[str, dict[str, float | None]]:
    """Setting -> how a result follows it over runs: Spearman's `rank_correlation` with its `p_value` and `p_holm`.

    Args:
        settings: of each run, the numbers that were varied, by name (`ppo.learning_rate`); the same names in all.
        results: of each run, such as its win rate.

    Raises:
        DataError: a run lacks a setting or a result.
    """
    names = list(settings[0]) if settings else []
    if len(settings) != len(results) or any(set(run) != set(names) for run in settings):
        raise DataError("every run needs the same settings and a result; leave the others out")
    found: dict[str, dict[str, float | None]] = {}
    for name in names:
        values = np.array([run[name] for run in settings], dtype=np.float64)
        is_told = len(values) >= LEAST_RUNS and values.std() > _EQUAL and float(np.std(results)) > _EQUAL
        rank = stats.spearmanr(values, results) if is_told else None
        found[name] = {
            "rank_correlation": None if rank is None else float(rank.statistic),  # pyright: ignore
            "p_value": None if rank is None else float(rank.pvalue),  # pyright: ignore
        }
    adjusted = holm({name: row["p_value"] for name, row in found.items() if row["p_value"] is not None})
    return {name: {**row, "p_holm": adjusted.get(name)} for name, row in found.items()}


def _failed(runs: Sequence[Mapping[str, Any]], arm: str, judge: str) -> list[float]:
    lost = (is_collapsed(run, arm, judge) for run in runs)
    return [float(a or b) for a, b in zip(_collapsed(runs, arm), lost, strict=True)]


def _collapsed(runs: Sequence[Mapping[str, Any]], arm: str) -> list[bool]:
    """Whether the arm's trainer saw its policy collapse."""
    return [bool(run.get("health", {}).get(arm, {}).get("collapsed")) for run in runs]


def _rates(runs: Sequence[Mapping[str, Any]], arm: str, judge: str) -> np.ndarray:
    try:
        return np.array([run["arms"][arm]["win_rate"][judge]["value"] for run in runs], dtype=np.float64)
    except KeyError as error:
        raise DataError(f"a run has no win rate of {arm} by {judge} ({error} is missing); leave it out") from None


def _side(lead: float, p_value: float) -> Decision:
    if p_value >= ALPHA or lead == 0:
        return NOT_DECIDED
    return SUPPORTED if lead > 0 else CONTRADICTED
