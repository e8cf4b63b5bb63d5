"""Where the time of a study goes, from what its runs recorded: training, sampling, evaluation, and the rest.

    python -m bench.perf --study results/reference/builtin results/reference/beta_frontier

A stage that several runs share was made once and is counted once, at what it cost when it was made. A run that was
measured again counts as it was measured last.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.arms import stage_of
from bench.errors import DataError
from bench.files import read_json, write_text

_KINDS = ("training", "samples on the way", "completions", "reference log-probs and labels")
_EVALUATION, _OTHER = "evaluation", "everything else"


class Part(NamedTuple):
    """How often something was done, and seconds of all times together; processor seconds None where nobody measured."""

    times: int
    wall_s: float
    cpu_s: float | None

    def and_(self, other: "Part") -> "Part":
        cpu = None if self.cpu_s is None or other.cpu_s is None else self.cpu_s + other.cpu_s
        return Part(self.times + other.times, self.wall_s + other.wall_s, cpu)


def run_study(paths: Sequence[Path], out: Path) -> str:
    """Read the runs, write `<out>/study.md`, return the tables: one for each path.

    Raises:
        DataError: a path is no run, and holds none.
    """
    found = "\n".join(table(path.name, parts([_read(run) for run in runs_in(path)])) for path in paths)
    write_text(out / "study.md", found)
    return found


def runs_in(path: Path) -> list[Path]:
    """The folder itself, or the runs in it."""
    runs = [path] if (path / "metrics.json").exists() else sorted(file.parent for file in path.glob("*/metrics.json"))
    if not runs:
        raise DataError(f"--study: {path} is no run and holds none (a run has a metrics.json)")
    return runs


def _read(run: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return read_json(run / "metrics.json")["cost"], read_json(run / "run.json")["stages"]


def parts(runs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, dict[str, Part]]:
    """Kind of work -> what was done -> its part.

    Args:
        runs: of each run the `cost` of its metrics.json and the `stages` of its run.json.
    """
    found: dict[str, dict[str, Part]] = {kind: {} for kind in (*_KINDS, _EVALUATION, _OTHER)}

    def add(kind: str, what: str, part: Part) -> None:
        found[kind][what] = found[kind][what].and_(part) if what in found[kind] else part

    seen: set[str] = set()
    for cost, stages in runs:
        for name, stage in cost["stages"].items():
            if (key := stages[name]["key"]) in seen:
                continue
            seen.add(key)
            add(_kind(name), name, Part(1, stage["wall_s"], stage.get("cpu_s")))
            if apart := stage.get("apart_wall_s"):
                add(_KINDS[1], f"of {name}", Part(1, apart, None))
        evaluation = cost["evaluation"]
        add(_EVALUATION, "judges, metrics, intervals", Part(1, evaluation["wall_s"], evaluation.get("cpu_s")))
        add(_OTHER, "data, start, files", Part(1, cost["other"]["wall_s"], None))
    return {kind: of_kind for kind, of_kind in found.items() if of_kind}


def _kind(stage: str) -> str:
    if stage.startswith("generate_") or stage == "best_of_n":
        return _KINDS[2]
    return _KINDS[0] if stage_of(stage).settings else _KINDS[3]


def table(name: str, found: Mapping[str, Mapping[str, Part]]) -> str:
    """Markdown: a row for each kind of work, what it is made of below it, with shares of all wall and CPU seconds."""
    every = [part for of_kind in found.values() for part in of_kind.values()]
    wall, cpu = sum(part.wall_s for part in every), sum(part.cpu_s or 0.0 for part in every)
    runs = sum(part.times for part in found[_EVALUATION].values())
    lines = [
        f"### {name}: {runs} run{'s' if runs > 1 else ''}, {wall:,.0f} s, {cpu:,.0f} CPU s measured",
        "",
        "| | times | wall s | share | CPU s | share |",
        "|---|---|---|---|---|---|",
    ]
    for kind, of_kind in found.items():
        lines.append(_row(f"**{kind}**", [*of_kind.values()], wall, cpu))
        if len(of_kind) > 1:
            lines += [_row(what, [part], wall, cpu) for what, part in of_kind.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, of: Sequence[Part], wall: float, cpu: float) -> str:
    times, seconds = sum(part.times for part in of), sum(part.wall_s for part in of)
    measured = [part.cpu_s for part in of if part.cpu_s is not None]
    used = f"{sum(measured):,.1f} | {sum(measured) / cpu:.1%}" if measured else "- | -"
    return f"| {name} | {times} | {seconds:,.1f} | {seconds / wall:.1%} | {used} |"
