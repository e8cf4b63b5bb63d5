"""The claims made for DPO over RLHF, each answered with this run's number and one of three words.

A claim is put to *this run*: one seed, one machine, one budget. Quality (claims 4 and 5) is estimated from
held-out prompts, so its interval and an exact test decide (`bench.evaluate.decisions`). A cost (claims 1 and 2)
is measured once and has no interval: `ci95` is null and n is 1, and the verdict asks for more than a tolerance,
because a busy machine moves wall time and memory. Robustness (claim 3) is a statement about seeds and settings
and cannot be decided by one run at all. What the run did not measure is not decided.
"""

from collections.abc import Mapping
from typing import Any

from bench.evaluate.decisions import CONTRADICTED, NOT_DECIDED, SUPPORTED, Decision, decide, judged_counts
from bench.evaluate.statistics import Counts, share_test

STATEMENTS = {
    1: "DPO is faster than RLHF.",
    2: "DPO needs less memory than RLHF.",
    3: "DPO is simpler and more accessible than RLHF.",
    4: "DPO summarizes as well as or better than RLHF.",
    5: "A DPO policy carries its own reward model, as accurate as an explicit one.",
}
JUDGES_BEST_FIRST = ("gold", "human", "panel", "openai", "local_llm", "reward_model")
"""Kinds of judges."""


def verdicts_on_claims(
    metrics: Mapping[str, Any], noninferiority_margin: float = 0.0, cost_tolerance: float = 0.1
) -> list[dict[str, Any]]:
    """The `verdicts_on_claims` of metrics.json: claim, statement, measure, estimate, verdict.

    Args:
        metrics: the rest of metrics.json; absent arms and fields are allowed.
        noninferiority_margin: how far DPO may be behind, a share of prompts or pairs, and still be "as good".
        cost_tolerance: cost ratios within this share of 1 are not decided.
    """
    return [
        _faster(metrics, cost_tolerance),
        _less_memory(metrics, cost_tolerance),
        _simpler(),
        _as_good(metrics, noninferiority_margin),
        _own_reward_model(metrics, noninferiority_margin),
    ]


def _faster(metrics: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """By wall time; measured again where that was asked for, each round has to give one answer. Where other work on the
    machine moved it, FLOPs and CPU time, which the load moves less, have to."""
    again = _cost_ratio(metrics, "remeasured", "device_hours")
    ratio = _cost_ratio(metrics, "device_hours") if again is None else again
    verdict, context = _decide_ratio(ratio, tolerance), {}
    busy = [stage for arm in ("ppo", "dpo") for stage in _get(metrics, "arms", arm, "cost", "busy") or ()]
    if again is not None:
        of_rounds = (_get(metrics, "arms", arm, "cost", "remeasured", "rounds") or [] for arm in ("ppo", "dpo"))
        ratios = [ppo / dpo for ppo, dpo in zip(*of_rounds, strict=True)] or [again]
        answers = {_decide_ratio(value, tolerance) for value in ratios}
        verdict, context = answers.pop() if len(answers) == 1 else NOT_DECIDED, {"measured_again": ratios}
    elif busy:
        unmoved = {field: _cost_ratio(metrics, field) for field in ("flops", "cpu_s")}
        answers = {_decide_ratio(value, tolerance) for value in unmoved.values()}
        verdict = answers.pop() if len(answers) == 1 else NOT_DECIDED
        context = {"busy_stages": busy, "ratio_of": unmoved}
    return _claim(
        1,
        "device-hours of RLHF (reward model, rollouts and PPO) over those of DPO, beyond the shared SFT; "
        f"measured once, so within {tolerance:.0%} of 1 is not decided; on a busy machine FLOPs and CPU time decide, "
        "if they agree",
        _measured(ratio) | context,
        verdict,  # pyright: ignore[reportArgumentType]
    )


def _less_memory(metrics: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    ratio = _cost_ratio(metrics, "peak_memory_gib")
    models = {arm: _get(metrics, "arms", arm, "cost", "models_resident") for arm in ("ppo", "dpo")}
    return _claim(
        2,
        "peak memory of RLHF over that of DPO, with the models each holds at its peak (models_resident); "
        f"measured once, so within {tolerance:.0%} of 1 is not decided",
        _measured(ratio) | {"models_resident": models},
        _decide_ratio(ratio, tolerance),
    )


def _simpler() -> dict[str, Any]:
    return _claim(
        3,
        "collapsed seeds, and spread of the result over seeds and settings; takes several runs, this is one",
        _measured(None),
        NOT_DECIDED,
    )


def _as_good(metrics: Mapping[str, Any], margin: float) -> dict[str, Any]:
    rates = _get(metrics, "head_to_head", "dpo_vs_ppo", "win_rate") or {}
    kinds = {name: _get(metrics, "judges", name, "kind") or name for name in rates}
    judge = min(rates, key=lambda name: JUDGES_BEST_FIRST.index(kinds[name]), default=None)
    judged = rates[judge] if judge else None
    kl_ref = {arm: _get(metrics, "arms", arm, "kl_ref", "value") for arm in ("dpo", "ppo")}
    tested = judged is not None and judged["value"] is not None
    p_value = share_test(judged_counts(judged), 0.5 - margin) if tested else None  # pyright: ignore[reportArgumentType]
    verdict = decide(judged, 0.5 - margin, p_value)
    needed = _get(metrics, "head_to_head", "dpo_vs_ppo", "prompts_needed", judge) if judge else None
    return _claim(
        4,
        f"share of held-out prompts on which DPO beats PPO, judge {judge}, ties half, each arm at its own KL "
        f"to the SFT model (kl_ref, nats); asked to exceed {0.5 - margin:.3g} by its interval and an exact test",
        _sampled(judged)
        | {
            "p_value": p_value,
            "judge": judge,
            "kl_ref": kl_ref,
            "prompts_needed": needed if verdict == NOT_DECIDED else None,
        },
        verdict,
    )


def _own_reward_model(metrics: Mapping[str, Any], margin: float) -> dict[str, Any]:
    difference = _get(metrics, "implicit_reward", "minus_reward_model")
    # A difference of -margin is the share (1 - margin) / 2 in the wins and losses that stand for it.
    counts = _get(difference, "counts")
    p_value = None if counts is None else share_test(Counts(**counts), (1 - margin) / 2)
    return _claim(
        5,
        "accuracy of the implicit reward minus that of the reward model on the same held-out pairs, paired; "
        f"asked to exceed {0 - margin:.3g} by its interval and an exact test",
        _sampled(difference) | {"p_value": p_value},
        decide(difference, -margin, p_value),
    )


def _claim(number: int, measure: str, estimate: dict[str, Any], verdict: Decision) -> dict[str, Any]:
    return {
        "claim": number,
        "statement": STATEMENTS[number],
        "measure": measure,
        "estimate": estimate,
        "verdict": verdict,
    }


def _cost_ratio(metrics: Mapping[str, Any], *field: str) -> float | None:
    ppo, dpo = (_get(metrics, "arms", arm, "cost", *field) for arm in ("ppo", "dpo"))
    return ppo / dpo if ppo is not None and dpo else None


def _decide_ratio(ratio: float | None, tolerance: float) -> Decision:
    if ratio is None:
        return NOT_DECIDED
    if ratio > 1 + tolerance:
        return SUPPORTED
    if ratio < 1 / (1 + tolerance):
        return CONTRADICTED
    return NOT_DECIDED


def _measured(value: float | None) -> dict[str, Any]:
    """The estimate of what was read once, or not at all."""
    return {"value": value, "ci95": None, "n": 0 if value is None else 1}


def _sampled(estimate: Mapping[str, Any] | None) -> dict[str, Any]:
    return _measured(None) if estimate is None else {key: estimate[key] for key in ("value", "ci95", "n")}


def _get(tree: Any, *keys: str) -> Any:
    """tree[key][key]..., or None where a part is absent."""
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree
