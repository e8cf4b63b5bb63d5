"""Splits by post: stable assignment, leak check, subsampling, and the hash of everything that a run saw."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from bench.data.prompts import split_prompt, text_parts
from bench.errors import DataError
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair
from bench.validation import require

Record = Demonstration | PreferencePair | EvalPrompt
R = TypeVar("R", Demonstration, PreferencePair, EvalPrompt)

HELD_OUT_FIRST = ("test", "validation", "judge", "train")
"""Who keeps a post that two splits claim."""
_CUT_WORDS = 20


def post_key(prompt: str) -> str:
    """sha256 of the post (the whole prompt where it has none), lower-cased, runs of white space collapsed."""
    return hashlib.sha256(_plain(split_prompt(prompt).post or prompt).encode()).hexdigest()


def shared_posts(prompts: Mapping[str, str], others: Iterable[str]) -> list[str]:
    """The names of the prompts whose post one of the others has too, as it is or cut short (either of the two).

    What is cut has at least `_CUT_WORDS` words: two posts may well begin with the same few.
    """

    def plain(prompt: str) -> str:
        return _plain(text_parts(prompt).post or prompt)

    def beginning(text: str) -> tuple[str, ...]:
        return tuple(text.split(" ", _CUT_WORDS)[:_CUT_WORDS])

    by_beginning: dict[tuple[str, ...], set[str]] = {}
    for text in map(plain, others):
        by_beginning.setdefault(beginning(text), set()).add(text)
    shared = []
    for name, prompt in prompts.items():
        text = plain(prompt)
        start = beginning(text)
        alike = by_beginning.get(start, set())
        if text in alike or (len(start) == _CUT_WORDS and any(_is_cut(text, other) for other in alike)):
            shared.append(name)
    return shared


def _is_cut(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def stable_fraction(key: str, seed: int) -> float:
    """A number in [0, 1), uniform over keys, that depends on nothing but key and seed."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits: all that a float can hold below 1


def assign_split(prompt: str, validation_fraction: float, test_fraction: float, seed: int) -> str:
    """ "test", "validation" or "train", the same for every row about this post."""
    fraction = stable_fraction(post_key(prompt), seed)
    if fraction < test_fraction:
        return "test"
    return "validation" if fraction < test_fraction + validation_fraction else "train"


def carve_judge(data: ComparisonData, fraction: float, seed: int) -> ComparisonData:
    """The data with about `fraction` of the training posts' pairs moved to the "judge" split.

    Demonstrations of these posts leave "train" and are counted as dropped, so that no arm sees the posts.
    """

    def is_judge(prompt: str) -> bool:
        return stable_fraction(f"judge/{post_key(prompt)}", seed) < fraction

    pairs = data.preferences["train"]
    judge = [pair for pair in pairs if is_judge(pair.prompt)]
    train = [pair for pair in pairs if not is_judge(pair.prompt)]
    judge_posts = {post_key(pair.prompt) for pair in judge}
    demonstrations = [d for d in data.demonstrations["train"] if post_key(d.prompt) not in judge_posts]
    n_dropped = len(data.demonstrations["train"]) - len(demonstrations)
    return replace(
        data,
        preferences={**data.preferences, "train": train, "judge": judge},
        demonstrations={**data.demonstrations, "train": demonstrations},
        dropped=add_counts(data.dropped, {"demonstrations of the judge's posts": n_dropped}),
    )


def check_no_leak(data: ComparisonData) -> None:
    """Refuse a post that is in two of train, judge, validation and test.

    Demonstrations and pairs of the same split may share posts.

    Raises:
        DataError: names both splits and both ids.
    """
    owners: dict[str, tuple[str, str]] = {}
    for split, name, record in _records_by_split(data):
        owner = owners.setdefault(post_key(record.prompt), (split, name))
        if owner[0] != split:
            raise DataError(
                f"the same post is in two splits: {owner[0]} ({owner[1]}) and {split} ({name});"
                " remove it from one of them"
            )


def drop_leaks(data: ComparisonData) -> ComparisonData:
    """The data without the rows whose post is also in a split that comes before theirs in HELD_OUT_FIRST."""
    owners: dict[str, str] = {}
    for wanted in HELD_OUT_FIRST:
        for split, _, record in _records_by_split(data):
            if split == wanted:
                owners.setdefault(post_key(record.prompt), split)
    dropped: Counter[str] = Counter()

    def keep(split: str, rows: Sequence[R]) -> list[R]:
        kept = []
        for row in rows:
            owner = owners[post_key(row.prompt)]
            if owner == split:
                kept.append(row)
            else:
                dropped[f"{split} rows whose post is in {owner}"] += 1
        return kept

    return replace(
        data,
        demonstrations={split: keep(split, rows) for split, rows in data.demonstrations.items()},
        preferences={split: keep(split, rows) for split, rows in data.preferences.items()},
        eval_prompts=keep("test", data.eval_prompts),
        dropped=add_counts(data.dropped, dropped),
    )


def one_per_post(
    prompts: Iterable[EvalPrompt], two: str = "two test posts", id_key: str = "data.columns.id"
) -> list[EvalPrompt]:
    """The first prompt of each post.

    Args:
        two: what they are; `id_key`: the setting that names their ids' column.

    Raises:
        DataError: two posts have the same id, so that verdicts could not be told apart.
    """
    by_post: dict[str, EvalPrompt] = {}
    for prompt in prompts:
        by_post.setdefault(post_key(prompt.prompt), prompt)
    seen: set[str] = set()
    for prompt in by_post.values():
        if prompt.id in seen:
            raise DataError(f"{two} have the id {prompt.id!r}; make ids unique, or set {id_key}=null")
        seen.add(prompt.id)
    return list(by_post.values())


@dataclass(frozen=True)
class SplitLimits:
    """The most rows to keep of each split, None for all; `validation_pairs` holds for demonstrations too."""

    demonstrations: int | None = None
    pairs: int | None = None
    judge_pairs: int | None = None
    validation_pairs: int | None = None
    eval_prompts: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            require(value is None or value >= 0, f"budget.{name}", value, "must be at least 0")


def subsample(data: ComparisonData, limits: SplitLimits, seed: int) -> ComparisonData:
    """At most the given number of rows of each split, in their order; smaller samples lie in larger ones.

    `seed` is the splits' (`bench.data.split_seed`), so that runs of several seeds keep the same rows.
    """

    def sample(rows: Sequence[R], limit: int | None) -> list[R]:
        ranks = sorted(range(len(rows)), key=lambda i: (stable_fraction(rows[i].id, seed), i))
        return [rows[i] for i in sorted(ranks[:limit])]

    pair_limits = {"train": limits.pairs, "judge": limits.judge_pairs, "validation": limits.validation_pairs}
    demonstration_limits = {"train": limits.demonstrations, "validation": limits.validation_pairs}
    return replace(
        data,
        demonstrations={
            split: sample(rows, demonstration_limits[split]) for split, rows in data.demonstrations.items()
        },
        preferences={split: sample(rows, pair_limits[split]) for split, rows in data.preferences.items()},
        eval_prompts=sample(data.eval_prompts, limits.eval_prompts),
    )


def split_hash(data: ComparisonData) -> str:
    """sha256 over the ids and texts of every split, in order: equal means that two runs saw the same data."""
    digest = hashlib.sha256()
    for split, name, record in _records_by_split(data):
        row = json.dumps([split, name.split(" ", 1)[0], asdict(record)], sort_keys=True)
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()


def add_counts(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Both counts together, reasons that never happened left out."""
    return {reason: n for reason, n in sorted((Counter(counts) + Counter(more)).items()) if n}


def _records_by_split(data: ComparisonData) -> Iterator[tuple[str, str, Record]]:
    """(split, "demonstration 'id'", record) for every row; the order of mapping keys does not matter."""
    for split in sorted(data.demonstrations):
        for demonstration in data.demonstrations[split]:
            yield split, f"demonstration {demonstration.id!r}", demonstration
    for split in sorted(data.preferences):
        for pair in data.preferences[split]:
            yield split, f"pair {pair.id!r}", pair
    for prompt in data.eval_prompts:
        yield "test", f"prompt {prompt.id!r}", prompt
