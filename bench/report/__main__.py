"""`python -m bench.report RUN [RUN ...]`: the report of one finished run, or the comparison of several."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.errors import RunFolderError, UserError
from bench.report import render_comparison, render_run
from bench.report.expected import write_expectation
from bench.report.formats import DEFAULT, FORMATS
from bench.report.gallery import render_gallery
from bench.report.load import load_run, unfinished
from bench.report.sections.missing import missing
from bench.terminal import spoken

_DESCRIPTION = """\
Write the report of a finished run again from its artifacts, or compare several finished runs. Nothing is
trained, sampled or measured, and no model is needed. The last line printed is the path of the report."""

_EPILOG = """\
examples:
  python -m bench.report results/builtin/s0-1a2b3c4d5e
      figures/, report.md and report.html in the run folder
  python -m bench.report results/sweep/*
      win rate and KL against beta, and the reward-KL points of both arms, in results/sweep-comparison/
      of runs that differ in their seed alone also who wins over seeds, each arm's mean, spread and collapsed seeds;
      the claims decided over the runs: at own KL (seeds), at equal KL (betas), tuned and in equal hours (trials)
  python -m bench.report results/builtin/s0-1a2b3c4d5e --format csv,latex,pdf --out paper
      numbers.csv (every number, a row each), tables.tex (booktabs) and figures/*.pdf in paper/
  python -m bench.report --expectation results/reference/builtin_seeds/expected.json results/reference/builtin_seeds/*/
      the range that `python -m bench` holds a run of the default settings against

Of several folders those that hold no finished run (killed, failed, still going) are left out, each with a line
on stderr. Runs are compared only when they share data, SFT model, sampling, judge and budget, but for how long PPO and
DPO train; the error names what differs. Exit code: 0 done; 2 no finished run, or runs that may not be compared; 1 the
report cannot be written."""


@spoken
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="folder of a finished run: results/<experiment>/<run_id>",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="where to write (default: the run folder; for several runs <experiment>-comparison beside it)",
    )
    parser.add_argument(
        "--gallery",
        action="store_true",
        help="write gallery.html instead: every figure there is, the function that draws it, and what it needs",
    )
    parser.add_argument(
        "--expectation",
        metavar="FILE",
        type=Path,
        help="write there what a further run of the settings that these runs share is expected to give, and no report",
    )
    parser.add_argument(
        "--format",
        metavar="FORMATS",
        type=_formats,
        default=DEFAULT,
        help="what to write, with commas between: "
        + "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
        + f" (default: {','.join(DEFAULT)})",
    )
    options = parser.parse_args(argv)
    try:
        if options.expectation:
            path = write_expectation(_finished(options.runs), options.expectation)
        elif options.gallery:
            path = render_gallery(_finished(options.runs), options.out or _place(options.runs))
        elif len(options.runs) == 1:
            path = render_run(options.runs[0], options.out, options.format)
            say_missing(options.runs)
        else:
            finished = _finished(options.runs)
            path = render_comparison(finished, options.out or _place(options.runs), options.format)
            say_missing(finished)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(path)
    return 0


def _formats(text: str) -> tuple[str, ...]:
    asked = tuple(name.strip() for name in text.split(","))
    for name in asked:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(FORMATS)}")
    return asked


def say_missing(folders: Sequence[Path]) -> None:
    """On stderr, what the run folders should hold and do not."""
    lacking = Counter(what for folder in folders for what in missing(load_run(folder)))
    for what, n in lacking.items():
        print(f"missing: {what}{f' ({n} of {len(folders)} runs)' if len(folders) > 1 else ''}", file=sys.stderr)


def _place(folders: Sequence[Path]) -> Path:
    """The folder of a single run; of several one beside their experiment's."""
    experiment = folders[0].resolve().parent
    return folders[0] if len(folders) == 1 else experiment.with_name(f"{experiment.name}-comparison")


def _finished(folders: Sequence[Path]) -> list[Path]:
    """The folders that hold a finished run; what is wrong with the others goes to stderr."""
    reasons = {folder: unfinished(folder) for folder in folders}
    for reason in filter(None, reasons.values()):
        print(f"skipped: {reason}", file=sys.stderr)
    finished = [folder for folder in folders if not reasons[folder]]
    if not finished:
        raise RunFolderError(f"none of these {len(reasons)} folders holds a finished run")
    return finished


if __name__ == "__main__":
    sys.exit(main())
