"""The report of one finished run: its sections, in the order in which they are read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bench.errors import RunFolderError, in_one_line
from bench.report.formats import DEFAULT, write_report
from bench.report.load import Run, load_run
from bench.report.page import Block, Page, Section, require_folder
from bench.report.read import SHAPE_ERRORS
from bench.report.sections import (
    answer,
    best_of_n,
    claims,
    cost,
    degeneration,
    frontier,
    grid,
    head_to_head,
    health,
    judges,
    known_reward,
    length,
    missing,
    overoptimisation,
    provenance,
    reproduction,
    results,
    reward_model,
    samples,
    summaries,
    training,
    world,
)
from bench.report.words import NONE

SECTIONS: tuple[tuple[str, Callable[[Run], list[Block]]], ...] = (
    ("Missing", missing.section),
    ("Results", results.section),
    ("Length", length.section),
    ("Head to head", head_to_head.section),
    ("Reward against KL", frontier.section),
    ("Temperatures and other posts", grid.section),
    ("Claims", claims.section),
    ("Published numbers", reproduction.section),
    ("Cost", cost.section),
    ("Health", health.section),
    ("Training", training.section),
    ("Over-optimisation", overoptimisation.section),
    ("Best of n", best_of_n.section),
    ("Degeneration", degeneration.section),
    ("Summaries", summaries.section),
    ("Judges", judges.section),
    ("Reward model", reward_model.section),
    ("Built-in world", world.section),
    ("Known reward", known_reward.section),
    ("Samples", samples.section),
    ("How it was made", provenance.section),
)
"""Title and blocks of each; one without blocks, where the run has no numbers for it, is left out of the page."""


T = TypeVar("T")
_TITLES = {"score": "Completions made elsewhere, scored alike"}


def render_run(run_dir: Path | str, out_dir: Path | str | None = None, formats: Sequence[str] = DEFAULT) -> Path:
    """Write the report of the run in `run_dir`: figures/, report.md and report.html; returns report.html's path.

    Args:
        out_dir: where to write; the run folder itself by default.
        formats: of `formats.FORMATS`.

    Raises:
        RunFolderError: the folder holds no finished run of this schema.
        ResourceError: the folder cannot be written.
    """
    run = load_run(run_dir)
    out_dir = Path(out_dir) if out_dir is not None else run.path
    require_folder(out_dir)
    return write_report(run_page(run), [run], out_dir, formats)


def run_page(run: Run) -> Page:
    """The report of `run` as data."""
    experiment = run.setting("experiment", run.path.parent.name)
    run_id = run.setting("run_id", run.path.name)
    return Page(
        title=_TITLES.get(run.setting("kind"), "RLHF against DPO on summarization"),
        subtitle=f"experiment {experiment}, run {run_id}, seed {run.setting('seed', NONE)}",
        answer=_made(run, "the answer", answer.answer),
        sections=[Section(title, blocks) for title, of in SECTIONS if (blocks := _made(run, title, of))],
    )


def _made(run: Run, title: str, of: Callable[[Run], list[T]]) -> list[T]:
    """What `of` makes of the run.

    Raises:
        RunFolderError: the numbers are not of the shape that results/README.md describes, where nothing else said so.
    """
    try:
        return of(run)
    except SHAPE_ERRORS as error:
        raise RunFolderError(
            f"{run.path}: its numbers are not as results/README.md has them ({title} met {in_one_line(error)});"
            " repeat the run"
        ) from error
