"""A whole audit: labelled pairs -> verdicts -> numbers -> its folder."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.audit.config import AuditConfig
from bench.audit.judges import both_log_odds, judged
from bench.audit.log_odds import log_odds_numbers
from bench.audit.measure import Audit, pair_row
from bench.audit.pairs import read_pairs
from bench.audit.render import markdown
from bench.errors import RunFolderError
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.config import PANEL
from bench.evaluate.panel import agreement_of_judges
from bench.files import read_json, write_json, write_jsonl, write_text
from bench.provenance import git_state, package_versions, stable_hash

SCHEMA = 1


def audit(config: AuditConfig, command: str) -> Path:
    """Audit and return the folder: run.json, verdicts/, pairs.jsonl, report.md and, last, audit.json.

    The same command finds the same folder and writes it anew; a judge's verdicts come from the cache then.

    Raises:
        UserError: what the user can mend, found before any model is loaded wherever that is possible.
    """
    folder = _claimed(config)
    pairs, hashes = read_pairs(Path(config.data).expanduser(), config.columns)
    measured = Audit(pairs, config.seed, config.bootstrap_resamples)
    found = judged(config, pairs)
    numbers: dict[str, Any] = {
        "schema": SCHEMA,
        "data": {"name": Path(config.data).resolve().stem, "files": hashes},
        "labels": measured.labels(),
        "judges": {},
    }
    for name, (judge, verdicts) in found.items():
        numbers["judges"][name] = {
            "prompt_hash": verdicts[0].prompt_hash,
            **measured.judge(verdicts),
            "usage": judge.usage.to_dict() if isinstance(judge, AskingJudge) else None,
        }
        if (odds := both_log_odds(judge, pairs)) is not None:
            labels = [pair.labels for pair in pairs]
            numbers["judges"][name]["log_odds"] = log_odds_numbers(
                *odds, labels, config.seed, config.bootstrap_resamples, list(measured.posts.values())
            )
    alone = {name: verdicts for name, (_, verdicts) in found.items() if name != PANEL}
    if len(alone) > 1:
        numbers["judge_agreement"] = agreement_of_judges(
            [alone], config.seed, config.bootstrap_resamples, measured.posts
        )
    record = {
        "schema": SCHEMA,
        "command": command,
        "config": asdict(config),
        "config_hash": _config_hash(config),
        "git": git_state(),
        "versions": package_versions(),
    }
    write_json(folder / "run.json", record)
    for name, (_, verdicts) in found.items():
        write_jsonl(folder / "verdicts" / f"{_plain(name)}.jsonl", [asdict(verdict) for verdict in verdicts])
    write_jsonl(folder / "pairs.jsonl", [pair_row(pair) for pair in pairs])
    write_text(folder / "report.md", markdown(numbers))
    write_json(folder / "audit.json", numbers)
    return folder


def _claimed(config: AuditConfig) -> Path:
    """The audit's folder, which may hold this audit or nothing."""
    name = config.name or f"{_plain(Path(config.data).resolve().stem)}-{config.judge_name}-{_config_hash(config)[:10]}"
    folder = Path(config.results_dir) / "audit" / name
    record = folder / "run.json"
    if record.exists() and read_json(record)["config_hash"] != _config_hash(config):
        raise RunFolderError(f"{folder} holds another audit; choose another name or remove it")
    return folder


def _config_hash(config: AuditConfig) -> str:
    return stable_hash({key: value for key, value in asdict(config).items() if key not in ("results_dir", "name")})


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "data"
