"""The rows that a run trains on, scores and samples, as their lengths alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from bench.encoding import encode
from bench.records import ComparisonData
from bench.train.settings.common import PLACES, RolledOutOn

_SAMPLE = 192  # rows of a split that are tokenised: their mean length is within two percent of that of all rows

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Rows:
    """`count` rows, of some of which the lengths are known: (n,) tokens of the prompt, and of each completion, EOS
    included."""

    count: int
    prompt: Ints
    completions: tuple[Ints, ...]

    @property
    def whole(self) -> Ints:
        """(n x completions,) tokens of each prompt with each of its completions."""
        return np.concatenate([self.prompt + side for side in self.completions])

    @property
    def completion_tokens(self) -> float:
        """Of all completions of all rows."""
        return self.count * float(sum(side.mean() for side in self.completions if len(side)))

    def first(self, most: int) -> "Rows":
        return replace(self, count=min(self.count, most))


@dataclass(frozen=True)
class RunRows:
    """All rows of a run, by what is done with them.

    Attributes:
        chosen: the training pairs' prompts with the better summary.
        posts: the distinct prompts among them, among the demonstrations, and among both: what PPO and RLOO sample on.
        held_out: the posts that a policy is watched on while it is trained (`samples_in_training`).
        labelled: the distinct prompts of the pairs of every split.
        written: (n,) tokens of the writers' summaries, EOS included: how long SFT teaches a summary to be.
    """

    demonstrations: Rows
    pairs: Rows
    chosen: Rows
    judge_pairs: Rows
    validation_pairs: Rows
    prompts: Rows
    posts: Mapping[RolledOutOn, Rows]
    held_out: Rows
    labelled: Rows
    written: Ints


def rows_of_run(data: ComparisonData, tokenizer: PreTrainedTokenizerBase) -> RunRows:
    """Lengths of the data, from a sample of each split that is spread over it."""

    def rows(records: Sequence[Any], *summaries: str) -> Rows:
        some = [records[i] for i in _spread(len(records))]
        tokens = [encode(tokenizer, r.prompt, *(getattr(r, summary) for summary in summaries)) for r in some]
        sides = tuple(np.array([len(row[i][1]) for row in tokens], dtype=np.int64) for i in range(len(summaries)))
        return Rows(len(records), np.array([len(row[0][0]) for row in tokens], dtype=np.int64), sides)

    def distinct(on: RolledOutOn) -> int:
        return len({row.prompt for place in PLACES[on] for row in data.rows(place)})

    demonstrations = rows(data.demonstrations["train"], "completion")
    pairs = rows(data.preferences["train"], "chosen", "rejected")
    chosen = replace(pairs, completions=pairs.completions[:1])
    return RunRows(
        demonstrations=demonstrations,
        pairs=pairs,
        chosen=chosen,
        judge_pairs=rows(data.preferences.get("judge", []), "chosen", "rejected"),
        validation_pairs=rows(data.preferences.get("validation", []), "chosen", "rejected"),
        prompts=rows(data.eval_prompts, "reference"),
        posts={
            "pairs": replace(chosen, count=distinct("pairs")),
            "demonstrations": replace(demonstrations, count=distinct("demonstrations")),
            "both": _mixed(chosen, demonstrations, distinct("both")),
        },
        held_out=rows(data.demonstrations.get("validation", []), "completion"),
        labelled=replace(chosen, count=len({pair.prompt for split in data.preferences.values() for pair in split})),
        written=demonstrations.completions[0],
    )


def of_further_cell(rows: RunRows) -> RunRows:
    """The rows of a further cell of the evaluation: no held-out pairs are scored there, and no samples of training."""
    return replace(rows, validation_pairs=rows.validation_pairs.first(0), held_out=rows.held_out.first(0))


def _mixed(first: Rows, second: Rows, count: int) -> Rows:
    """`count` prompts of both, each as often as it has rows."""
    total = max(1, first.count + second.count)
    parts = [np.resize(rows.prompt, round(2 * _SAMPLE * rows.count / total)) for rows in (first, second)]
    return Rows(count, np.concatenate(parts), ())


def _spread(count: int) -> list[int]:
    """At most `_SAMPLE` places among `count`, evenly apart."""
    if count <= _SAMPLE:
        return list(range(count))
    return [round(i * (count - 1) / (_SAMPLE - 1)) for i in range(_SAMPLE)]


def mean_of(values: np.ndarray) -> float:
    """0 of nothing."""
    return float(values.mean()) if len(values) else 0.0
