"""What the evaluator says beside the win rates, as tables: length, strengths, degeneration, judges, best of n.

Like load.py's: numbers of metrics.json, none computed. A run that has no such numbers gives a table without rows.
"""

from typing import Any

import pandas as pd

from bench.report.load import Run, estimate_columns, head_to_head_table, records, to_number

DETECTORS = {
    "any": "any of these",
    "empty": "empty",
    "title_copy": "copies the title",
    "post_copy": "copies the post",
    "repetition": "repeats itself",
    "prompt_echo": "goes on with the prompt",
    "no_eos": "cut off (no EOS)",
}


def length_table(run: Run) -> pd.DataFrame:
    """One row per arm and judge: `win_rate`, `equal_length` (estimates) and what stands between them.

    `length_effect` is the log-odds by which a longer summary wins (above 0: longer ones do); `reason` says why there
    is no number at equal length, None where there is one.
    """
    rows = []
    for arm in run.arms:
        measured = run.metrics["arms"][arm]
        for judge in run.judges:
            controlled = measured.get("win_rate_length_controlled", {}).get(judge)
            if controlled is None:
                continue
            row: dict[str, Any] = {"arm": arm, "judge": judge}
            row |= estimate_columns("win_rate", measured["win_rate"][judge])
            row |= estimate_columns("equal_length", controlled)
            rows.append(row | {"length_effect": to_number(controlled["length_effect"]), "reason": controlled["reason"]})
    return _table(rows, "arm", "judge", "win_rate", "equal_length", "length_effect", "reason")


def length_bin_table(run: Run) -> pd.DataFrame:
    """One row per arm, judge and bin of length ratios, arm over reference summary: `from`, `below`, `win_rate`.

    `below` is NaN in the last bin, which is open.
    """
    rows = [
        {"arm": arm, "judge": judge, "from": bin_["length_ratio"][0], "below": to_number(bin_["length_ratio"][1])}
        | estimate_columns("win_rate", bin_)
        for arm in run.arms
        for judge in run.judges
        for bin_ in run.metrics["arms"][arm].get("win_rate_by_length", {}).get(judge, [])
    ]
    return _table(rows, "arm", "judge", "from", "below", "win_rate", "win_rate_n")


def paired_wins_table(run: Run) -> pd.DataFrame:
    """One row per pair of arms and judge: their wins against the reference summaries on the same prompts.

    `both`, `only_a`, `only_b`, `neither` are counts of prompts; `difference` is arm_a's win rate minus arm_b's;
    `p_value` is McNemar's, `p_holm` the same adjusted over all pairs under one judge.
    """
    duels = run.metrics.get("head_to_head", {})
    rows = []
    for pair in records(head_to_head_table(run)):
        names = {name: pair[name] for name in ("arm_a", "arm_b", "judge")}
        paired = duels[f"{pair['arm_a']}_vs_{pair['arm_b']}"].get("mcnemar", {}).get(pair["judge"])
        if paired is None:
            continue
        counts = {name: paired[name] for name in ("both", "only_a", "only_b", "neither", "p_value", "p_holm")}
        rows.append(names | counts | estimate_columns("difference", paired["difference"]))
    return _table(rows, "arm_a", "arm_b", "judge", "difference", "p_value", "p_holm")


def strength_table(run: Run) -> pd.DataFrame:
    """One row per arm: its Bradley-Terry `strength_<judge>` in nats (estimate), the reference summary at 0."""
    fits = run.metrics.get("bradley_terry", {})
    rows = []
    for arm in run.arms:
        row: dict[str, Any] = {"arm": arm}
        for judge in run.judges:
            row |= estimate_columns(f"strength_{judge}", fits.get(judge, {}).get(arm))
        if len(row) > 1:
            rows.append(row)
    return _table(rows, "arm")


def degeneration_table(run: Run) -> pd.DataFrame:
    """One row per arm: per detector (DETECTORS) the share of completions that it finds."""
    rows = []
    for arm in run.arms:
        found = run.metrics["arms"][arm].get("degeneration")
        if found:
            row: dict[str, Any] = {"arm": arm}
            for detector in DETECTORS:
                row |= estimate_columns(detector, found.get(detector))
            rows.append(row)
    return _table(rows, "arm")


def judge_table(run: Run) -> pd.DataFrame:
    """One row per judge: its habits over all verdicts of the run, and what it used up where it is asked.

    `position_bias` (share for the summary shown first) and `length_bias` (for the longer one) are estimates over
    prompts; `flip_rate` is the share of prompts on which its two orders disagree, NaN where one was shown;
    `decided`, `ties`, `unparsed` count verdicts; `requests`, `retries`, `cached`, `prompt_tokens`,
    `completion_tokens` are there for judges that are asked.
    """
    rows = []
    for judge, habits in run.metrics.get("judges", {}).items():
        row: dict[str, Any] = {"judge": judge}
        for bias in ("position_bias", "length_bias"):
            row |= estimate_columns(bias, habits.get(bias))
        row["flip_rate"] = to_number(habits.get("flip_rate"))
        row |= {name: habits[name] for name in ("decided", "ties", "unparsed") if name in habits}
        rows.append(row | {name: n for name, n in habits.get("usage", {}).items() if name != "unparsed"})
    return _table(rows, "judge")


def best_of_n_table(run: Run) -> pd.DataFrame:
    """One row per n, ascending: `win_rate_<judge>`, `reward_gold`, `reward_proxy`, `length_tokens`, `kl_ref`.

    `kl_ref` is the bound log n - (n - 1)/n, as `kl_ref_estimator` says.
    """
    rows = []
    for n, measured in run.metrics.get("best_of_n", {}).get("by_n", {}).items():
        row: dict[str, Any] = {"n": int(n)}
        for judge in run.judges:
            row |= estimate_columns(f"win_rate_{judge}", measured["win_rate"].get(judge))
        for kind, value in measured["reward"].items():
            row |= estimate_columns(f"reward_{kind}", value)
        row |= estimate_columns("length_tokens", measured["length_tokens"])
        row |= estimate_columns("kl_ref", measured["kl_ref"])
        rows.append(row | {"kl_ref_estimator": measured["kl_ref"]["estimator"]})
    return _table(sorted(rows, key=lambda row: row["n"]), "n")


def health_table(run: Run) -> pd.DataFrame:
    """One row per finding of the trainers' checks: `stage`, `step`, `severity`, `check`, `message`, `advice`."""
    rows = [
        {"stage": stage} | finding
        for stage, record in run.metrics.get("health", {}).items()
        for finding in record["findings"]
    ]
    return _table(rows, "stage", "step", "severity", "check", "message", "advice")


def projected_table(run: Run) -> pd.DataFrame:
    """One row per trained arm, and one for all stages of the run (`arm` None), and accelerator: GPU-hours there.

    They are projected from counted FLOPs at `assumed_mfu` of `peak_bf16_tflops`, not measured.
    """
    costs = [(arm, run.metrics["arms"][arm].get("cost") or {}) for arm in run.arms]
    rows = [
        {"arm": arm, "flops": to_number(cost.get("flops"))} | projection
        for arm, cost in [*costs, (None, run.metrics.get("cost", {}))]
        if cost.get("flops")
        for projection in cost.get("projected", [])
    ]
    return _table(rows, "arm", "flops", "accelerator", "gpu_hours", "assumed_mfu", "peak_bf16_tflops", "peak_source")


def _table(rows: list[dict[str, Any]], *columns: str) -> pd.DataFrame:
    """`columns` are there even without rows."""
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))
