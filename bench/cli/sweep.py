"""What the jobs of a sweep came to, whichever launcher ran them: in this process, in others, or on other machines."""

import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from bench.files import read_json, write_json
from bench.progress import say

_SWEPT = "swept.json"
_LONGEST = 80


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: its place in the sweep, from 0.
        overrides: KEY=VALUE, of this job alone.
        exit_code: 0, or that of a refusal.
        said: the path of its report, or why it was refused.
    """

    number: int
    overrides: list[str]
    exit_code: int
    said: str


def is_job() -> bool:
    """Whether this run is one of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def label() -> str:
    """What was swept, of this job: `dpo.beta=0.3`, safe in a folder's name; empty for a run that is of no sweep."""
    swept = _folder(HydraConfig.get().sweep.dir) / _SWEPT
    if not is_job() or not swept.exists():
        return ""
    return label_of([o for o in HydraConfig.get().overrides.task if _key(o) in read_json(swept)])


def label_of(overrides: Iterable[str]) -> str:
    """`dpo.beta=0.3+ppo.beta=0.1`, in the order of their names. Seeds are in front of it, experiments above."""
    parts = [
        f"{_safe(_key(override))}={_safe(override.partition('=')[2])}"
        for override in sorted(overrides)
        if _key(override) not in ("seed", "experiment", "name")
    ]
    return "+".join(parts)[:_LONGEST]


def leave(exit_code: int, said: str) -> None:
    """Write what this job came to where the command that started the sweep finds it, also from another machine."""
    config = HydraConfig.get()
    job = Job(config.job.num, list(config.overrides.task), exit_code, said)
    write_json(_folder(config.sweep.dir) / f"{job.number}.json", asdict(job))


def in_words(jobs: Iterable[Job]) -> str:
    """A line for each job: what it alone was told, then its report or its refusal."""
    jobs = sorted(jobs, key=lambda job: job.number)
    common = set.intersection(*(set(job.overrides) for job in jobs))
    refused = sum(job.exit_code != 0 for job in jobs)
    lines = [f"sweep: {len(jobs) - refused} of {len(jobs)} jobs done" + (f", {refused} refused" if refused else "")]
    for job in jobs:
        own = " ".join(override for override in job.overrides if override not in common) or f"job {job.number}"
        lines.append(f"  {own}: {'error: ' if job.exit_code else ''}{job.said}")
    return "\n".join(lines)


class AfterAll(Callback):
    """Hydra's hook around a sweep: says where its jobs write what they print, and at the end what they came to."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        launcher = str(config.hydra.runtime.choices["hydra/launcher"])
        write_json(_folder(config.hydra.sweep.dir) / _SWEPT, swept_keys(config.hydra.overrides.task))
        if "submitit" in str(config.hydra.launcher._target_):
            say(f"the jobs of {launcher} print into {config.hydra.sweep.dir}/.submitit/JOB/")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        jobs = [Job(**read_json(path)) for path in _folder(config.hydra.sweep.dir).glob("[0-9]*.json")]
        if jobs:
            say(in_words(jobs))
            if worst := max(job.exit_code for job in jobs):
                sys.exit(worst)


def swept_keys(overrides: Iterable[str]) -> list[str]:
    """The keys of a sweep's overrides that have several values."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [str(override.key_or_group) for override in parsed if override.is_sweep_override()]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _safe(text: str) -> str:
    """Without brackets and quotes, and with _ for what a file system or a shell would trip over."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", re.sub(r"[\[\]{}'\"\s]", "", text)).strip("_")


def _folder(sweep_dir: str) -> Path:
    return Path(sweep_dir) / "jobs"
