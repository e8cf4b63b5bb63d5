"""One result over several seeds: every seed's point, their mean and spread, and which of them collapsed.

Reads metrics.json alone and needs no torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from bench.errors import DataError


def across_seeds(runs: Sequence[Mapping[str, Any]], arm: str, judge: str) -> dict[str, Any]:
    """Win rate of `arm` against the reference summary over the seeds of `runs`, the metrics.json of one run each.

    Returns:
        "mean"; "sd" (between seeds, n - 1) and "ci95" of the mean (Student's t over seeds), both None for one seed;
        "n" seeds; "collapsed", how many of them; "seeds": a row {"seed", "value", "ci95", "collapsed"} for each, in
        the order of the seeds. Collapsed seeds are marked and count in mean and sd like any other.

    Raises:
        DataError: no runs, a seed that is there twice, or a run in which `arm` or "sft" was not judged by `judge`.
    """
    seeds = [run["seed"] for run in runs]
    twice = [seed for seed, times in Counter(seeds).items() if times > 1]
    if not runs or twice:
        problem = f"seed {twice[0]} is there twice" if twice else "there are no runs"
        raise DataError(f"cannot summarize {arm} over seeds: {problem}; give one run per seed")
    rows = []
    for run in sorted(runs, key=lambda run: run["seed"]):
        rate, sft = (_win_rate(run, name, judge) for name in (arm, "sft"))
        row = {"seed": run["seed"], "value": rate["value"], "ci95": rate["ci95"]}
        rows.append(row | {"collapsed": is_collapsed(rate, sft)})
    values = np.array([row["value"] for row in rows])
    mean, n = float(values.mean()), len(values)
    sd = float(values.std(ddof=1)) if n > 1 else None
    half = None if sd is None else float(stats.t.isf(0.025, n - 1)) * sd / n**0.5
    return {
        "mean": mean,
        "sd": sd,
        "ci95": None if half is None else [mean - half, mean + half],
        "n": n,
        "collapsed": sum(row["collapsed"] for row in rows),
        "seeds": rows,
    }


def is_collapsed(win_rate: Mapping[str, Any], sft_win_rate: Mapping[str, Any]) -> bool:
    """Training made the policy worse: the whole interval of its win rate is below the win rate of its SFT model."""
    return win_rate["ci95"][1] < sft_win_rate["value"]


def _win_rate(run: Mapping[str, Any], arm: str, judge: str) -> Mapping[str, Any]:
    rate = run["arms"].get(arm, {}).get("win_rate", {}).get(judge)
    if rate is None or rate["ci95"] is None:
        raise DataError(f"the run of seed {run['seed']} has no win rate of {arm} by judge {judge}; leave it out")
    return rate
