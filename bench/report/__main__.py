"""`python -m bench.report RUN [RUN ...]`: the report of one finished run, or the comparison of several."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.report import render_comparison, render_run

_DESCRIPTION = """\
Write the report of a finished run again from its artifacts, or compare several finished runs. Nothing is
trained, sampled or measured, and no model is needed. The last line printed is the path of the report."""

_EPILOG = """\
examples:
  python -m bench.report results/builtin/s0-1a2b3c4d5e
      figures/, report.md and report.html in the run folder
  python -m bench.report results/sweep/*
      win rate and KL against beta, and the reward-KL points of both arms, in results/sweep-comparison/
      of runs that differ in their seed alone also each arm's mean, spread and collapsed seeds

Runs are compared only when they share data, SFT model, sampling, budget and judge; the error names what
differs. Exit code: 0 done; 2 a folder holds no finished run, or the runs may not be compared; 1 the report
cannot be written."""


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
    options = parser.parse_args(argv)
    try:
        if len(options.runs) == 1:
            path = render_run(options.runs[0], options.out)
        else:
            experiment = options.runs[0].resolve().parent
            path = render_comparison(options.runs, options.out or experiment.with_name(f"{experiment.name}-comparison"))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
