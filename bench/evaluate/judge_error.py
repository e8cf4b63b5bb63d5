"""Win rates with a judge's errors taken out, by pairs that both the judge and people have judged.

A judge that errs pulls every win rate towards a half, and one that leans to the longer summary raises the arm that
writes more. Let t be what people say of a pair (1 the longer summary is better, 0 neither, -1 the shorter one) and s
what the judge says. On labelled pairs

    E[s | t] = alpha + c t,    c = sensitivity + specificity - 1,   alpha = sensitivity - specificity,

exactly so without ties, where sensitivity is how often the judge finds the longer summary where people prefer it, and
specificity the shorter one where people prefer that. On an arm's prompts E[s] = alpha o + c E[t], now with s and t seen
from the arm and o the share on which the arm is the longer one less the share on which it is the shorter one; solved
for E[t] this is the estimator of Rogan and Gladen (1978, American Journal of Epidemiology 107:71), with ties.

What is assumed: on pairs that people judge alike, the judge is as good for the arms' summaries as for the labelled
ones. No win rate carries over from the labelled pairs (prediction-powered inference, which assumes that they are a
sample of the arm's own, would let it).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.errors import ConfigError
from bench.evaluate.statistics import Z, effective_counts, score_interval
from bench.evaluate.win_rate import resolve
from bench.files import read_jsonl
from bench.records import Verdict, VerdictLabel

_SIGN: dict[VerdictLabel, int] = {"a": 1, "tie": 0, "b": -1}
_PSEUDO = [(label, verdict) for label in (1.0, -1.0) for verdict in (1.0, -1.0)]
"""One more right and one more wrong verdict on each side when the labels' error is estimated, so that a judge that
erred nowhere is not taken for one that cannot (Lang & Reiczigel 2014, Preventive Veterinary Medicine 113:13)."""


class Labelled(NamedTuple):
    """One label of a pair beside the judge's verdict: 1 the longer summary is better, 0 neither, -1 the shorter one.

    `weight` is the label's share of its pair; pairs of one `post` are not independent.
    """

    post: str
    label: float
    verdict: float
    weight: float


def labelled(
    posts: Sequence[str],
    verdicts: Sequence[VerdictLabel],
    labels: Sequence[Sequence[VerdictLabel]],
    lengths: Sequence[tuple[float, float]],
) -> list[Labelled]:
    """The rows of pairs of summaries a and b; unparsed verdicts are left out.

    A pair of equal length is half a pair whose a is the longer one and half one whose b is.

    Args:
        labels: per pair, one for each annotator.
        lengths: of a and b, in characters.
    """
    rows = []
    for post, verdict, given, (a, b) in zip(posts, verdicts, labels, lengths, strict=True):
        if verdict == "unparsed":
            continue
        longer = (1, -1) if a == b else (1,) if a > b else (-1,)
        for label in given:
            for sign in longer:
                weight = 1 / len(given) / len(longer)
                rows.append(Labelled(post, float(sign * _SIGN[label]), float(sign * _SIGN[verdict]), weight))
    return rows


def read_labelled(folder: Path) -> dict[str, tuple[str, list[Labelled]]]:
    """Judge -> the hash of its prompt and its labelled pairs, from the folder of an audit.

    Raises:
        ConfigError: no finished audit is there, or one in which nobody judges.
    """
    if not (folder / "audit.json").is_file() or not (folder / "pairs.jsonl").is_file():
        raise ConfigError(
            f"evaluation.judge_labels: {folder} holds no audit with its pairs.jsonl; name a folder that"
            " python -m bench.judge_audit has written"
        )
    pairs = read_jsonl(folder / "pairs.jsonl")
    found: dict[str, tuple[str, list[Labelled]]] = {}
    for file in sorted((folder / "verdicts").glob("*.jsonl")):
        verdicts = [Verdict(**row) for row in read_jsonl(file)]
        said = resolve(verdicts)
        found[verdicts[0].judge] = (
            verdicts[0].prompt_hash,
            labelled(
                [pair["post"] for pair in pairs],
                [said[pair["pair_id"]] for pair in pairs],
                [pair["labels"] for pair in pairs],
                [(pair["length_a"], pair["length_b"]) for pair in pairs],
            ),
        )
    if not found:
        raise ConfigError(f"evaluation.judge_labels: in the audit {folder} nobody judges; repeat it with judge=NAME")
    return found


def check_labels(folders: Sequence[str], names: Sequence[str], prompt_hashes: Sequence[str]) -> None:
    """Refuse at the start of a run audits that say nothing of its judges.

    Args:
        names: of the run's judges.
        prompt_hashes: of the prompts of those that have one.

    Raises:
        ConfigError: there is no audit, or it is of other judges or of another prompt.
    """
    for folder in folders:
        judges = {name: prompt_hash for name, (prompt_hash, _) in read_labelled(Path(folder)).items()}
        where = f"evaluation.judge_labels: the audit {folder}"
        if not set(judges) & set(names):
            raise ConfigError(f"{where} is of {', '.join(judges)}, and the run's judges are {', '.join(names)}")
        for name, prompt_hash in judges.items():
            if name in names and prompt_hash and prompt_hash not in prompt_hashes:
                raise ConfigError(
                    f"{where} asked {name} with another prompt; repeat it with the run's judge.* settings"
                )


def error_rates(rows: Sequence[Labelled]) -> dict[str, Any]:
    """`sensitivity` and `specificity`, each an estimate over the pairs whose labels are decided that way.

    A judge's tie counts half. n is rounded where annotators of one pair disagree; the interval is over posts.
    """
    return {
        name: _rate([row for row in rows if row.label == side], side)
        for name, side in (("sensitivity", 1.0), ("specificity", -1.0))
    }


def of_labels(source: str, rows: Sequence[Labelled]) -> dict[str, Any]:
    """`judges.<judge>.labels` of metrics.json: where the labelled pairs are from, how many, and `error_rates`."""
    return {"source": source, "pairs": round(sum(row.weight for row in rows)), **error_rates(rows)}


def _rate(rows: Sequence[Labelled], side: float) -> dict[str, Any]:
    """Estimate of how often verdicts are `side`."""
    if not rows:
        return {"value": None, "ci95": None, "n": 0}
    found, weights = [(1 + side * row.verdict) / 2 for row in rows], [row.weight for row in rows]
    counts = effective_counts(found, [row.post for row in rows], weights)
    value, n = float(np.average(found, weights=weights)), round(sum(weights))
    if counts.n == 0:
        return {"value": value, "ci95": None, "n": n, "reason": "all pairs are of one post"}
    low, high = score_interval(*counts)
    return {"value": value, "ci95": [float(low), float(high)], "n": n}


def corrected_win_rate(
    points: Sequence[float], lengths: Sequence[tuple[float, float]], rows: Sequence[Labelled]
) -> dict[str, Any]:
    """An arm's win rate as people would have it, and an interval that holds the labels' error too.

    The interval is Fieller's: the win rates that a score test does not reject, the variance being that of the
    verdicts at this win rate and that of alpha and c over the labelled posts. It is unbounded, and the win rate
    refused, exactly where c is not above 0 beyond chance.

    Args:
        points: 1, 0.5 or 0 per prompt: the judge says that the arm won, tied, lost.
        lengths: of the arm's and the opponent's summaries, in characters.
        rows: the judge's labelled pairs.

    Returns:
        "value", "ci95", "n", "reason"; where the win rate is refused value and ci95 are None, and `reason` says why.
    """
    if not points:
        return _refused(0, "no parsed verdicts")
    if {1.0, -1.0} - {row.label for row in rows}:
        return _refused(len(points), "the labelled pairs prefer the longer summary always or never")
    error = _fit(rows)
    if error.slope <= 0 or error.slope**2 <= Z**2 * error.slope_variance:
        pairs = round(sum(row.weight for row in rows))
        return _refused(len(points), f"on {pairs} labelled pairs the judge is no better than chance")
    s = 2 * np.asarray(points, dtype=np.float64) - 1
    leaning = float(np.mean([np.sign(arm - opponent) for arm, opponent in lengths]))
    low, high = _fieller(float(s.mean()), float((s**2).mean()), s.size, leaning, error)
    if low > 1 or high < -1:
        return _refused(
            len(points), "the verdicts are more one-sided than the judge's errors on the labelled pairs allow"
        )
    value = (float(s.mean()) - error.intercept * leaning) / error.slope
    value, low, high = ((1 + min(1.0, max(-1.0, end))) / 2 for end in (value, low, high))
    return {"value": value, "ci95": [low, high], "n": len(points), "reason": None}


def _refused(n: int, reason: str) -> dict[str, Any]:
    return {"value": None, "ci95": None, "n": n, "reason": reason}


class _Error(NamedTuple):
    """alpha and c with their covariance."""

    intercept: float
    slope: float
    intercept_variance: float
    slope_variance: float
    covariance: float


def _fit(rows: Sequence[Labelled]) -> _Error:
    """Weighted least squares of verdicts on labels; errors by the sandwich over posts, with `_PSEUDO`."""
    labels, verdicts, weights = np.array([row[1:] for row in rows]).T
    slope, intercept = _line(labels, verdicts, weights)
    more = np.array(_PSEUDO)
    labels, verdicts = np.append(labels, more[:, 0]), np.append(verdicts, more[:, 1])
    weights = np.append(weights, np.ones(len(more)))
    residuals = verdicts - np.polyval(_line(labels, verdicts, weights), labels)
    mean, total = np.average(labels, weights=weights), weights.sum()
    of_slope = (labels - mean) / np.average((labels - mean) ** 2, weights=weights)
    influence = weights * residuals / total * np.array([1 - mean * of_slope, of_slope])
    _, posts = np.unique([row.post for row in rows], return_inverse=True)
    posts = np.append(posts, posts.max() + 1 + np.arange(len(more)))
    by_post = np.array([np.bincount(posts, one) for one in influence])
    n = by_post.shape[1]
    ((vi, cov), (_, vs)) = by_post @ by_post.T * n / (n - 2)
    return _Error(float(intercept), float(slope), float(vi), float(vs), float(cov))


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope and intercept."""
    centre = np.average(x, weights=weights)
    slope = np.average((x - centre) * y, weights=weights) / np.average((x - centre) ** 2, weights=weights)
    return slope, np.average(y, weights=weights) - slope * centre


def _fieller(mean: float, square: float, n: int, leaning: float, error: _Error) -> tuple[float, float]:
    """The values of E[t] with (mean - alpha o - c t)^2 <= Z^2 Var, a quadratic inequality whose ends these are.

    Args:
        mean, square: of the verdicts and of their squares, over n prompts.
        leaning: o.
    """
    a, c, of_error, of_verdicts = error.intercept * leaning, error.slope, Z**2, Z**2 / n
    quadratic = (1 + of_verdicts) * c**2 - of_error * error.slope_variance
    linear = 2 * c * (of_verdicts * a - (mean - a)) - 2 * of_error * leaning * error.covariance
    constant = (mean - a) ** 2 + of_verdicts * (a**2 - square) - of_error * leaning**2 * error.intercept_variance
    root = math.sqrt(max(linear**2 - 4 * quadratic * constant, 0.0))
    return (-linear - root) / (2 * quadratic), (-linear + root) / (2 * quadratic)
