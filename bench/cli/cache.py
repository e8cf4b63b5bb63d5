"""The command `python -m bench.cache`: lists what judges have answered, and drops what says nothing."""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench.errors import ResourceError, UserError

_OUTCOMES = ("cut_off", "refused", "filtered", "unfinished", "unknown")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        print("\n".join(_verdicts(Path(options.results_dir), options.drop_unparsed, options.judge)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cache",
        description="What is kept in <results_dir>/.cache/verdicts: the answers of judges that are asked, by judge and"
        " prompt. unparsed: answers that name no summary, among them those that were cut off, refused, filtered, of"
        " unknown end (unfinished), or kept by an earlier version that did not write down how they ended (unknown; a"
        " run asks for these again by itself).",
    )
    parser.add_argument("results_dir", nargs="?", default="results", help="the folder of the runs (results)")
    parser.add_argument(
        "--drop-unparsed", action="store_true", help="forget the unparsed answers: a run that needs them asks again"
    )
    parser.add_argument("--judge", help="look at this judge's answers alone")
    return parser


def _verdicts(results_dir: Path, drop_unparsed: bool, judge: str | None) -> list[str]:
    """The lines to print.

    Raises:
        ResourceError: there is no cache, or it cannot be read or written.
    """
    # --help should not wait for what a judge is made of.
    from bench.evaluate.judges.answer import is_unparsed
    from bench.evaluate.judges.cache import KeptAnswer, VerdictCache, verdict_cache

    path = verdict_cache(results_dir / ".cache")
    if not path.is_file():
        raise ResourceError(f"{path} is not there: no judge that is asked has answered below {results_dir}")
    cache = VerdictCache(path)
    groups: dict[tuple[str, str], list[KeptAnswer]] = defaultdict(list)
    for row in cache.rows():
        if judge in (None, row.judge):
            groups[row.judge, row.prompt_hash].append(row)
    header = ["judge", "prompt", "answers", "unparsed", *(name.replace("_", " ") for name in _OUTCOMES), "tokens"]
    table = [header]
    unparsed: list[str] = []
    for (name, prompt_hash), rows in sorted(groups.items()):
        said_nothing = [row.key for row in rows if is_unparsed(row)]
        outcomes = Counter(row.outcome for row in rows)
        tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows)
        counts = [len(rows), len(said_nothing), *(outcomes[outcome] for outcome in _OUTCOMES), tokens]
        table.append([name, prompt_hash, *(f"{count:,}" for count in counts)])
        unparsed += said_nothing
    lines = [str(path), *_aligned(table)]
    if drop_unparsed:
        lines.append(f"dropped {cache.drop(unparsed):,} unparsed answers")
    return lines


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Names on the left, numbers on the right of their columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
