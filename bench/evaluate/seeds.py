"""One result over several seeds: every seed's point, their mean and spread, and which of them collapsed.

Reads metrics.json, and verdicts where seeds share their prompts. Needs no torch.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from bench.errors import DataError
from bench.evaluate.decisions import CONTRADICTED, SUPPORTED, decide, judged_counts
from bench.evaluate.statistics import ALPHA, Z, share_test

Points = Mapping[str, float]
"""prompt_id -> what one seed reached on the prompt."""


def across_seeds(
    runs: Sequence[Mapping[str, Any]],
    arm: str,
    judge: str,
    points: Mapping[int, Points] | None = None,
    shared_prompts: bool = False,
) -> dict[str, Any]:
    """Win rate of `arm` against the reference summary over the seeds of `runs`, the metrics.json of one run each.

    Args:
        points: seed -> 1, 0.5 or 0 by prompt, where the seeds share their prompts and the verdicts are there.
        shared_prompts: whether the seeds were judged on the same prompts.

    Returns:
        `mean_over_seeds` of the win rates; "collapsed", how many of the seeds; "seeds": a row {"seed", "value",
        "ci95", "collapsed"} for each, in the order of the seeds. Collapsed seeds are marked and count in mean and sd
        like any other.

    Raises:
        DataError: no runs, a seed that is there twice, or a run in which `arm` or "sft" was not judged by `judge`.
    """
    ordered = _by_seed(runs, arm)
    rates = [_win_rate(run, arm, judge) for run in ordered]
    rows = [
        {"seed": run["seed"], "value": rate["value"], "ci95": rate["ci95"], "collapsed": is_collapsed(run, arm, judge)}
        for run, rate in zip(ordered, rates, strict=True)
    ]
    matrix = None if points is None else [points[run["seed"]] for run in ordered]
    return {
        **mean_over_seeds(rates, (0, 1), matrix, shared_prompts),
        "collapsed": sum(row["collapsed"] for row in rows),
        "seeds": rows,
    }


def duels_across_seeds(
    runs: Sequence[Mapping[str, Any]],
    pair: str,
    judge: str,
    points: Mapping[int, tuple[Points, Points]] | None = None,
    shared_prompts: bool = False,
) -> dict[str, Any]:
    """Two arms over the seeds of `runs`: `pair` names their entry in `head_to_head`, such as "dpo_vs_ppo".

    Args:
        points: seed -> by prompt 1, 0.5 or 0 of the first arm against the second, and the points of the first against
            the reference minus those of the second; as in `across_seeds`.

    Returns:
        "win_rate", `mean_over_seeds` of the first arm's against the second, and "difference", of its win rate against
        the reference summary minus the second's. None where a seed has no such number.

    Raises:
        DataError: no runs, or a seed that is there twice.
    """
    ordered = _by_seed(runs, pair)
    found: dict[str, Any] = {}
    for i, (name, bounds) in enumerate((("win_rate", (0, 1)), ("difference", (-1, 1)))):
        estimates = [_of_pair(run, pair, judge, name) for run in ordered]
        if any(estimate is None or estimate["ci95"] is None for estimate in estimates):
            found[name] = None
            continue
        matrix = None if points is None else [points[run["seed"]][i] for run in ordered]
        found[name] = mean_over_seeds([e for e in estimates if e is not None], bounds, matrix, shared_prompts)
    return found


def mean_over_seeds(
    estimates: Sequence[Mapping[str, Any]],
    bounds: tuple[float, float],
    points: Sequence[Points] | None = None,
    shared_prompts: bool = False,
    alpha: float = ALPHA,
) -> dict[str, Any]:
    """Mean over seeds of estimates that lie within `bounds`, for other seeds and other prompts than these.

    The interval is Student's t on the logit scale, so that it stays within the bounds. Its variance is that between
    seeds over their number where every seed has prompts of its own. Where prompts are shared they do not average out
    over seeds: with `points` the variances of seeds and of prompts are told apart, as crossed random effects, by the
    mean squares of the two-way table (Satterthwaite's degrees of freedom); without, the sampling variance of one
    seed's estimate is added whole, which is too much by the share that is not the prompts'.

    Args:
        points: each seed's by prompt; prompts that every seed has are used.
        alpha: what the interval misses.

    Returns:
        "mean"; "sd" (between seeds, n - 1; None for one seed); "n" seeds; "ci95", None for fewer than three seeds,
        whose spread tells too little, and for equal ones; "reason" why it is None; "prompts": how many entered as a
        source of variance (None: none did, or their number is not known).
    """
    values = np.array([estimate["value"] for estimate in estimates], dtype=np.float64)
    n, mean = len(values), float(values.mean())
    found: dict[str, Any] = {"mean": mean, "sd": float(values.std(ddof=1)) if n > 1 else None, "n": n, "prompts": None}
    if n < 3:
        return found | {"ci95": None, "reason": f"{n} seed{'s' if n > 1 else ''}: an interval needs three"}
    table = _table(points)
    if table is not None:
        found["prompts"] = table.shape[1]
        variance, freedom = _crossed(table)
    else:
        parts = [(float(values.var(ddof=1)) / n, n - 1.0)]
        if shared_prompts:
            errors = [(estimate["ci95"][1] - estimate["ci95"][0]) / (2 * Z) for estimate in estimates]
            parts.append((float(np.mean(np.square(errors))), min(estimate["n"] for estimate in estimates) - 1.0))
        variance, freedom = _satterthwaite(parts)
    if variance <= 1e-24:  # rounding
        return found | {"ci95": None, "reason": f"all {n} seeds are equal"}
    low, high = bounds
    share, width = (mean - low) / (high - low), high - low
    half = float(stats.t.isf(alpha / 2, freedom)) * math.sqrt(variance) / width / (share * (1 - share))
    ends = [low + width * float(expit(logit(share) + side * half)) for side in (-1, 1)]
    return found | {"ci95": ends, "reason": None}


def is_collapsed(run: Mapping[str, Any], arm: str, judge: str) -> bool:
    """Training made the policy worse: its win rate against the reference summary is decided to be below that of its
    SFT model, by the paired difference and McNemar's test on the same prompts where the run has them."""
    first, second = sorted((arm, "sft"))
    paired = run.get("head_to_head", {}).get(f"{first}_vs_{second}", {}).get("mcnemar", {}).get(judge)
    if paired is not None:
        worse = CONTRADICTED if first == arm else SUPPORTED
        return decide(paired["difference"], 0, paired["p_value"]) == worse
    rate, sft = (_win_rate(run, name, judge) for name in (arm, "sft"))
    return decide(rate, sft["value"], share_test(judged_counts(rate), sft["value"])) == CONTRADICTED


def _crossed(table: np.ndarray) -> tuple[float, float]:
    """Variance of the mean of a table of seeds by prompts, both being samples, and its degrees of freedom.

    The mean squares of seeds, prompts and the rest expect s = P v_seed + v_rest, p = S v_prompt + v_rest and v_rest,
    and the mean's variance is v_seed / S + v_prompt / P + v_rest / (S P) = (s + p - v_rest) / (S P). Where s comes out
    below v_rest, seeds are taken not to differ.
    """
    seeds, prompts = table.shape
    of_seed, of_prompt = table.mean(1), table.mean(0)
    rest = table - of_seed[:, None] - of_prompt + table.mean()
    squares = [
        prompts * float(of_seed.var(ddof=1)),
        seeds * float(of_prompt.var(ddof=1)),
        float((rest**2).sum()) / ((seeds - 1) * (prompts - 1)),
    ]
    total = max(squares[0] - squares[2], 0.0) + squares[1]
    freedoms = (seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1))
    spread = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    return total / table.size, max(total**2 / spread, seeds - 1.0) if spread > 0 else seeds - 1.0


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Sum of independent estimates of variance (each with its degrees of freedom), and its degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / freedom for variance, freedom in parts)
    return total, total**2 / spread if spread > 0 else min(freedom for _, freedom in parts)


def _table(points: Sequence[Points] | None) -> np.ndarray | None:
    """Seeds by prompts, of the prompts that every seed has; None for fewer than two of them."""
    if points is None:
        return None
    shared = [prompt_id for prompt_id in points[0] if all(prompt_id in of_seed for of_seed in points)]
    return np.array([[of_seed[p] for p in shared] for of_seed in points]) if len(shared) > 1 else None


def _by_seed(runs: Sequence[Mapping[str, Any]], what: str) -> list[Mapping[str, Any]]:
    twice = [seed for seed, times in Counter(run["seed"] for run in runs).items() if times > 1]
    if not runs or twice:
        problem = f"seed {twice[0]} is there twice" if twice else "there are no runs"
        raise DataError(f"cannot summarize {what} over seeds: {problem}; give one run per seed")
    return sorted(runs, key=lambda run: run["seed"])


def _of_pair(run: Mapping[str, Any], pair: str, judge: str, name: str) -> Mapping[str, Any] | None:
    entry = run.get("head_to_head", {}).get(pair, {})
    if name == "difference":
        return entry.get("mcnemar", {}).get(judge, {}).get("difference")
    return entry.get("win_rate", {}).get(judge)


def _win_rate(run: Mapping[str, Any], arm: str, judge: str) -> Mapping[str, Any]:
    rate = run["arms"].get(arm, {}).get("win_rate", {}).get(judge)
    if rate is None or rate["ci95"] is None:
        raise DataError(f"the run of seed {run['seed']} has no win rate of {arm} by judge {judge}; leave it out")
    return rate
