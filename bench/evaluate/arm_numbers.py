"""One arm's numbers that need no other arm and no judge."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bench.evaluate.best_of_n import kl_bound_estimate
from bench.evaluate.degeneration import Sampled, degeneration
from bench.evaluate.heavy_tails import mean_with_tail
from bench.evaluate.rouge import rouge_estimates
from bench.evaluate.statistics import bootstrap_mean, estimate, paired_difference, proportion_interval
from bench.records import Completion, EvalPrompt


class HasKL(Protocol):
    """A completion as its KL is read from it; log-probs and `kl` in nats, None where they are not known."""

    @property
    def temperature(self) -> float | None: ...
    @property
    def logp(self) -> float | None: ...
    @property
    def ref_logp(self) -> float | None: ...
    @property
    def kl(self) -> float | None: ...


def text_numbers(
    rows: Sequence[Completion],
    prompts: Sequence[EvalPrompt],
    rewards: Mapping[str, Sequence[float]],
    is_sampled: bool,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """`degeneration`, `length_tokens` and `reward` of an arm, or of the reference summaries.

    Args:
        rows: a completion per prompt, in the prompts' order.
        rewards: "proxy" and "gold", where they are known -> a score per row.
        is_sampled: False for texts that people wrote, of which nobody knows whether they ended.
    """
    texts = [sampled(prompt, row, is_sampled) for prompt, row in zip(prompts, rows, strict=True)]

    def mean(values: Sequence[float]) -> dict[str, Any]:
        return estimate(bootstrap_mean(values, seed, resamples))

    return {
        "degeneration": degeneration(texts, seed),
        "length_tokens": mean([float(row.n_tokens) for row in rows]),
        "reward": {name: mean(scores) for name, scores in rewards.items()},
    }


def sampled(prompt: EvalPrompt, row: Completion, is_sampled: bool = True) -> Sampled:
    """The completion as the detectors of degeneration see it."""
    return Sampled(prompt.prompt, row.completion, row.finished if is_sampled else None)


def sampling_numbers(
    rows: Sequence[Completion],
    prompts: Sequence[EvalPrompt],
    *,
    best_of: int | None,
    rouge_stemmer: bool,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """`rouge` against the reference summaries where all prompts have one, `finished`, and `kl_ref` (nats/completion).

    Args:
        best_of: n, where the rows are the best of n samples: their distribution is no model's, so its KL has a bound
            and no estimate.
    """
    references = [prompt.reference for prompt in prompts]
    finished = proportion_interval([float(row.finished) for row in rows], seed, resamples)
    numbers: dict[str, Any] = {"finished": estimate(finished)}
    if all(references):
        numbers["rouge"] = rouge_estimates([row.completion for row in rows], references, seed, resamples, rouge_stemmer)
    if best_of is not None:
        return numbers | {"kl_ref": kl_bound_estimate(best_of, len(rows))}
    return numbers | kl_numbers(rows, seed, resamples)


def kl_numbers(rows: Sequence[HasKL], seed: int, resamples: int) -> dict[str, Any]:
    """`kl_ref_k1`, and `kl_ref`, which is exact where that was computed; neither of greedy completions, which no
    distribution was sampled for."""
    sampled = [row for row in rows if row.temperature != 0]
    if not sampled:
        none = {"value": None, "ci95": None, "n": len(rows), "reason": "greedy completions have no KL"}
        return {"kl_ref": none, "kl_ref_k1": none}
    k1 = [row.logp - row.ref_logp for row in sampled if row.logp is not None and row.ref_logp is not None]
    numbers: dict[str, Any] = {"kl_ref_k1": {**mean_with_tail(k1), "estimator": "k1"}}
    numbers["kl_ref"] = numbers["kl_ref_k1"]
    if exact := [row.kl for row in sampled if row.kl is not None]:
        numbers["kl_ref"] = {**mean_with_tail(exact), "estimator": "exact"}
        # Both estimate one quantity from the same samples, so this is 0 but for chance.
        numbers["kl_ref_k1"]["minus_exact"] = estimate(paired_difference(k1, exact, seed, resamples))
    return numbers
