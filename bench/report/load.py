"""A finished run folder as tables: numbers read from its artifacts (results/README.md), none computed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.arms import ARMS, BY_NAME, REFERENCE, START, cost_stages, policy_stage
from bench.errors import RunFolderError
from bench.report.read import Number, VerdictTable, check_estimates, object_of, rows_of

SCHEMA = 2
READABLE = (1, SCHEMA)
_ORDER = {arm.name: place for place, arm in enumerate(ARMS)}
NOT_TRAINED = frozenset((START, REFERENCE, *(arm for arm in _ORDER if not cost_stages(arm))))
"""The arms that need no stage beyond the shared SFT model."""
ASKED = ("dpo", "ppo")
"""The pair that is the question: the first against the second, or the first less the second."""
COMPARED = frozenset((START, *ASKED))
"""The arms whose pairs are told first; of others the report tells."""
TRUTH = ("gold", "human")
"""Judges that are what others are measured by."""
WHERE_AND_WHEN = ("run_id", "label", "results_dir", "checkpoint_every_s", "remeasure", "report_to")
"""Settings that say where a run goes and when it is saved, and not what it does."""
NAMES_OF_A_RUN = ("seed", "name", *WHERE_AND_WHEN)
"""The same, and which run it is."""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run: its run.json and metrics.json; the larger files are read when asked for."""

    path: Path
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def training(self) -> dict[str, pd.DataFrame]:
        """Stage -> its logged rows, by step."""
        files = sorted((self.path / "training").glob("*.jsonl"))
        frames = {file.stem: pd.DataFrame(rows_of(file, rest=Number)) for file in files}
        return {
            stage: frame.sort_values("step", kind="stable", ignore_index=True) if "step" in frame else frame
            for stage, frame in frames.items()
        }

    @cached_property
    def completions(self) -> pd.DataFrame:
        """One row per (arm, temperature, prompt)."""
        return pd.DataFrame(self.completion_rows)

    @cached_property
    def completion_rows(self) -> list[dict[str, Any]]:
        """The same as plain rows."""
        files = sorted((self.path / "completions").glob("*.jsonl"))
        return [row for file in files for row in rows_of(file, arm=str, prompt_id=str, completion=str)]

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """The held-out prompts: prompt_id, prompt, reference (the reference summary)."""
        file = self.path / "prompts.jsonl"
        rows = rows_of(file, prompt_id=str, prompt=str, reference=str) if file.exists() else []
        return pd.DataFrame(rows, columns=["prompt_id", "prompt", "reference"])

    @cached_property
    def verdicts(self) -> dict[str, VerdictTable]:
        """Judge -> its verdicts; those whose verdicts are not in the folder have none."""
        files = {judge: self.path / "verdicts" / f"{judge}.jsonl" for judge in self.judges}
        return {judge: VerdictTable(file) for judge, file in files.items() if file.exists()}

    @property
    def arms(self) -> list[str]:
        """In the order of `bench.arms`, then others by name, the reference summary last."""
        return sorted(self.metrics["arms"], key=lambda arm: (arm == REFERENCE, _ORDER.get(arm, len(_ORDER)), arm))

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
    if reason := unfinished(path):
        raise RunFolderError(reason)
    run = object_of(path / "run.json")
    metrics = object_of(path / "metrics.json")
    for name, content in (("run.json", run), ("metrics.json", metrics)):
        if content.get("schema") not in READABLE:
            raise RunFolderError(
                f"{path / name} has schema {content.get('schema')!r}, this version reads up to {SCHEMA};"
                " repeat the run with this version"
            )
    if not metrics.get("arms"):
        raise RunFolderError(f"{path / 'metrics.json'} has no arms; repeat the run")
    check_estimates(path / "metrics.json", metrics)
    return Run(path, run, metrics)


def unfinished(path: Path) -> str:
    """Why the folder holds no finished run, and what to do; empty where it holds one.

    Raises:
        RunFolderError: there is no such folder, or its run.json is broken.
    """
    if not path.is_dir():
        raise RunFolderError(f"no run folder at {path}; give a folder such as results/<experiment>/<run_id>")
    if not (path / "run.json").is_file():
        return f"{path} is not a run folder: it has no run.json; give results/<experiment>/<run_id>"
    record = object_of(path / "run.json")
    status = record.get("status", "finished")
    if status == "finished" and (path / "metrics.json").is_file():
        return ""
    why = " ".join(str(record.get("error") or ("no metrics.json" if status == "finished" else status)).split())
    return f"the run in {path} has not finished ({why}); start its command again to resume it"


def newest_run(results_dir: Path | str) -> Path | None:
    """The run folder below `results_dir` that finished last; None when there is none. Published runs, which a clone
    brings, are nobody's last: `reference/` is left out."""
    files = [file for file in Path(results_dir).glob("*/*/metrics.json") if file.parts[-3] != "reference"]
    written = sorted(files, key=lambda file: (file.stat().st_mtime, str(file)))
    return next((file.parent for file in reversed(written) if not unfinished(file.parent)), None)


def leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted name, value) of every leaf of a nested mapping; a list is a leaf."""
    if not isinstance(tree, Mapping):
        return [(prefix, tree)]
    return [leaf for key in tree for leaf in leaves(tree[key], f"{prefix}.{key}" if prefix else str(key))]


def settings(run: Run) -> dict[str, Any]:
    """The run's config by dotted names, without its seeds and what else says which run it is and not what it does."""
    config = leaves(run.setting("config", {}))
    return {key: value for key, value in config if key not in NAMES_OF_A_RUN and not key.endswith(".seed")}


def policy_of(run: Run, arm: str) -> tuple[Any, str, Any]:
    """What tells a trained policy from others: seed, arm, and its stage's key (the run, where that has none)."""
    by = run.setting("config.samples_in_training.keep_best")
    stage = policy_stage(BY_NAME[arm], by) if arm in BY_NAME else arm
    return run.setting("seed"), arm, run.setting(f"stages.{stage}.key", run.path)


def distinct(runs: Sequence[Run], *arms: str) -> list[Run]:
    """The runs that share the policy of none of these arms with a run before them."""
    seen: set[Any] = set()
    kept = []
    for run in runs:
        policies = {policy_of(run, arm) for arm in arms}
        if not policies & seen:
            kept.append(run)
        seen |= policies
    return kept


def frame(rows: list[dict[str, Any]], *columns: str) -> pd.DataFrame:
    """The rows as a table; `columns` are there even without rows."""
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries, its index under the index's name."""
    return [{str(key): value for key, value in row.items()} for row in table.reset_index().to_dict("records")]


def with_interval(measured: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The estimate of a number whose interval stands beside it, `x` and `x_ci95`; None where there is no number."""
    value = measured.get(name)
    if value is None or isinstance(value, Mapping):
        return value
    return {"value": value, "ci95": measured.get(f"{name}_ci95")}


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
