"""Labelled pairs and verdicts in, the numbers of audit.json out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from bench.audit.pairs import Annotation, Confidence, LabelledPair
from bench.errors import DataError
from bench.evaluate import agreement
from bench.evaluate.agreement import LENGTH_BINS, Shown, length_bin
from bench.evaluate.judge_error import Labelled, error_rates, labelled
from bench.evaluate.judges.rules import length
from bench.evaluate.win_rate import flip_rate, flips, resolve
from bench.provenance import stable_hash
from bench.records import Verdict, VerdictLabel

MOST_CONFIDENCES = 10
"""Distinct confidences that get a line each; more of them are put into quarters."""

Bins = dict[str, list[LabelledPair]]


class Audit:
    """The pairs of one audit, and how their intervals are drawn: over posts, of which several pairs may be."""

    def __init__(self, pairs: Sequence[LabelledPair], seed: int, resamples: int) -> None:
        self.pairs, self.seed, self.resamples = pairs, seed, resamples
        self.posts = {pair.id: post_of(pair) for pair in pairs}
        self.bins = {"by_length_difference": _by_length(pairs), "by_confidence": _by_confidence(pairs)}
        self.several = [pair for pair in pairs if len(pair.annotations) > 1]

    def labels(self) -> dict[str, Any]:
        """What the labels are worth: how many, how far they lean, how far annotators agree."""
        pairs = self.pairs
        numbers: dict[str, Any] = {
            "pairs": len(pairs),
            "labels": sum(len(pair.labels) for pair in pairs),
            "ties": sum(pair.labels.count("tie") for pair in pairs),
            "position_bias": agreement.position_bias(
                [[annotation.shown for annotation in pair.annotations] for pair in pairs], *self._draws(pairs)
            ),
            "length_bias": self._length_bias(pairs, [pair.labels for pair in pairs]),
            "human_agreement": None,
        }
        if self.several:
            labels = [pair.labels for pair in self.several]
            numbers["human_agreement"] = {
                "pairwise": agreement.pairwise_agreement(labels, *self._draws(self.several)),
                "krippendorff_alpha": agreement.krippendorff_alpha(labels, *self._draws(self.several)),
            }
        numbers["annotators"] = [self._annotator(name, theirs) for name, theirs in _by_annotator(pairs).items()]
        return numbers | self._binned(
            lambda pairs: {"length_bias": self._length_bias(pairs, [pair.labels for pair in pairs])}
        )

    def judge(self, verdicts: Sequence[Verdict]) -> dict[str, Any]:
        """How far a judge agrees with the labels, and how far it leans itself.

        `n` counts the pairs; a pair shown in both orders has one verdict, a tie where the two disagree, for the
        agreement, and two for the biases.
        """
        resolved = resolve(verdicts)
        raw: dict[str, list[Shown]] = {pair.id: [] for pair in self.pairs}
        for verdict in verdicts:
            raw[verdict.prompt_id].append(Shown(verdict.verdict, verdict.order))

        def agreed(pairs: Sequence[LabelledPair]) -> dict[str, Any]:
            said: list[VerdictLabel] = [resolved[pair.id] for pair in pairs]
            labels = [pair.labels for pair in pairs]
            return {
                "accuracy": agreement.accuracy(said, labels, *self._draws(pairs)),
                "kappa": agreement.kappa(said, labels, *self._draws(pairs)),
            }

        def leaning(pairs: Sequence[LabelledPair]) -> dict[str, Any]:
            return {"length_bias": self._length_bias(pairs, [[v.verdict for v in raw[pair.id]] for pair in pairs])}

        said = list(resolved.values())
        flipped = [(self.posts[pair_id], flip) for pair_id, flip in flips(verdicts).items()]
        numbers = {
            "n": len(resolved),
            "ties": said.count("tie"),
            "unparsed": said.count("unparsed"),
            **flip_rate(flipped, self.seed, self.resamples),
            **agreed(self.pairs),
            "position_bias": agreement.position_bias(list(raw.values()), *self._draws(self.pairs)),
            **leaning(self.pairs),
            "human_agreement": agreed(self.several) if self.several else None,
            "annotators": [
                {"annotator": name, "pairs": len(theirs), **agreed([own for own, _ in theirs])}
                for name, theirs in _by_annotator(self.pairs).items()
            ],
        }
        numbers |= error_rates(labelled_pairs(self.pairs, resolved))
        return numbers | self._binned(lambda pairs: {**agreed(pairs), **leaning(pairs)})

    def _annotator(self, name: str, theirs: Sequence[tuple[LabelledPair, LabelledPair]]) -> dict[str, Any]:
        """One annotator's labels, alone and beside the others' labels of the same pairs."""
        own = [one for one, _ in theirs]
        shared = [(one, others) for one, others in theirs if others.annotations]
        return {
            "annotator": name,
            "pairs": len(own),
            "ties": sum(one.labels.count("tie") for one in own),
            "agreement": agreement.accuracy(
                [one.labels[0] for one, _ in shared],
                [others.labels for _, others in shared],
                *self._draws([one for one, _ in shared]),
            ),
            "position_bias": agreement.position_bias(
                [[annotation.shown for annotation in one.annotations] for one in own], *self._draws(own)
            ),
            "length_bias": self._length_bias(own, [one.labels for one in own]),
        }

    def _binned(self, measure: Callable[[list[LabelledPair]], dict[str, Any]]) -> dict[str, Any]:
        return {
            name: [{"bin": label, "pairs": len(pairs), **measure(pairs)} for label, pairs in bins.items()]
            for name, bins in self.bins.items()
        }

    def _length_bias(self, pairs: Sequence[LabelledPair], verdicts: Sequence[Sequence[VerdictLabel]]) -> dict[str, Any]:
        lengths = [(length(pair.a), length(pair.b)) for pair in pairs]
        return agreement.length_bias(verdicts, lengths, *self._draws(pairs))

    def _draws(self, pairs: Sequence[LabelledPair]) -> tuple[int, int, list[str]]:
        """How the intervals of these pairs are drawn: seed, resamples, and the post of each."""
        return self.seed, self.resamples, [self.posts[pair.id] for pair in pairs]


def labelled_pairs(pairs: Sequence[LabelledPair], verdicts: Mapping[str, VerdictLabel]) -> list[Labelled]:
    """Every label of the pairs beside a judge's verdict; `verdicts` is pair id -> verdict."""
    rows = [pair_row(pair) for pair in pairs]
    return labelled(
        [row["post"] for row in rows],
        [verdicts[pair.id] for pair in pairs],
        [pair.labels for pair in pairs],
        [(row["length_a"], row["length_b"]) for row in rows],
    )


def pair_row(pair: LabelledPair) -> dict[str, Any]:
    """A line of pairs.jsonl: what a judge's errors are counted by, without the texts."""
    return {
        "pair_id": pair.id,
        "post": post_of(pair),
        "length_a": length(pair.a),
        "length_b": length(pair.b),
        "labels": pair.labels,
    }


def post_of(pair: LabelledPair) -> str:
    """The name of the pair's post; where the file has no posts each pair counts as one of its own."""
    return pair.id if pair.prompt is None else stable_hash(pair.prompt)[:12]


def _by_annotator(pairs: Iterable[LabelledPair]) -> dict[str, list[tuple[LabelledPair, LabelledPair]]]:
    """Annotator -> their pairs, each with their annotation alone and with all others; who labelled most comes first.

    Annotations without a name are in no row.
    """
    found: dict[str, list[tuple[LabelledPair, LabelledPair]]] = {}
    for pair in pairs:
        for i, annotation in enumerate(pair.annotations):
            if annotation.annotator is not None:
                others = pair.annotations[:i] + pair.annotations[i + 1 :]
                both = replace(pair, annotations=(annotation,)), replace(pair, annotations=others)
                found.setdefault(annotation.annotator, []).append(both)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _by_length(pairs: Iterable[LabelledPair]) -> Bins:
    bins: Bins = {name: [] for name in LENGTH_BINS}
    for pair in pairs:
        bins[length_bin(length(pair.a), length(pair.b))].append(pair)
    return {name: found for name, found in bins.items() if found}


def _by_confidence(pairs: Sequence[LabelledPair]) -> Bins:
    """Per confidence the pairs with the labels given at it; empty where no confidence was recorded.

    Raises:
        DataError: more than ten different words, which cannot be put in order.
    """
    given = [a.confidence for pair in pairs for a in pair.annotations if a.confidence is not None]
    names = _confidence_names(given)
    bins: Bins = {name: [] for name in names.values()}
    for pair in pairs:
        by_name: dict[str, list[Annotation]] = {}
        for annotation in pair.annotations:
            if annotation.confidence is not None:
                by_name.setdefault(names[annotation.confidence], []).append(annotation)
        for name, annotations in by_name.items():
            bins[name].append(replace(pair, annotations=tuple(annotations)))
    return bins


def _confidence_names(given: Sequence[Confidence]) -> dict[Confidence, str]:
    """Confidence -> its bin, from the least to the most sure."""
    values = sorted(set(given), key=lambda value: (isinstance(value, str), value))
    if len(values) <= MOST_CONFIDENCES:
        return {value: value if isinstance(value, str) else f"{value:g}" for value in values}
    if any(isinstance(value, str) for value in values):
        raise DataError(
            f"confidence has {len(values)} different values that are not all numbers; set columns.confidence to a"
            " column of numbers or of few words"
        )
    quarters = np.quantile(np.array(given, dtype=np.float64), (0.25, 0.5, 0.75))
    names = [f"up to {quarters[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(quarters)), f"above {quarters[2]:g}"]
    return {value: names[int(np.searchsorted(quarters, float(value)))] for value in values}
