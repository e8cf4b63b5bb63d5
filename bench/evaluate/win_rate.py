"""Win rates: two arms shown to a judge, prompt by prompt, and what comes out with its interval."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bench.errors import DataError
from bench.evaluate.judges.base import Judge, JudgeItem
from bench.evaluate.statistics import RESAMPLES, estimate, proportion_interval, sign_test
from bench.records import EvalPrompt, Orders, Verdict, VerdictLabel

Order = Literal["ab", "ba"]
SWAPPED: dict[VerdictLabel, VerdictLabel] = {"a": "b", "b": "a", "tie": "tie", "unparsed": "unparsed"}
POINTS: dict[VerdictLabel, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}


def compare(
    arm_a: str,
    arm_b: str,
    completions_a: Mapping[str, str],
    completions_b: Mapping[str, str],
    prompts: Sequence[EvalPrompt],
    judge: Judge,
    seed: int,
    orders: Orders = "both",
) -> list[Verdict]:
    """One verdict per prompt and order; "a" means that `arm_a`'s summary is better whichever was shown first.

    Args:
        completions_a: prompt_id -> completion of `arm_a`; every prompt needs one.
        orders: "both", or "one" drawn per prompt from a stable hash of (seed, prompt_id).

    Raises:
        DataError: an arm lacks prompts, or a prompt is there twice.
    """
    _check_prompts(prompts, {arm_a: completions_a, arm_b: completions_b})
    shown = questions(completions_a, completions_b, prompts, seed, orders)
    labels = judge.judge([item for _, item in shown])
    return [
        Verdict(
            prompt_id=item.prompt_id,
            arm_a=arm_a,
            arm_b=arm_b,
            order=order,
            verdict=label if order == "ab" else SWAPPED[label],
            judge=judge.name,
            prompt_hash=judge.prompt_hash,
        )
        for (order, item), label in zip(shown, labels, strict=True)
    ]


def questions(
    completions_a: Mapping[str, str],
    completions_b: Mapping[str, str],
    prompts: Sequence[EvalPrompt],
    seed: int,
    orders: Orders = "both",
) -> list[tuple[Order, JudgeItem]]:
    """What `compare` asks: every prompt's two summaries in each order that is shown, "ab" shows a's first."""
    shown: list[tuple[Order, JudgeItem]] = []
    for prompt in prompts:
        a, b = completions_a[prompt.id], completions_b[prompt.id]
        items: dict[Order, JudgeItem] = {
            "ab": JudgeItem(prompt.id, prompt.prompt, first=a, second=b),
            "ba": JudgeItem(prompt.id, prompt.prompt, first=b, second=a),
        }
        drawn: Sequence[Order] = ("ab", "ba") if orders == "both" else (drawn_order(seed, prompt.id),)
        for order in drawn:
            shown.append((order, items[order]))
    return shown


def drawn_order(seed: int, prompt_id: str) -> Order:
    """A coin thrown by (seed, prompt_id): the same in every process, run and pair of arms."""
    digest = hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest()
    return "ab" if digest[0] % 2 == 0 else "ba"


def resolve(verdicts: Sequence[Verdict]) -> dict[str, VerdictLabel]:
    """prompt_id -> the label over the orders shown: disagreement is a tie, any unparsed is unparsed.

    Raises:
        DataError: the verdicts are of several comparisons, or hold one order of a prompt twice.
    """
    resolved: dict[str, VerdictLabel] = {}
    for prompt_id, labels in _labels_by_prompt(verdicts).items():
        if "unparsed" in labels:
            resolved[prompt_id] = "unparsed"
        else:
            resolved[prompt_id] = labels[0] if len(set(labels)) == 1 else "tie"
    return resolved


def points_by_prompt(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """prompt_id -> 1, 0.5 or 0 where `arm_a` won, tied or lost; unparsed prompts are left out."""
    return {prompt_id: POINTS[label] for prompt_id, label in resolve(verdicts).items() if label != "unparsed"}


def flips(verdicts: Sequence[Verdict]) -> dict[str, bool]:
    """prompt_id -> whether the two orders disagree, for the prompts that were shown and parsed in both."""
    return {
        prompt_id: labels[0] != labels[1]
        for prompt_id, labels in _labels_by_prompt(verdicts).items()
        if len(labels) == 2 and "unparsed" not in labels
    }


def flip_rate(flipped: Sequence[tuple[str, bool]], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """ "flip_rate": the share of these (prompt_id, whether the orders disagree), and "flip_rate_ci95" over prompts.

    Both are None where there are none.
    """
    if not flipped:
        return {"flip_rate": None, "flip_rate_ci95": None}
    share = estimate(
        proportion_interval([float(f) for _, f in flipped], seed, resamples, [prompt_id for prompt_id, _ in flipped])
    )
    return {"flip_rate": share["value"], "flip_rate_ci95": share["ci95"]}


def win_rate(verdicts: Sequence[Verdict], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Judged estimate: the share of prompts on which `arm_a` beats `arm_b`, a tie counting half.

    Returns:
        "value", "ci95" and "n" over the prompts with a parsed verdict (value and ci95 None where there is
        none), "ties", "unparsed" (counts of prompts), and `flip_rate`'s: the share of prompts shown and
        parsed in both orders on which the two disagree.
    """
    labels = list(resolve(verdicts).values())
    points = list(points_by_prompt(verdicts).values())
    share = estimate(proportion_interval(points, seed, resamples)) if points else {"value": None, "ci95": None, "n": 0}
    return share | {
        "ties": labels.count("tie"),
        "unparsed": labels.count("unparsed"),
        **flip_rate(list(flips(verdicts).items()), seed, resamples),
    }


def head_to_head(
    verdicts_by_judge: Mapping[str, Sequence[Verdict]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """`{"win_rate": {judge: judged estimate}, "p_value": {judge: sign test over the untied prompts}}`."""
    p_values = {}
    for judge, verdicts in verdicts_by_judge.items():
        labels = list(resolve(verdicts).values())
        p_values[judge] = sign_test(labels.count("a"), labels.count("b"))
    return {
        "win_rate": {judge: win_rate(verdicts, seed, resamples) for judge, verdicts in verdicts_by_judge.items()},
        "p_value": p_values,
    }


def _labels_by_prompt(verdicts: Sequence[Verdict]) -> dict[str, list[VerdictLabel]]:
    comparisons = {(verdict.judge, verdict.arm_a, verdict.arm_b) for verdict in verdicts}
    if len(comparisons) > 1:
        raise DataError(f"verdicts of {len(comparisons)} comparisons in one list: {sorted(comparisons)}")
    by_prompt: dict[str, dict[Order, VerdictLabel]] = defaultdict(dict)
    for verdict in verdicts:
        if verdict.order in by_prompt[verdict.prompt_id]:
            raise DataError(f"prompt {verdict.prompt_id!r} was judged twice in order {verdict.order!r}")
        by_prompt[verdict.prompt_id][verdict.order] = verdict.verdict
    return {prompt_id: list(by_order.values()) for prompt_id, by_order in by_prompt.items()}


def _check_prompts(prompts: Sequence[EvalPrompt], completions: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse to compare on fewer prompts than asked for: that would favour the arm that failed on some."""
    ids = [prompt.id for prompt in prompts]
    repeated = [prompt_id for prompt_id, times in Counter(ids).items() if times > 1]
    if repeated:
        raise DataError(f"{len(repeated)} prompt ids are there more than once, the first is {repeated[0]!r}")
    for arm, by_prompt in completions.items():
        missing = [prompt_id for prompt_id in ids if prompt_id not in by_prompt]
        if missing:
            examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise DataError(
                f"arm {arm!r} has no completion for {len(missing)} of {len(ids)} prompts ({examples}); "
                "generate them before comparing"
            )
