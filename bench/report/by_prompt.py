"""What a run folder holds of every prompt: an arm's points against the reference summary, and its KL."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.arms import REFERENCE
from bench.files import read_jsonl
from bench.report.load import Run


def points(run: Run, arm: str, judge: str) -> Mapping[str, float]:
    """prompt_id -> 1, 0.5 or 0 of the arm against the reference summary; empty where the verdicts are not there."""
    file = run.path / "verdicts" / f"{judge}.jsonl"
    return points_of(read_jsonl(file), arm, REFERENCE) if file.exists() else {}


def points_of(rows: Sequence[Mapping[str, Any]], arm: str, opponent: str) -> Mapping[str, float]:
    """prompt_id -> 1, 0.5 or 0 of the arm against the opponent, by the rows of a verdicts file."""
    # Imported where it is needed: it brings torch, which no other part of a report does.
    from bench.evaluate.win_rate import points_by_prompt
    from bench.records import Verdict

    return points_by_prompt([Verdict(**row) for row in rows if (row["arm_a"], row["arm_b"]) == (arm, opponent)])


def kls(run: Run, arm: str) -> Mapping[str, float]:
    """prompt_id -> KL to the SFT model along the arm's sample, nats; empty where it is not known."""
    file = run.path / "completions" / f"{arm}.jsonl"
    if not file.exists():
        return {}
    return {row["prompt_id"]: row["kl"] for row in read_jsonl(file) if row.get("kl") is not None}
