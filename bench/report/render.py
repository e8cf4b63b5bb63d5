"""The report of one finished run: its sections, in the order in which they are read."""

from collections.abc import Callable
from pathlib import Path

from bench.report.load import Run, load_run
from bench.report.page import Block, Page, Section, write_page
from bench.report.sections import (
    answer,
    best_of_n,
    claims,
    cost,
    degeneration,
    grid,
    head_to_head,
    health,
    judges,
    known_reward,
    length,
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
    ("Results", results.section),
    ("Length", length.section),
    ("Head to head", head_to_head.section),
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


_TITLES = {"score": "Completions made elsewhere, scored alike"}


def render_run(run_dir: Path | str, out_dir: Path | str | None = None) -> Path:
    """Write figures/, report.md and report.html of the run in `run_dir`; returns report.html's path.

    Args:
        out_dir: where to write; the run folder itself by default.

    Raises:
        RunFolderError: the folder holds no finished run of this schema.
        ResourceError: the folder cannot be written.
    """
    run = load_run(run_dir)
    return write_page(run_page(run), Path(out_dir) if out_dir is not None else run.path)


def run_page(run: Run) -> Page:
    """The report of `run` as data."""
    experiment = run.setting("experiment", run.path.parent.name)
    run_id = run.setting("run_id", run.path.name)
    return Page(
        title=_TITLES.get(run.setting("kind"), "RLHF against DPO on summarization"),
        subtitle=f"experiment {experiment}, run {run_id}, seed {run.setting('seed', NONE)}",
        answer=answer.answer(run),
        sections=[Section(title, blocks) for title, blocks_of in SECTIONS if (blocks := blocks_of(run))],
    )
