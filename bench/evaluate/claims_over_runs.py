"""The claims made for DPO over RLHF, put to several runs: what holds for other seeds too, and not for one run alone.

A row is as in `verdicts_on_claims` of one run (`bench.evaluate.claims`), with `view`, which way of asking it is, and
`reason`, why these runs cannot say where they cannot. Claim 3 is `bench.evaluate.robustness.simpler`. Needs no torch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from bench.evaluate.claims import STATEMENTS
from bench.evaluate.decisions import CONTRADICTED, NOT_DECIDED, SUPPORTED, Decision
from bench.evaluate.seeds import mean_over_seeds
from bench.evaluate.statistics import ALPHA

LEAST_SEEDS = 3
"""Fewer say nothing of other seeds."""


def decided_by_interval(ci95: Sequence[float] | None, threshold: float) -> Decision:
    """Whether a quantity lies above `threshold`, by an interval that holds for other seeds."""
    if ci95 is None:
        return NOT_DECIDED
    return SUPPORTED if ci95[0] > threshold else CONTRADICTED if ci95[1] < threshold else NOT_DECIDED


def row(
    claim: int,
    view: str,
    measure: str,
    found: Mapping[str, Any] | None,
    threshold: float,
    reason: str | None = None,
    **context: Any,
) -> dict[str, Any]:
    """A claim that a mean over seeds is asked to lie above `threshold`.

    Args:
        found: "mean" (or "value"), "ci95", "seeds" (or "n", where that counts seeds) and "reason"; None where there is
            no number.
        reason: why there is none, or why it decides nothing.
        context: what stands in the estimate beside it.
    """
    found = found or {"mean": None, "ci95": None, "n": 0, "reason": None}
    value = found["mean"] if "mean" in found else found["value"]
    seeds = found["seeds"] if "seeds" in found else found["n"]
    if value is not None and seeds < LEAST_SEEDS:
        reason = reason or f"{seeds} seed{'s' if seeds > 1 else ''}: a claim about a method needs {LEAST_SEEDS}"
    reason = reason or found["reason"]
    return {
        "claim": claim,
        "view": view,
        "statement": STATEMENTS[claim],
        "measure": measure,
        "estimate": {"value": value, "ci95": found["ci95"], "seeds": seeds, **context},
        "verdict": NOT_DECIDED if reason else decided_by_interval(found["ci95"], threshold),
        "reason": reason,
    }


def cost(runs: Sequence[Mapping[str, Any]], claim: int, tolerance: float = 0.1) -> dict[str, Any]:
    """Claim 1 (device-hours) or 2 (peak memory): the ratio of RLHF's cost to DPO's, its geometric mean over seeds.

    A seed's is that of its runs. The interval is Student's t over the logarithms of the seeds' ratios, and has to lie
    beyond the tolerance of a single run, because a busy machine moves all seeds alike; nor may any run have decided the
    opposite, which on a busy machine goes by FLOPs and CPU time. Below three seeds, or where all measured the same, the
    runs decide, if they are of one mind.
    """
    own = [(run["seed"], said) for run in runs for said in [_own(run, claim)] if said["estimate"]["value"] is not None]
    measure = (
        f"{'device-hours' if claim == 1 else 'peak memory'} of RLHF over DPO's, geometric mean over seeds; asked to lie"
        f" beyond {100 * tolerance:.0f} % of 1"
    )
    if not own:
        return row(claim, "cost", measure, None, 1.0, "no run holds both arms and their cost")
    verdicts = {said["verdict"] for _, said in own}
    seeds = dict.fromkeys(seed for seed, _ in own)
    logs = [float(np.mean([math.log(said["estimate"]["value"]) for s, said in own if s == seed])) for seed in seeds]
    n, mean, ends = len(logs), float(np.mean(logs)), None
    if n >= LEAST_SEEDS and np.ptp(logs) > 1e-9:
        half = float(stats.t.isf(ALPHA / 2, n - 1)) * float(np.std(logs, ddof=1)) / math.sqrt(n)
        ends = [math.exp(mean - half), math.exp(mean + half)]
    found = {"mean": math.exp(mean), "ci95": ends, "n": n, "reason": None}
    decided = row(claim, "cost", measure, found, 1.0, runs=len(own)) | {"reason": None}
    if ends is None:
        return decided | {"verdict": next(iter(verdicts)) if len(verdicts) == 1 else NOT_DECIDED}
    if ends[0] > 1 + tolerance:
        return decided | {"verdict": NOT_DECIDED if CONTRADICTED in verdicts else SUPPORTED}
    beyond = ends[1] < 1 / (1 + tolerance)
    return decided | {"verdict": CONTRADICTED if beyond and SUPPORTED not in verdicts else NOT_DECIDED}


def own_reward_model(runs: Sequence[Mapping[str, Any]], shared_pairs: bool, margin: float = 0.0) -> dict[str, Any]:
    """Claim 5: accuracy of the implicit reward less the reward model's, its mean over seeds (`mean_over_seeds`)."""
    measure = (
        "accuracy of DPO's implicit reward minus that of the reward model on the same held-out pairs, mean over seeds;"
        f" asked to exceed {0 - margin:.3g}"
    )
    of_seeds: dict[Any, list[Mapping[str, Any]]] = {}
    for run in runs:
        difference = run.get("implicit_reward", {}).get("minus_reward_model")
        if difference is not None and difference["ci95"] is not None:
            of_seeds.setdefault(run["seed"], []).append(difference)
    if not of_seeds:
        return row(5, "pairs", measure, None, -margin, "no run holds both a DPO policy and a reward model")
    pooled = [
        {
            "value": float(np.mean([e["value"] for e in of])),
            "ci95": [float(np.mean([e["ci95"][end] for e in of])) for end in (0, 1)],
            "n": min(e["n"] for e in of),
        }
        for of in of_seeds.values()
    ]
    found = mean_over_seeds(pooled, (-1, 1), shared_prompts=shared_pairs)
    return row(
        5, "pairs", measure, found, -margin, n=min(e["n"] for e in pooled), runs=sum(map(len, of_seeds.values()))
    )


def _own(run: Mapping[str, Any], claim: int) -> Mapping[str, Any]:
    """The run's own row of the claim."""
    nothing = {"claim": claim, "estimate": {"value": None}, "verdict": NOT_DECIDED}
    return next((said for said in run.get("verdicts_on_claims", []) if said["claim"] == claim), nothing)
