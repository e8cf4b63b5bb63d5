"""Verdicts of a whole run in, its comparisons out: each arm against the reference summaries, and every pair of arms.

Everything is per judge, and one family of tests is all pairs of arms under one judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from bench.arms import REFERENCE
from bench.evaluate.bradley_terry import bradley_terry
from bench.evaluate.decisions import NOT_DECIDED, Decision, decide
from bench.evaluate.judge_error import Labelled, corrected_win_rate
from bench.evaluate.judges.bias import judge_report
from bench.evaluate.length_control import Sized, length_controlled_win_rates, win_rate_by_length
from bench.evaluate.power import prompts_to_decide
from bench.evaluate.statistics import RESAMPLES, estimate, holm, mcnemar_test, paired_difference
from bench.evaluate.win_rate import flip_rate, flips, head_to_head, points_by_prompt, win_rate
from bench.records import Verdict

Duel = tuple[str, str]
"""(arm, opponent)."""
ByJudge = Mapping[str, Sequence[Verdict]]
Lengths = Mapping[str, Mapping[str, float]]
"""arm -> prompt_id -> length, in tokens where nothing else is said."""


def against_reference(
    duels: Mapping[Duel, ByJudge],
    lengths: Lengths,
    characters: Lengths,
    labels: Mapping[str, Sequence[Labelled]],
    seed: int,
    resamples: int,
) -> dict[str, dict[str, Any]]:
    """Arm -> its `win_rate`, `win_rate_corrected`, `win_rate_length_controlled` and `win_rate_by_length`, by judge.

    Args:
        duels: each arm's verdicts against the reference summaries. Length is controlled for all of them together.
        characters: as `lengths`, in characters, which labelled pairs are measured in.
        labels: judge -> its labelled pairs; a win rate is corrected for the judges that are here.
    """
    controlled = _length_controlled(duels, lengths, one_opponent=True)
    return {
        arm: {
            "win_rate": {judge: win_rate(verdicts, seed, resamples) for judge, verdicts in judged.items()},
            "win_rate_corrected": {
                judge: _corrected((arm, opponent), judged[judge], characters, labels[judge])
                for judge in judged
                if judge in labels
            },
            "win_rate_length_controlled": controlled[arm, opponent],
            "win_rate_by_length": {
                judge: _by_length((arm, opponent), verdicts, lengths, seed) for judge, verdicts in judged.items()
            },
        }
        for (arm, opponent), judged in duels.items()
    }


def head_to_heads(
    duels: Mapping[Duel, ByJudge],
    references: Mapping[str, ByJudge],
    lengths: Lengths,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Any]]:
    """ "<a>_vs_<b>" -> what a judge says of the two side by side, and of each against the reference summaries.

    Beside `head_to_head`'s win_rate and p_value, by judge: "p_holm" (p_value adjusted over all pairs),
    "first_is_better" (is the win rate above 0.5, by its interval and p_holm), "prompts_needed",
    "win_rate_length_controlled", and "mcnemar" (`paired_wins` with its own "p_holm") where both arms' verdicts against
    the reference summaries are there.

    Args:
        duels: verdicts of each pair of arms.
        references: arm -> its verdicts against the reference summaries, on the same prompts, where there are some.
    """
    controlled = _length_controlled(duels, lengths, one_opponent=False)
    result = {}
    for (a, b), judged in duels.items():
        entry = head_to_head(judged, seed, resamples)
        entry["win_rate_length_controlled"] = controlled[a, b]
        if a in references and b in references:
            entry["mcnemar"] = {
                judge: paired_wins(references[a][judge], references[b][judge], seed, resamples) for judge in judged
            }
        result[f"{a}_vs_{b}"] = entry
    for judge in _judges(duels):
        adjusted = holm({pair: entry["p_value"][judge] for pair, entry in result.items()})
        paired = {pair: entry["mcnemar"][judge] for pair, entry in result.items() if "mcnemar" in entry}
        for pair, p_holm in holm({pair: wins["p_value"] for pair, wins in paired.items()}).items():
            paired[pair]["p_holm"] = p_holm
        for pair, entry in result.items():
            rate = entry["win_rate"][judge]
            better = decide(rate, 0.5, adjusted[pair])
            entry.setdefault("p_holm", {})[judge] = adjusted[pair]
            entry.setdefault("first_is_better", {})[judge] = better
            entry.setdefault("prompts_needed", {})[judge] = _prompts_needed(rate, better)
    return result


def paired_wins(a: Sequence[Verdict], b: Sequence[Verdict], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Two arms' wins against the reference summaries on the prompts where both verdicts were parsed.

    Returns:
        "both", "only_a", "only_b", "neither": prompts on which both, one or none of the arms beats the reference
        summary (a tie is no win); "p_value": McNemar's exact test of the middle two; "difference": estimate of a's
        win rate minus b's, ties half (value and ci95 None where no prompt has both verdicts).
    """
    points_a, points_b = points_by_prompt(a), points_by_prompt(b)
    shared = [prompt_id for prompt_id in points_a if prompt_id in points_b]
    pairs = [(points_a[prompt_id], points_b[prompt_id]) for prompt_id in shared]
    wins = [(x == 1, y == 1) for x, y in pairs]
    only_a, only_b = wins.count((True, False)), wins.count((False, True))
    return {
        "both": wins.count((True, True)),
        "only_a": only_a,
        "only_b": only_b,
        "neither": wins.count((False, False)),
        "p_value": mcnemar_test(only_a, only_b),
        "difference": estimate(
            paired_difference([x for x, _ in pairs], [y for _, y in pairs], seed, resamples, bounds=(-1, 1))
        )
        if pairs
        else {"value": None, "ci95": None, "n": 0},
    }


def strengths(duels: Mapping[Duel, ByJudge], reference: str, seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """judge -> Bradley-Terry strengths of all arms, from every duel; judges with nothing parsed are left out."""
    result = {}
    for judge in _judges(duels):
        points = {duel: points_by_prompt(judged[judge]) for duel, judged in duels.items()}
        if any(points.values()):
            result[judge] = bradley_terry(points, reference, seed, resamples)
    return result


def zero_of(duels: Iterable[Duel]) -> str:
    """The arm that strengths are told from: the reference summaries where they are among those that met."""
    met = {arm for duel in duels for arm in duel}
    return REFERENCE if REFERENCE in met or not met else min(met)


def judge_habits(duels: Mapping[Duel, ByJudge], lengths: Lengths, seed: int, resamples: int) -> dict[str, Any]:
    """judge -> `judge_report` and `flip_rate` over all duels; the duels of one prompt depend on one another."""
    result = {}
    for judge in _judges(duels):
        verdicts = [judged[judge] for judged in duels.values()]
        flipped = [flip for duel in verdicts for flip in flips(duel).items()]
        result[judge] = judge_report(list(chain(*verdicts)), lengths, seed, resamples)
        result[judge] |= flip_rate(flipped, seed, resamples)
    return result


def _prompts_needed(rate: Mapping[str, Any], better: Decision) -> int | None:
    """Prompts that would decide a win rate like this one; None where these have decided, or where it is 0.5."""
    if better != NOT_DECIDED or rate["value"] is None:
        return None
    return prompts_to_decide(rate["value"], rate["ties"] / rate["n"])


def _judges(duels: Mapping[Duel, ByJudge]) -> list[str]:
    return list(dict.fromkeys(judge for judged in duels.values() for judge in judged))


def _length_controlled(
    duels: Mapping[Duel, ByJudge], lengths: Lengths, one_opponent: bool
) -> dict[Duel, dict[str, dict[str, Any]]]:
    """Duel -> judge -> win rate at equal length, one regression per judge."""
    found: dict[Duel, dict[str, dict[str, Any]]] = {duel: {} for duel in duels}
    for judge in _judges(duels):
        sized = {}
        for (arm, opponent), judged in duels.items():
            points = points_by_prompt(judged[judge])
            sized[arm, opponent] = {p: Sized(points[p], lengths[arm][p], lengths[opponent][p]) for p in points}
        for duel, rate in length_controlled_win_rates(sized, one_opponent).items():
            found[duel][judge] = rate
    return found


def _corrected(
    duel: Duel, verdicts: Sequence[Verdict], characters: Lengths, labels: Sequence[Labelled]
) -> dict[str, Any]:
    points = points_by_prompt(verdicts)
    arm, opponent = (characters[name] for name in duel)
    return corrected_win_rate(list(points.values()), [(arm[p], opponent[p]) for p in points], labels)


def _by_length(duel: Duel, verdicts: Sequence[Verdict], lengths: Lengths, seed: int) -> list[dict[str, Any]]:
    points = points_by_prompt(verdicts)
    arm, opponent = ([lengths[name][p] for p in points] for name in duel)
    return win_rate_by_length(list(points.values()), arm, opponent, seed)
