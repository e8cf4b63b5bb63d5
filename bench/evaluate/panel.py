"""Several judges of the same pairs: how far they agree, and their majority as a judge of its own."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from bench.evaluate.agreement import NO_ESTIMATE, PARSED, kappa_of_tables, points_of_agreement
from bench.evaluate.judges.config import PANEL
from bench.evaluate.statistics import RESAMPLES, estimate, proportion_interval
from bench.evaluate.win_rate import resolve
from bench.records import Verdict, VerdictLabel


def majority(members: Mapping[str, Sequence[Verdict]]) -> list[Verdict]:
    """The verdicts of the judge `panel` on one pair of arms, in every order that the first member was shown.

    A member's vote on a prompt is its verdict over the orders that it was shown (disagreement is a tie), so that a
    panel has no order of its own: where both are shown, it says the same in both.

    Args:
        members: judge -> its verdicts on the two arms, of the same prompts.
    """
    votes = {judge: resolve(verdicts) for judge, verdicts in members.items()}
    first = next(iter(members.values()))
    labels = {
        prompt_id: majority_of([vote[prompt_id] for vote in votes.values()])
        for prompt_id in dict.fromkeys(verdict.prompt_id for verdict in first)
    }
    return [
        Verdict(
            prompt_id=shown.prompt_id,
            arm_a=shown.arm_a,
            arm_b=shown.arm_b,
            order=shown.order,
            verdict=labels[shown.prompt_id],  # pyright: ignore[reportArgumentType]
            judge=PANEL,
            prompt_hash="",
        )
        for shown in first
    ]


def majority_of(votes: Sequence[VerdictLabel]) -> VerdictLabel:
    """The side that more than half of the parsed votes name, a tie where none is; "unparsed" without a parsed one."""
    parsed = [vote for vote in votes if vote != "unparsed"]
    if not parsed:
        return "unparsed"
    vote, times = Counter(parsed).most_common(1)[0]
    return vote if 2 * times > len(parsed) else "tie"  # pyright: ignore[reportReturnType]


def agreement_of_judges(
    judged: Sequence[Mapping[str, Sequence[Verdict]]],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """How far each two judges agree on a run's prompts, one entry per pair of judges.

    Args:
        judged: per pair of arms, judge -> its verdicts; every judge has all prompts.
        posts: prompt_id -> its post, where several may be of one: whole posts are then resampled.

    Returns:
        "judges": the two; "agreement": estimate of how often they say the same of a pair of summaries, a tie against a
        decision counting half; "kappa": estimate of Cohen's kappa over a, b and tie; "verdicts": pairs of summaries
        that both were read on. A judge's verdict is the one over the orders shown. A prompt is one value, its pairs of
        summaries weighing the same, and the intervals are over prompts (n).
    """
    resolved = [{judge: resolve(verdicts) for judge, verdicts in by_judge.items()} for by_judge in judged]
    judges = list(dict.fromkeys(judge for by_judge in judged for judge in by_judge))
    return [_agreement(one, other, resolved, seed, resamples, posts) for one, other in combinations(judges, 2)]


def _agreement(
    one: str,
    other: str,
    resolved: Sequence[Mapping[str, Mapping[str, VerdictLabel]]],
    seed: int,
    resamples: int,
    posts: Mapping[str, str] | None,
) -> dict[str, Any]:
    by_prompt: dict[str, list[tuple[VerdictLabel, VerdictLabel]]] = defaultdict(list)
    for labels in resolved:
        for prompt_id, label in labels[one].items():
            both = (label, labels[other][prompt_id])
            if "unparsed" not in both:
                by_prompt[prompt_id].append(both)
    shares = [float(np.mean([points_of_agreement(*both) for both in pairs])) for pairs in by_prompt.values()]
    draws = seed, resamples, None if posts is None else [posts[prompt_id] for prompt_id in by_prompt]
    return {
        "judges": [one, other],
        "agreement": estimate(proportion_interval(shares, *draws)) if shares else dict(NO_ESTIMATE),
        "kappa": kappa_of_tables([_table(pairs) for pairs in by_prompt.values()], *draws),
        "verdicts": sum(map(len, by_prompt.values())),
    }


def _table(pairs: Sequence[tuple[VerdictLabel, VerdictLabel]]) -> np.ndarray:
    """Shares (3, 3) of what the two say of one prompt's pairs of summaries."""
    table = np.zeros((len(PARSED), len(PARSED)))
    for one, other in pairs:
        table[PARSED.index(one), PARSED.index(other)] += 1 / len(pairs)
    return table
