"""Watches a training run: each check speaks once, when it first fires."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import processes
from bench.progress import say
from bench.train.health.checks import CHECKS, GROUPS, NOT_FINITE, Check, Severity, in_our_words
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


@dataclass(frozen=True)
class Finding:
    """A check that fired: at which step of the log, the number measured there, and the threshold it reached."""

    check: str
    severity: Severity
    step: int
    value: float
    threshold: float
    message: str
    advice: str


class Watch:
    """Reads a stage's log row by row. What it finds follows from the rows alone, so that a log read again, after a kill
    or out of the cache, gives the same findings."""

    def __init__(self, stage: str, settings: HealthSettings) -> None:
        self.stage, self.settings = stage, settings
        self.findings: list[Finding] = []
        self._rows: list[Row] = []
        self._waiting = list(CHECKS.get(stage, []))

    def read(self, row: Row) -> list[Finding]:
        """The checks that fire at this row for the first time."""
        self._rows.append(in_our_words(self.stage, row))
        found = []
        for check in list(self._waiting):
            value = check.measure(self._rows, self.settings)
            threshold = check.threshold(self.settings)
            if value is not None and (value >= threshold if check.bad == "above" else value <= threshold):
                self._waiting.remove(check)
                found.append(self._finding(check, value, threshold))
        self.findings += found
        return found

    def report(self, row: Row) -> None:
        """Read the row and say what is new, on one line each."""
        for finding in self.read(row):
            if processes.is_main():
                say(in_words(self.stage, finding))

    @property
    def has_stopped(self) -> bool:
        """Whether a row could not be computed, which ends the run."""
        return any(finding.check == NOT_FINITE for finding in self.findings)

    def _finding(self, check: Check, value: float, threshold: float) -> Finding:
        return Finding(
            check=check.name,
            severity=check.severity,
            step=int(self._rows[-1]["step"] or 0),
            value=value,
            threshold=threshold,
            message=check.message.format(value=value, threshold=threshold),
            advice=check.advice.format(group=GROUPS.get(self.stage, self.stage)),
        )


def in_words(stage: str, finding: Finding) -> str:
    """One line for the terminal."""
    return f"{stage}, step {finding.step}: {finding.severity}: {finding.message}; try: {finding.advice}"


def health_summary(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The findings of all stages (`health_record` of each), a line each; one line where there is none."""
    lines = [in_words(stage, Finding(**found)) for stage, record in records.items() for found in record["findings"]]
    return [f"health: {line}" for line in lines] or [f"health: no findings in {', '.join(records) or 'no training'}"]


def health_record(stage: str, rows: Sequence[Row], settings: HealthSettings) -> dict[str, Any]:
    """A finished stage's health as JSON: whether the run collapsed, at which step and why, and all findings."""
    watch = Watch(stage, settings)
    for row in rows:
        watch.read(row)
    collapse = next((finding for finding in watch.findings if finding.severity == "collapse"), None)
    return {
        "collapsed": collapse is not None,
        "step": collapse and collapse.step,
        "why": collapse and collapse.message,
        "findings": [asdict(finding) for finding in watch.findings],
    }
