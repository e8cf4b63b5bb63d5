"""What run folders hold of every prompt: an arm's points against the reference summary, and its KL."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.arms import REFERENCE
from bench.evaluate.seeds import Points
from bench.report.load import Run
from bench.report.read import rows_of


def points(run: Run, arm: str, judge: str, cell: str = "") -> Mapping[str, float]:
    """prompt_id -> 1, 0.5 or 0 of the arm against the reference summary; empty where the verdicts are not there.

    Args:
        cell: the folder of another evaluation than the headline's, such as `grid/validation-t0.7`.
    """
    file = run.path / cell / "verdicts" / f"{judge}.jsonl"
    return points_of(rows_of(file), arm, REFERENCE) if file.exists() else {}


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
    return {row["prompt_id"]: row["kl"] for row in rows_of(file) if row.get("kl") is not None}


def share_prompts(runs: Sequence[Run]) -> bool:
    """Whether the seeds were judged on the same prompts. A run without its prompts is taken to share them, but in the
    built-in world, which a seed makes anew."""
    prompts = [dict(zip(run.prompts["prompt_id"], run.prompts["prompt"], strict=True)) for run in runs]
    if all(prompts):
        return all(of_run == prompts[0] for of_run in prompts)
    return any(run.setting("config.data.kind") != "synthetic" for run in runs)


class Verdicts:
    """One judge's verdicts of runs that share their prompts, as points by seed; None where a run has none left."""

    def __init__(self, runs: Sequence[Run], judge: str) -> None:
        self.shared = share_prompts(runs)
        files = {run.setting("seed"): run.path / "verdicts" / f"{judge}.jsonl" for run in runs}
        self._rows = None
        if self.shared and all(file.exists() for file in files.values()):
            self._rows = {seed: rows_of(file) for seed, file in files.items()}

    def against(self, arm: str, opponent: str) -> Mapping[int, Points] | None:
        """seed -> prompt -> 1, 0.5 or 0."""
        if self._rows is None:
            return None
        found = {seed: points_of(rows, arm, opponent) for seed, rows in self._rows.items()}
        return found if all(found.values()) else None

    def of_a_duel(self, a: str, b: str) -> Mapping[int, tuple[Points, Points]] | None:
        """seed -> points of a against b, and the difference of their points against the reference summary."""
        direct, of_a, of_b = self.against(a, b), self.against(a, REFERENCE), self.against(b, REFERENCE)
        if direct is None or of_a is None or of_b is None:
            return None
        return {
            seed: (direct[seed], {p: point - of_b[seed][p] for p, point in of_a[seed].items() if p in of_b[seed]})
            for seed in direct
        }
