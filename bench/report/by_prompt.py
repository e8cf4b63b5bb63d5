"""What a run folder holds of every prompt: an arm's points against the reference summary, and its KL."""

from collections.abc import Mapping

from bench.arms import REFERENCE
from bench.files import read_jsonl
from bench.report.load import Run


def points(run: Run, arm: str, judge: str, opponent: str = REFERENCE) -> Mapping[str, float]:
    """prompt_id -> 1, 0.5 or 0 of the arm against the opponent; empty where the verdicts are not there."""
    # Imported where it is needed: it brings torch, which no other part of a report does.
    from bench.evaluate.win_rate import points_by_prompt
    from bench.records import Verdict

    file = run.path / "verdicts" / f"{judge}.jsonl"
    if not file.exists():
        return {}
    rows = [row for row in read_jsonl(file) if (row["arm_a"], row["arm_b"]) == (arm, opponent)]
    return points_by_prompt([Verdict(**row) for row in rows])


def kls(run: Run, arm: str) -> Mapping[str, float]:
    """prompt_id -> KL to the SFT model along the arm's sample, nats; empty where it is not known."""
    file = run.path / "completions" / f"{arm}.jsonl"
    if not file.exists():
        return {}
    return {row["prompt_id"]: row["kl"] for row in read_jsonl(file) if row.get("kl") is not None}
