"""What judges have answered, by judge and prompt, and how to forget what says nothing."""

from collections import Counter, defaultdict
from pathlib import Path

from bench.cli.table import aligned
from bench.errors import ResourceError

_OUTCOMES = ("cut_off", "refused", "filtered", "unfinished", "unknown")


def answers(results_dir: Path, drop_unparsed: bool, judge: str | None) -> list[str]:
    """The lines to print: a row for every judge and prompt.

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
    lines = [str(path), *aligned(table, "ll" + "r" * (len(header) - 2))]
    if drop_unparsed:
        lines.append(f"dropped {cache.drop(unparsed):,} unparsed answers")
    return lines
