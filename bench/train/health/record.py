"""The health of finished stages, read off their logs: for the run folder, the report and the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.train.health.check import Checklist
from bench.train.health.dpo import DPO
from bench.train.health.ppo import PPO
from bench.train.health.reward import REWARD
from bench.train.health.rloo import RLOO
from bench.train.health.settings import HealthSettings
from bench.train.health.sft import SFT
from bench.train.health.watch import Finding, Watch, in_words
from bench.train.log import Row

CHECKLISTS: Mapping[str, Checklist] = {
    "sft": SFT,
    "preferred_ft": SFT,
    "reward": REWARD,
    "judge_reward": REWARD,
    "dpo": DPO,
    "iterated_dpo": DPO,
    "ppo": PPO,
    "rloo": RLOO,
}
"""By stage."""


def health_record(stage: str, rows: Sequence[Row], settings: HealthSettings) -> dict[str, Any]:
    """A finished stage's health as JSON: whether the run collapsed, at which step and why, and all findings."""
    watch = Watch(stage, CHECKLISTS.get(stage, Checklist(stage, ())), settings)
    for row in rows:
        watch.read(row)
    collapse = next((finding for finding in watch.findings if finding.severity == "collapse"), None)
    return {
        "collapsed": collapse is not None,
        "step": collapse and collapse.step,
        "why": collapse and collapse.message,
        "findings": [asdict(finding) for finding in watch.findings],
    }


def health_summary(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The findings of all stages (`health_record` of each), a line each; one line where there is none."""
    lines = [in_words(stage, Finding(**found)) for stage, record in records.items() for found in record["findings"]]
    return [f"health: {line}" for line in lines] or [f"health: no findings in {', '.join(records) or 'no training'}"]
