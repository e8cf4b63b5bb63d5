"""The command `python -m bench.cache`: what is kept below a results folder, whether it is whole, and what may go."""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cli.answers import answers
from bench.cli.table import aligned, how_much
from bench.errors import ResourceError, UserError
from bench.pipeline.checksums import CHECKSUMS, damage
from bench.pipeline.inventory import Entry, inventory, prunable, remove, size
from bench.pipeline.locks import is_locked
from bench.pipeline.stage_folder import lock_of, stages_dir
from bench.progress import how_long
from bench.terminal import spoken

_DESCRIPTION = """\
What is kept in <results_dir>/.cache, so that nothing is computed or bought twice: finished stages (models, completions,
log-probs), each in a folder named by the hash of all that went into it, and the answers of judges.

  list     every stage: size, when it was made and last used, which run folders name it
  verify   read every file and say what is damaged; a run makes a damaged stage again by itself
  prune    remove stages: those that no run folder names, that were not used for long, or until the rest is small enough
  answers  what judges have answered, and how to forget answers that say nothing

Run folders keep their numbers, completions and reports whatever is removed here: a removed stage is made again when a
run needs it, which takes as long as it took. What a running process uses or builds is never removed."""
_PRUNE = """\
Remove stages. Give at least one of --unnamed, --unused-for and --to; a stage goes if it meets all that is given, the
least recently used first. What was set aside as damaged goes too; what a process uses or builds stays. Nothing is
asked: look with --dry-run first.

  python -m bench.cache prune --unnamed --dry-run        what no run folder names
  python -m bench.cache prune --unused-for 30d           not used for a month, and what killed runs left so long ago
  python -m bench.cache prune --unnamed --to 20GiB       of what is not named, only as much as it takes"""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@spoken
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: that of `UserError`s, and 1 where something is damaged."""
    options = _parser().parse_args(arguments)
    results_dir = Path(options.results_dir).expanduser()
    try:
        match options.command:
            case "answers":
                print("\n".join(answers(results_dir, options.drop_unparsed, options.judge)))
            case "prune":
                print("\n".join(_prune(results_dir, options)))
            case "verify":
                return _verify(results_dir)
            case _:
                print("\n".join(_list(results_dir)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.cache", description=_DESCRIPTION, formatter_class=layout)
    commands = parser.add_subparsers(dest="command", metavar="{list,verify,prune,answers}", required=True)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("results_dir", nargs="?", default="results", help="the folder of the runs (results)")
    commands.add_parser("list", parents=[where], help="stages, their size, age and who names them")
    commands.add_parser(
        "verify",
        parents=[where],
        help="read every file; exit code 1 if one is damaged",
        description="Hash every file of every finished stage and compare it with the checksum written when the stage"
        " was finished. Exit code: 0 all is whole, 1 something is damaged.",
    )
    prune = commands.add_parser(
        "prune", parents=[where], help="remove stages", description=_PRUNE, formatter_class=layout
    )
    prune.add_argument("--unnamed", action="store_true", help="finished stages that no run folder names")
    prune.add_argument("--unused-for", type=_seconds, metavar="TIME", help="not used for so long: 12h, 30d, 8w")
    prune.add_argument(
        "--to", type=_bytes, metavar="SIZE", help="until the stages need no more than this: 500MB, 20GiB"
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would go and remove nothing")
    bought = commands.add_parser(
        "answers",
        parents=[where],
        help="what judges have answered",
        description="The answers of judges that are asked, by judge and prompt. unparsed: answers that name no summary,"
        " among them those that were cut off, refused, filtered, of unknown end (unfinished), or kept by an earlier"
        " version that did not write down how they ended (unknown; a run asks for these again by itself).",
    )
    bought.add_argument(
        "--drop-unparsed", action="store_true", help="forget the unparsed answers: a run that needs them asks again"
    )
    bought.add_argument("--judge", help="look at this judge's answers alone")
    return parser


def _list(results_dir: Path) -> Iterator[str]:
    entries, now = _entries(results_dir), time.time()
    table = [["stage", "key", "size", "made", "used", "", "named by"]]
    for entry in entries:
        state = entry.busy() or ("" if entry.kind == "finished" else entry.kind)
        first, *others = entry.named_by or ("-",)
        named = f"{first} +{len(others)}" if others else first
        ages = [f"{how_long(now - moment)} ago" for moment in (entry.made, entry.used)]
        table.append([entry.stage, entry.key, how_much(entry.bytes), *ages, state, named])
    yield str(stages_dir(results_dir))
    yield from aligned(table, "llrrrll")
    unnamed = [entry for entry in entries if entry.kind == "finished" and not entry.named_by]
    kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in ("finished", "unfinished", "damaged")}
    parts = [f"{_sum(group)} {kind}" for kind, group in kinds.items() if group]
    yield f"{', '.join(parts) or 'no stages'}; no run folder names {_sum(unnamed)}"
    others = [path for path in sorted((results_dir / ".cache").iterdir()) if path.is_dir() and path.name != "stages"]
    if others:
        yield f"beside them: {', '.join(f'{path.name} {how_much(size(path))}' for path in others)}"


def _verify(results_dir: Path) -> int:
    entries = [entry for entry in _entries(results_dir) if entry.kind == "finished"]
    damaged, skipped = 0, 0
    for entry in entries:
        if not (entry.folder / CHECKSUMS).exists() and _is_of_an_earlier_version(entry):
            print(f"{entry.folder.name}: made by a version without checksums; no run of this version takes it")
            skipped += 1
        elif is_locked(lock_of(entry.folder)):
            print(f"{entry.folder.name}: a run is at it; not read")
            skipped += 1
        elif problem := damage(entry.folder, thorough=True):
            print(f"{entry.folder.name}: damaged: {problem}")
            damaged += 1
    whole = len(entries) - damaged - skipped
    print(f"{_sum(entries)}: {whole} whole, {damaged} damaged, {skipped} not read")
    return 1 if damaged else 0


def _prune(results_dir: Path, options: argparse.Namespace) -> Iterator[str]:
    if not options.unnamed and options.unused_for is None and options.to is None:
        raise UserError(
            "say what may go: --unnamed, --unused-for TIME or --to SIZE (python -m bench.cache prune --help)"
        )
    entries = _entries(results_dir)
    since = None if options.unused_for is None else time.time() - options.unused_for
    going = prunable(entries, unnamed=options.unnamed, unused_since=since, to_bytes=options.to)
    gone: list[Entry] = []
    for entry in going:
        state = entry.busy() if options.dry_run else remove(entry)
        if state is not None:
            yield f"{entry.folder.name}: stays, {state}"
            continue
        gone.append(entry)
        yield f"{entry.folder.name}: {how_much(entry.bytes)}, used {how_long(time.time() - entry.used)} ago"
    left = sum(entry.bytes for entry in entries) - sum(entry.bytes for entry in gone)
    yield f"{'would remove' if options.dry_run else 'removed'} {_sum(gone)}; {how_much(left)} stay"


def _entries(results_dir: Path) -> list[Entry]:
    if not stages_dir(results_dir).is_dir():
        raise ResourceError(f"{stages_dir(results_dir)} is not there: no run has kept a stage below {results_dir}")
    return inventory(results_dir)


def _is_of_an_earlier_version(entry: Entry) -> bool:
    try:
        return '"made_from"' not in (entry.folder / "stage.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _sum(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} ({how_much(sum(entry.bytes for entry in entries))})"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write a number with s, m, h, d or w, such as 30d")
    return float(found[1]) * _UNITS[found[2]]


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write a number with a unit, such as 500MB or 20GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmgt".index(found[2] or " "))
