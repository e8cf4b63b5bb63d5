"""A whole scoring: files of completions -> verdicts and numbers -> a folder that the report reads like a run's."""

import re
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.errors import RunFolderError
from bench.evaluate.judge_error import check_labels, read_labelled
from bench.evaluate.judges.factory import check_judges, prompt_hashes
from bench.evaluate.summary_metrics import check_models
from bench.evaluate.text_models import TextModels
from bench.files import read_json, write_json, write_jsonl
from bench.provenance import git_state, package_versions, stable_hash
from bench.scored.config import ScoreConfig
from bench.scored.duels import judgements
from bench.scored.measure import measured, prompt_rows
from bench.scored.read import Given, read_files
from bench.scored.scorer import known_reward, rated
from bench.scored.weights import Weights

SCHEMA = 2
"""Of run.json and metrics.json: a run's (`bench.pipeline.run_folder`)."""
_WHERE = ("results_dir", "name")


def score(config: ScoreConfig, command: str) -> Path:
    """Score the files and return the folder: run.json, metrics.json, prompts.jsonl, completions/, verdicts/.

    The same command finds the same folder and writes it anew; a judge's verdicts come from the cache then.

    Raises:
        UserError: what the user can mend, found before anybody is asked wherever that is possible.
    """
    start, started = time.perf_counter(), _now()
    cache_dir = Path(config.results_dir).expanduser() / ".cache"
    evaluation, names = config.evaluation, () if config.judge is None else config.judge.names
    hashes = [] if config.judge is None else prompt_hashes(config.judge)
    models = TextModels(
        {"embedding_model": evaluation.embedding_model, "nli_model": evaluation.nli_model},
        torch.device("cpu"),
        cache_dir,
    )
    if config.judge is not None:
        check_judges(config.judge)
    check_labels(evaluation.judge_labels, names, hashes)
    check_models(evaluation.metrics, models)
    given = read_files(config.files, config.columns, drop_incomplete=config.incomplete == "drop")
    weights = Weights.checked(config, given)
    known = known_reward(config.known_reward, given, cache_dir)
    given = replace(given, hashes={**given.hashes, **weights.hashes})
    folder = _claimed(config, given)
    given = rated(known, weights.applied(given))
    found = judgements(config, given, cache_dir)
    labels = {
        judge: (audit, rows)
        for audit in evaluation.judge_labels
        for judge, (prompt_hash, rows) in read_labelled(Path(audit)).items()
        if judge in found and found[judge].about.get("prompt_hash") == prompt_hash
    }
    metrics: dict[str, Any] = {
        "schema": SCHEMA,
        "experiment": "score",
        "seed": config.seed,
        "config_hash": _config_hash(config),
        "data": {"counts": {"eval_prompts": len(given.prompts), "arms": len(given.arms)}, "left_out": given.left_out},
        **(numbers := measured(config, given, found, labels, models)),
        "missing": [*numbers["missing"], *weights.assumed(given)],
        "cost": {"run_wall_s": time.perf_counter() - start},
    }
    _write_rows(folder, given)
    for judge, judgement in found.items():
        rows = [asdict(verdict) for verdicts in judgement.duels.values() for verdict in verdicts]
        write_jsonl(folder / "verdicts" / f"{_plain(judge)}.jsonl", rows)
    record = {
        "schema": SCHEMA,
        "kind": "score",
        "experiment": "score",
        "run_id": folder.name,
        "command": command,
        "config": asdict(config),
        "config_hash": _config_hash(config),
        "seed": config.seed,
        "git": git_state(),
        "versions": package_versions(),
        "data": {"source": dict(given.hashes), "hash": _content_hash(given)},
        "started": started,
        "finished": _now(),
        "status": "finished",
    }
    write_json(folder / "run.json", record)
    write_json(folder / "metrics.json", metrics)  # last: its presence says that all is there
    return folder


def _claimed(config: ScoreConfig, given: Given) -> Path:
    """The folder, which may hold this scoring or nothing."""
    identity = stable_hash([_config_hash(config), _content_hash(given)])
    name = config.name or f"{_plain(Path(config.files[0]).name.partition('.')[0])}-{identity[:10]}"
    folder = Path(config.results_dir).expanduser() / "score" / name
    record = folder / "run.json"
    if record.exists():
        there = read_json(record)
        if (there["config_hash"], there["data"]["hash"]) != (_config_hash(config), _content_hash(given)):
            raise RunFolderError(f"{folder} holds another scoring; choose another name or remove it")
    return folder


def _write_rows(folder: Path, given: Given) -> None:
    """Prompts, and each arm's completions as results/README.md has them; what the files do not say is null."""
    write_jsonl(folder / "prompts.jsonl", prompt_rows(given.prompts))
    for place, (arm, rows) in enumerate(given.arms.items()):
        table = [
            {
                "arm": arm,
                "prompt_id": key,
                **{name: getattr(row, name) for name in _OF_A_ROW},
                "ratings": dict(row.ratings),
            }
            for key, row in rows.items()
        ]
        write_jsonl(folder / "completions" / f"{place:02d}-{_plain(arm)}.jsonl", table)


_OF_A_ROW = ("completion", "finished", "n_tokens", "temperature", "logp", "ref_logp", "kl")


def _config_hash(config: ScoreConfig) -> str:
    return stable_hash({key: value for key, value in asdict(config).items() if key not in _WHERE})


def _content_hash(given: Given) -> str:
    return stable_hash(sorted(given.hashes.values()))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "data"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
