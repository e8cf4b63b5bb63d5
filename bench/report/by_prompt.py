"""What run folders hold of every prompt: an arm's points against the reference summary, and its KL."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.arms import REFERENCE
from bench.evaluate.seeds import Points
from bench.report.load import Run
from bench.report.read import VerdictTable, object_of, rows_of

_LETTERS = {1.0: "a", 0.5: "t", 0.0: "b", None: "u"}


def points(run: Run, arm: str, judge: str, cell: str = "") -> Mapping[str, float]:
    """prompt_id -> 1, 0.5 or 0 of the arm against the reference summary; empty where that is not known.

    Args:
        cell: the folder of another evaluation than the headline's, such as `grid/validation-t0.7`.
    """
    return Duels(run, judge, cell).points(arm, REFERENCE)


class Duels:
    """One judge's points in a cell of a run, from its verdicts or, where these are not there, from by_prompt.json."""

    def __init__(self, run: Run, judge: str, cell: str = "") -> None:
        file = run.path / cell / "verdicts" / f"{judge}.jsonl"
        self._rows = rows_of(file) if file.exists() else None
        kept = {} if file.exists() else _kept(run, cell)
        self._prompts, self._kept = kept.get("prompts", []), kept.get("points", {}).get(judge, {})

    @property
    def is_there(self) -> bool:
        return bool(self._rows or self._kept)

    def points(self, arm: str, opponent: str) -> Mapping[str, float]:
        """prompt_id -> 1, 0.5 or 0 of the arm against the opponent; empty where it is not known."""
        if self._rows is not None:
            return points_of(self._rows, arm, opponent)
        return _column(self._prompts, self._kept.get(f"{arm}_vs_{opponent}", []))


def _kept(run: Run, cell: str = "") -> dict[str, Any]:
    file = run.path / cell / "by_prompt.json"
    return object_of(file) if file.exists() else {}


class KeptVerdicts:
    """One judge's points of by_prompt.json where a run has no verdicts left: what was said over both orders."""

    def __init__(self, prompts: Sequence[str], points: Mapping[str, Sequence[float | None]]) -> None:
        self._prompts = prompts
        self._points = {(a, b): values for duel, values in points.items() for a, _, b in [duel.partition("_vs_")]}

    @property
    def duels(self) -> list[tuple[str, str]]:
        return [*self._points]

    def letters(self, ids: Mapping[str, int], duels: Sequence[tuple[str, str]]) -> np.ndarray:
        """(prompts, 2 x duels) bytes, as `VerdictTable.letters`: all in the first order, as the points hold none."""
        table = np.full((len(ids), 2 * len(duels)), ord("."), np.uint8)
        for place, duel in enumerate(duels):
            for prompt, value in zip(self._prompts, self._points.get(duel, []), strict=False):
                if prompt in ids:
                    table[ids[prompt], 2 * place] = ord(_LETTERS[value])
        return table


def said(run: Run) -> Mapping[str, VerdictTable | KeptVerdicts]:
    """Judge -> what it said of each pair and prompt: its verdicts, or where these are not there its points."""
    if run.verdicts:
        return {judge: table for judge, table in run.verdicts.items() if table.duels}
    kept = _kept(run)
    points = kept.get("points", {})
    return {judge: KeptVerdicts(kept["prompts"], points[judge]) for judge in run.judges if judge in points}


def keeps_points(run: Run) -> bool:
    """Whether by_prompt.json is there."""
    return bool(_kept(run))


def _column(prompts: Sequence[str], values: Sequence[float | None]) -> Mapping[str, float]:
    return {prompt: value for prompt, value in zip(prompts, values, strict=False) if value is not None}


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
        kept = _kept(run)
        return _column(kept.get("prompts", []), kept.get("kl", {}).get(arm, []))
    return {row["prompt_id"]: row["kl"] for row in rows_of(file) if row.get("kl") is not None}


def share_prompts(runs: Sequence[Run]) -> bool:
    """Whether the seeds were judged on the same prompts. A run without its prompts is taken to share them, but in the
    built-in world, which a seed makes anew."""
    prompts = [dict(zip(run.prompts["prompt_id"], run.prompts["prompt"], strict=True)) for run in runs]
    if all(prompts):
        return all(of_run == prompts[0] for of_run in prompts)
    posts = [_kept(run).get("posts") for run in runs]
    if all(posts):
        return len(set(posts)) == 1
    return any(run.setting("config.data.kind") != "synthetic" for run in runs)


class Verdicts:
    """One judge's verdicts of runs that share their prompts, as points by seed; None where a run has none left."""

    def __init__(self, runs: Sequence[Run], judge: str) -> None:
        self.shared = share_prompts(runs)
        by_seed = {run.setting("seed"): Duels(run, judge) for run in runs} if self.shared else {}
        self._of = by_seed if by_seed and all(of_run.is_there for of_run in by_seed.values()) else None

    def against(self, arm: str, opponent: str) -> Mapping[int, Points] | None:
        """seed -> prompt -> 1, 0.5 or 0."""
        if self._of is None:
            return None
        found = {seed: of_run.points(arm, opponent) for seed, of_run in self._of.items()}
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
