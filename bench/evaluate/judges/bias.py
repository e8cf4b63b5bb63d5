"""What a judge prefers beside the better summary: the one shown first, and the longer one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.evaluate.agreement import Shown, position_bias
from bench.evaluate.statistics import RESAMPLES, estimate, proportion_interval
from bench.records import Verdict


def judge_report(
    verdicts: Sequence[Verdict],
    lengths: Mapping[str, Mapping[str, float]],
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """A judge's habits over all its verdicts of a run, of any arms.

    Only verdicts for one side count (no ties, no unparsed). A prompt is one value, the mean over its verdicts, so
    the intervals are over prompts however many arms met on each.

    Args:
        lengths: arm -> prompt_id -> length of its summary, in the unit of choice.

    Returns:
        "position_bias": estimate of the share that went to the summary shown first; 0.5 is none. With both orders
        shown it is the judge's own; with one, drawn at random, it is so up to chance.
        "length_bias": estimate of the share that went to the longer summary, summaries of equal length left out.
        Where the longer one is the better one, an unbiased judge is above 0.5 too.
        "decided", "ties", "unparsed": counts of verdicts.
    """
    shown: dict[str, list[Shown]] = defaultdict(list)
    longer: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        shown[verdict.prompt_id].append(Shown(verdict.verdict, verdict.order))
        if verdict.verdict not in ("a", "b"):
            continue
        a_won = verdict.verdict == "a"
        a, b = (lengths[arm][verdict.prompt_id] for arm in (verdict.arm_a, verdict.arm_b))
        if a != b:
            longer[verdict.prompt_id].append(float(a_won == (a > b)))
    labels = [verdict.verdict for verdict in verdicts]
    return {
        "position_bias": position_bias(list(shown.values()), seed, resamples),
        "length_bias": _share(longer, seed, resamples),
        "decided": labels.count("a") + labels.count("b"),
        "ties": labels.count("tie"),
        "unparsed": labels.count("unparsed"),
    }


def _share(by_prompt: Mapping[str, Sequence[float]], seed: int, resamples: int) -> dict[str, Any]:
    means = [sum(values) / len(values) for values in by_prompt.values()]
    return estimate(proportion_interval(means, seed, resamples)) if means else {"value": None, "ci95": None, "n": 0}
