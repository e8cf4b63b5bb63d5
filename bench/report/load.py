"""A finished run folder as tables: numbers read from its artifacts (results/README.md), none computed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import RunFolderError
from bench.files import read_json, read_jsonl

SCHEMA = 1
NOT_TRAINED = ("base", "sft", "reference")  # arms that need no stage beyond the shared SFT model
COMPARED = frozenset(("sft", "ppo", "dpo"))  # the arms whose pairs are the question; of others the report tells
_ARM_ORDER = ("base", "sft", "preferred_ft", "best_of_n", "rloo", "ppo", "dpo")
_ESTIMATE_FIELDS = ("value", "ci95", "n", "ties", "unparsed")
_COST_FIELDS = (
    "wall_s",
    "device_hours",
    "gpu_hours",
    "peak_memory_gib",
    "peak_rss_gib",
    "devices",
    "tokens_trained",
    "tokens_generated",
    "models_resident",
    "flops",
    "mfu",
    "energy_kwh",
    "co2_kg",
)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its run.json and metrics.json; the larger files are read when asked for."""

    path: Path
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @cached_property
    def training(self) -> dict[str, pd.DataFrame]:
        """Stage -> its logged rows, by step."""
        files = sorted((self.path / "training").glob("*.jsonl"))
        frames = {file.stem: pd.DataFrame(_rows(file)) for file in files}
        return {
            stage: frame.sort_values("step", kind="stable", ignore_index=True) if "step" in frame else frame
            for stage, frame in frames.items()
        }

    @cached_property
    def completions(self) -> pd.DataFrame:
        """One row per (arm, temperature, prompt)."""
        files = sorted((self.path / "completions").glob("*.jsonl"))
        return pd.DataFrame([row for file in files for row in _rows(file)])

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """The held-out prompts: prompt_id, prompt, reference (the reference summary)."""
        file = self.path / "prompts.jsonl"
        return pd.DataFrame(_rows(file) if file.exists() else [], columns=["prompt_id", "prompt", "reference"])

    @property
    def arms(self) -> list[str]:
        """Arms in reading order: from the base model to DPO, then others by name, the reference summary last."""
        names = self.metrics["arms"]
        return sorted(names, key=lambda arm: (arm == "reference", _position(arm), arm))

    @property
    def judges(self) -> list[str]:
        """Judges that gave win rates: the known truth, the independent reward model, then others by name."""
        names = {judge for arm in self.metrics["arms"].values() for judge in arm.get("win_rate", {})}
        names |= {judge for pair in self.metrics.get("head_to_head", {}).values() for judge in pair.get("win_rate", {})}
        return sorted(names, key=lambda judge: (judge != "gold", judge != "reward_model", judge))

    def setting(self, dotted: str, default: Any = None) -> Any:
        """A value of run.json by its dotted name, e.g. `config.dpo.beta`; `default` where it is absent."""
        value: Any = self.run
        for key in dotted.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return value


def load_run(path: Path | str) -> Run:
    """The finished run in folder `path`.

    Raises:
        RunFolderError: no such folder, no run in it, a run that has not finished, a file that is broken, or
            artifacts of another schema.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunFolderError(f"no run folder at {path}; give a folder such as results/<experiment>/<run_id>")
    if not (path / "run.json").is_file():
        raise RunFolderError(f"{path} is not a run folder: it has no run.json; give results/<experiment>/<run_id>")
    run = _object(path / "run.json")
    if not (path / "metrics.json").is_file():
        raise RunFolderError(
            f"the run in {path} has not finished (no metrics.json); start its command again to resume it"
        )
    metrics = _object(path / "metrics.json")
    for name, content in (("run.json", run), ("metrics.json", metrics)):
        if content.get("schema") != SCHEMA:
            raise RunFolderError(
                f"{path / name} has schema {content.get('schema')!r}, this version reads schema {SCHEMA};"
                " repeat the run with this version"
            )
    if not isinstance(metrics.get("arms"), dict) or not metrics["arms"]:
        raise RunFolderError(f"{path / 'metrics.json'} has no arms; repeat the run")
    return Run(path, run, metrics)


def newest_run(results_dir: Path | str) -> Path | None:
    """The run folder below `results_dir` that finished last; None when there is none."""
    finished = Path(results_dir).glob("*/*/metrics.json")
    newest = max(finished, key=lambda file: (file.stat().st_mtime, str(file)), default=None)
    return newest.parent if newest else None


def arm_table(run: Run) -> pd.DataFrame:
    """One row per arm. An estimate `x` is four columns: `x`, `x_low`, `x_high` (95 % interval) and `x_n`.

    Columns, as far as the run has them: `win_rate_<judge>` (share of prompts won against the reference
    summary; also `_ties`, `_unparsed`), `rougeL` (F1, 0 to 1), `kl_ref` (nats per completion), `reward_gold`,
    `reward_proxy`, `length_tokens`, `finished` (share), and what the arm cost beyond the SFT model:
    `device_hours`, `gpu_hours`, `peak_memory_gib`. `kl_ref_estimator` says what `kl_ref` is (`bound`: at most
    that), `collapsed` whether the arm's training did.
    """
    rows = []
    for arm in run.arms:
        measured = run.metrics["arms"][arm]
        row: dict[str, Any] = {"arm": arm}
        if arm in run.metrics.get("health", {}):
            row["collapsed"] = run.metrics["health"][arm]["collapsed"]
        for judge in run.judges:
            row |= estimate_columns(f"win_rate_{judge}", measured.get("win_rate", {}).get(judge))
        row |= estimate_columns("rougeL", measured.get("rouge", {}).get("rougeL"))
        row |= estimate_columns("kl_ref", measured.get("kl_ref"))
        if "estimator" in (measured.get("kl_ref") or {}):
            row["kl_ref_estimator"] = measured["kl_ref"]["estimator"]
        for kind in ("gold", "proxy"):
            row |= estimate_columns(f"reward_{kind}", measured.get("reward", {}).get(kind))
        row |= estimate_columns("length_tokens", measured.get("length_tokens"))
        row |= estimate_columns("finished", measured.get("finished"))
        cost = measured.get("cost") or {}
        row |= {field: cost[field] for field in ("device_hours", "gpu_hours", "peak_memory_gib") if field in cost}
        rows.append(row)
    return pd.DataFrame(rows).set_index("arm")


def head_to_head_table(run: Run) -> pd.DataFrame:
    """One row per pair of arms and judge: `arm_a`, `arm_b`, `judge`, `win_rate`, `p_value`.

    `win_rate` is the share of prompts on which arm_a beats arm_b (with `_low`, `_high`, `_n`, `_ties`,
    `_unparsed`), `p_value` that of the two-sided sign test. As far as the run has them: `p_holm` (adjusted over
    all pairs under one judge), `equal_length` (the win rate with length controlled), `prompts_needed` (to decide
    what is not decided).
    """
    rows = []
    for pair, measured in run.metrics.get("head_to_head", {}).items():
        arm_a, _, arm_b = pair.partition("_vs_")
        for judge in run.judges:
            if judge not in measured.get("win_rate", {}):
                continue
            row = {"arm_a": arm_a, "arm_b": arm_b, "judge": judge}
            row |= estimate_columns("win_rate", measured["win_rate"][judge])
            row |= estimate_columns("equal_length", measured.get("win_rate_length_controlled", {}).get(judge))
            row["p_value"] = to_number(measured.get("p_value", {}).get(judge))
            for field in ("p_holm", "prompts_needed"):
                if judge in measured.get(field, {}):
                    row[field] = to_number(measured[field][judge])
            rows.append(row)
    columns = [
        "arm_a",
        "arm_b",
        "judge",
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "win_rate_n",
        "p_value",
    ]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    # The arm-against-arm question first (dpo_vs_ppo), then each arm against the baselines.
    baselines = table["arm_a"].isin(NOT_TRAINED).astype(int) + table["arm_b"].isin(NOT_TRAINED).astype(int)
    return table.iloc[baselines.argsort(kind="stable")].reset_index(drop=True)


def cost_table(run: Run) -> pd.DataFrame:
    """One row per stage: what it cost, and in `needed_by` the trained arms that need it, or `shared`."""
    rows = []
    for stage, cost in run.metrics.get("cost", {}).get("stages", {}).items():
        needed_by = [arm for arm in run.arms if arm not in NOT_TRAINED and stage in _arm_stages(run, arm)]
        rows.append(
            {"stage": stage, "needed_by": ", ".join(needed_by) or "shared"}
            | {field: to_number(cost.get(field)) for field in _COST_FIELDS}
        )
    return pd.DataFrame(rows, columns=["stage", "needed_by", *_COST_FIELDS]).set_index("stage")


def arm_cost_table(run: Run) -> pd.DataFrame:
    """One row per trained arm and stage that it needs beyond the shared SFT model.

    Columns: `arm`, `stage`, `device_hours`, `gpu_hours`, `peak_memory_gib`.
    """
    fields = ("device_hours", "gpu_hours", "peak_memory_gib")
    rows = [
        {"arm": arm, "stage": stage} | {field: to_number(cost.get(field)) for field in fields}
        for arm in run.arms
        if arm not in NOT_TRAINED
        for stage, cost in _arm_stages(run, arm).items()
    ]
    return pd.DataFrame(rows, columns=["arm", "stage", *fields])


def training_curves(run: Run, stage: str) -> pd.DataFrame:
    """What `stage` logged, one row per logged step; empty when the run has no such stage."""
    return run.training.get(stage, pd.DataFrame())


def claims_table(run: Run) -> pd.DataFrame:
    """One row per claim: `statement`, `measure`, `estimate` (`_low`, `_high`, `_n`), `verdict`, `context`.

    `context` is what the estimate has to be read with, as text (e.g. the KL of both arms).
    """
    rows = [
        {"claim": row["claim"], "statement": row["statement"], "measure": row.get("measure", "")}
        | estimate_columns("estimate", row.get("estimate"))
        | {"verdict": row["verdict"], "context": _context(row.get("estimate"))}
        for row in run.metrics.get("verdicts_on_claims", [])
    ]
    columns = [
        "claim",
        "statement",
        "measure",
        "estimate",
        "estimate_low",
        "estimate_high",
        "estimate_n",
        "verdict",
    ]
    return pd.DataFrame(rows, columns=[*columns, "context"]).set_index("claim")


def reward_model_table(run: Run) -> pd.DataFrame:
    """One row per scorer of held-out pairs (`reward_model`, `judge_reward_model`, `implicit_reward`).

    `accuracy` stands beside trivial rules on the same pairs, `longer_wins` and `title_overlap_wins` (each
    with interval and n); `agrees_with_longer` (share) and `beats_longer_wins` (a verdict, or empty) say how
    much of it is length.
    """
    rows = []
    for scorer in ("reward_model", "judge_reward_model", "implicit_reward"):
        measured = run.metrics.get(scorer)
        if not measured:
            continue
        row: dict[str, Any] = {"scorer": scorer}
        for field in ("accuracy", "longer_wins", "title_overlap_wins", "agrees_with_longer"):
            row |= estimate_columns(field, measured.get(field))
        rows.append(row | {"beats_longer_wins": measured.get("beats_longer_wins", "")})
    return pd.DataFrame(rows, columns=None if rows else ["scorer"]).set_index("scorer")


def trivial_policy_table(run: Run) -> pd.DataFrame:
    """Built-in world only: policies that need no model, with their `gold` reward and `win_rate_vs_sft`."""
    rows = [
        {"policy": policy}
        | estimate_columns("gold", measured.get("gold"))
        | estimate_columns("win_rate_vs_sft", measured.get("win_rate_vs_sft"))
        for policy, measured in (run.metrics.get("world") or {}).get("trivial", {}).items()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["policy"]).set_index("policy")


def world_row(run: Run) -> dict[str, float]:
    """Built-in world only: `best_attainable` (gold reward) and `headroom`, as columns of one row."""
    world = run.metrics.get("world") or {}
    names = ("best_attainable", "headroom")
    return {column: value for name in names for column, value in estimate_columns(name, world.get(name)).items()}


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries, its index under the index's name."""
    return [{str(key): value for key, value in row.items()} for row in table.reset_index().to_dict("records")]


def estimate_columns(name: str, value: Any) -> dict[str, float]:
    """The columns of one estimate; a bare number is an estimate without interval, None is no estimate."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return {name: to_number(value)}
    low, high = value.get("ci95") or (None, None)
    columns = {name: to_number(value.get("value")), f"{name}_low": to_number(low), f"{name}_high": to_number(high)}
    return columns | {f"{name}_{count}": value[count] for count in ("n", "ties", "unparsed") if count in value}


def to_number(value: Any) -> float:
    """NaN for a null of the artifacts."""
    return math.nan if value is None else float(value)


def _position(arm: str) -> int:
    return _ARM_ORDER.index(arm) if arm in _ARM_ORDER else len(_ARM_ORDER)


def _arm_stages(run: Run, arm: str) -> Mapping[str, Mapping[str, Any]]:
    return (run.metrics["arms"][arm].get("cost") or {}).get("stages", {})


def _context(estimate: Any) -> str:
    """What an estimate carries beside value, interval and n, as text: `kl_ref: dpo 3.12, ppo 5.4`."""
    if not isinstance(estimate, Mapping):
        return ""
    extras = {name: value for name, value in estimate.items() if name not in _ESTIMATE_FIELDS}
    return "; ".join(
        f"{name}: {', '.join(f'{arm} {_short(part)}' for arm, part in value.items())}"
        if isinstance(value, Mapping)
        else f"{name}: {_short(value)}"
        for name, value in extras.items()
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _object(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} is broken ({error}); repeat the run") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{file} holds no JSON object; repeat the run")
    return content


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        return read_jsonl(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} is broken ({error}); repeat the run") from error
