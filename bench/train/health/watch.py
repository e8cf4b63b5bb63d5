"""Watches a training run: each check speaks once, when it first fires."""

from dataclasses import dataclass

from bench import processes
from bench.progress import say
from bench.train.health.check import NOT_FINITE, Check, Checklist, Severity
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


@dataclass(frozen=True)
class Finding:
    """A check that fired: at which step of the log (None: seen in the evaluation), the number measured there, and the
    threshold it reached."""

    check: str
    severity: Severity
    step: int | None
    value: float
    threshold: float
    message: str
    advice: str


class Watch:
    """Reads a stage's log row by row. What it finds follows from the rows alone, so that a log read again, after a kill
    or out of the cache, gives the same findings."""

    def __init__(self, stage: str, checklist: Checklist, settings: HealthSettings) -> None:
        self.stage, self.checklist, self.settings = stage, checklist, settings
        self.findings: list[Finding] = []
        self._rows: list[Row] = []
        self._waiting = list(checklist.checks)

    def read(self, row: Row) -> list[Finding]:
        """The checks that fire at this row for the first time."""
        self._rows.append(self.checklist.in_our_words(row))
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
            advice=check.advice.format(group=self.checklist.group),
        )


def in_words(stage: str, finding: Finding) -> str:
    """One line for the terminal."""
    where = "evaluation" if finding.step is None else f"step {finding.step}"
    return f"{stage}, {where}: {finding.severity}: {finding.message}; try: {finding.advice}"
