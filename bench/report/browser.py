"""The samples of a run as the page's browser reads them: texts, lengths, rewards and verdicts, as JSON."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench.arms import REFERENCE
from bench.report.by_prompt import said
from bench.report.load import Run
from bench.report.words import arm_name, count, is_number, judge_name, number, plain

MOST_BYTES = 18_000_000
"""Of the samples in a page; so that a report of 12 arms and 5,000 posts stays below 25 MB."""
MOST_CHARACTERS = 5_000
"""Of a text in a page: a sample that never ended makes no page of a million lines."""
_REWARDS = ("gold", "proxy")


class Samples(NamedTuple):
    """What the browser shows.

    Attributes:
        json: `writers` (names, the reference summary first), `arms` (places of arms in them), `judges` (names),
            `duels` (pairs of writers that were judged), `rewards` (names), and `samples`: id, post, a row per writer
            (text, tokens, rewards, KL, detectors that find it; null where it wrote nothing), and per judge two
            letters per duel, as shown in either order: a, b, t (tie), u (unparsed), . (not shown).
        shown: prompts in it, the first by the hashes of their ids.
        of: prompts in the run.
    """

    json: str
    shown: int
    of: int


def by_hash(prompts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """In the order of their ids' hashes: by nobody's taste."""
    return sorted(prompts, key=lambda row: hashlib.sha256(str(row["prompt_id"]).encode("utf-8", "replace")).digest())


def coldest(run: Run) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Arm -> prompt id -> its row of completions; where several temperatures were sampled, of the lowest."""
    rows = list(run.completion_rows)
    rows.sort(key=lambda row: -row["temperature"] if is_number(row.get("temperature")) else 0.0)
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["arm"], {})[row["prompt_id"]] = row
    return {arm: found[arm] for arm in run.arms if arm in found and arm != REFERENCE}


def cut(text: str) -> str:
    """The text as a page has it: of what is too long the beginning, and how long it is."""
    if len(text) <= MOST_CHARACTERS:
        return plain(text)
    return f"{plain(text[:MOST_CHARACTERS])} … [cut here: {count(len(text))} characters in all]"


def samples(run: Run, completions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Samples:
    """As many of the run's samples as fit into `MOST_BYTES`, by the hashes of their ids."""
    prompts = by_hash(run.prompts.to_dict("records"))
    ids = {row["prompt_id"]: place for place, row in enumerate(prompts)}
    has_references = any(row["reference"] for row in prompts)
    writers = [*([REFERENCE] if has_references else []), *completions]
    verdicts = said(run)
    places = {writer: place for place, writer in enumerate(writers)}
    known = sorted({duel for of in verdicts.values() for duel in of.duels if set(duel) <= set(writers)})
    rewards = [kind for kind in _REWARDS if any(kind in (row.get("reward") or {}) for row in _first_rows(completions))]
    head = {
        "writers": ["Reference summary" if of == REFERENCE else arm_name(of, short=True) for of in writers],
        "arms": [places[arm] for arm in completions],
        "judges": [judge_name(judge) for judge in verdicts],
        "duels": [[places[a], places[b]] for a, b in known],
        "rewards": rewards,
        "flagged": any("degenerate" in row for row in _first_rows(completions)),
    }
    letters = [of.letters(ids, known) for of in verdicts.values()]
    parts, size = [], 0
    for place, prompt in enumerate(prompts):
        texts = [
            [cut(prompt["reference"])]
            if writer == REFERENCE
            else _row(completions[writer].get(prompt["prompt_id"]), rewards)
            for writer in writers
        ]
        heard = [of_judge[place].tobytes().decode("ascii") for of_judge in letters]
        part = _json([plain(prompt["prompt_id"]), cut(prompt["prompt"]), texts, heard])
        size += len(part.encode())
        if size > MOST_BYTES:
            break
        parts.append(part)
    whole = f'{_json(head)[:-1]},"samples":[{",".join(parts)}]}}'
    return Samples(whole, len(parts), len(prompts))


def _first_rows(completions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Mapping[str, Any]]:
    """A row of each arm: all of an arm have the same fields."""
    return (next(iter(rows.values())) for rows in completions.values())


def _row(row: Mapping[str, Any] | None, rewards: Sequence[str]) -> list[Any] | None:
    if row is None:
        return None
    scores = [_rounded((row.get("reward") or {}).get(kind)) for kind in rewards]
    return [cut(row["completion"]), row.get("n_tokens"), scores, _rounded(row.get("kl")), row.get("degenerate") or []]


def _rounded(value: float | None) -> str | None:
    return None if value is None else number(value, 2)


def _json(value: Any) -> str:
    """JSON that no text can break out of where it stands in a page."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
