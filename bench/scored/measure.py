"""What the files hold -> metrics.json, by the functions that score the arms of a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.arms import REFERENCE
from bench.evaluate.arm_numbers import kl_numbers
from bench.evaluate.comparisons import Lengths, against_reference, head_to_heads, judge_habits, strengths, zero_of
from bench.evaluate.degeneration import Sampled, degeneration
from bench.evaluate.judge_error import Labelled, of_labels
from bench.evaluate.panel import agreement_of_judges
from bench.evaluate.power import power_summary
from bench.evaluate.rouge import rouge_estimates
from bench.evaluate.statistics import bootstrap_mean, estimate, proportion_interval
from bench.evaluate.summary_metrics import Summary, descriptions, summary_estimates
from bench.evaluate.text_models import TextModels
from bench.evaluate.words import words
from bench.records import EvalPrompt
from bench.scored.config import ScoreConfig
from bench.scored.duels import Judgement
from bench.scored.read import Given, Written

Labels = Mapping[str, tuple[str, Sequence[Labelled]]]
"""Judge -> the audit that its labelled pairs are from, and the pairs."""


def measured(
    config: ScoreConfig, given: Given, found: Mapping[str, Judgement], labels: Labels, models: TextModels
) -> dict[str, Any]:
    """metrics.json but for what says which run it is; `missing` says what the files do not tell."""
    draws = config.seed, config.evaluation.bootstrap_resamples
    arms = {arm: _arm(arm, rows, config, given, models) for arm, rows in _all(given).items()}
    metrics: dict[str, Any] = {
        "arms": arms,
        "head_to_head": {},
        "bradley_terry": {},
        "bradley_terry_zero": {},
        "judges": {},
        "summary_metrics": descriptions(config.evaluation.metrics),
        "power": power_summary(len(given.prompts)),
        "missing": missing(given, found),
    }
    lengths = _lengths(given, lambda text: float(len(words(text))))
    characters = _lengths(given, lambda text: float(len(text)))
    for judge, judgement in found.items():
        rows = labels[judge][1] if judge in labels else None
        _merge(metrics, _of_judge(judge, judgement, lengths, characters, rows, draws))
        metrics["judges"][judge] |= {"kind": judgement.kind, "prompt_hash": "", **judgement.about}
        if rows is not None:
            metrics["judges"][judge]["labels"] = of_labels(*labels[judge])
    alone = {judge: judgement.duels for judge, judgement in found.items() if judgement.kind != "panel"}
    shared = [duel for duel in next(iter(alone.values()), {}) if all(duel in duels for duels in alone.values())]
    if len(alone) > 1 and shared:
        by_duel = [{judge: duels[duel] for judge, duels in alone.items()} for duel in shared]
        metrics["judge_agreement"] = agreement_of_judges(by_duel, *draws)
    return metrics


def missing(given: Given, found: Mapping[str, Judgement]) -> list[str]:
    """What the files do not tell, and what therefore has no number: a sentence each."""
    rows = [row for of_arm in given.arms.values() for row in of_arm.values()]
    said = []
    if given.left_out:
        said.append(f"{given.left_out} prompts were left out: not every arm has a completion of them.")
    lacking = len(given.prompts) - len(given.references)
    if lacking:
        which = "No prompt has" if lacking == len(given.prompts) else f"{lacking} of {len(given.prompts)} prompts lack"
        said.append(f"{which} a reference summary: no win rate against it and no ROUGE there.")
    for what, absent, cost in (
        ("whether a limit cut them off", [row.finished is None for row in rows], "no share that ended with EOS"),
        ("how many tokens they have", [row.n_tokens is None for row in rows], "lengths are in words"),
        ("how likely policy and reference policy find them", [row.ref_logp is None for row in rows], "no KL"),
    ):
        if any(absent):
            whose = "the completions" if all(absent) else f"{sum(absent)} of {len(rows)} completions"
            said.append(f"No file says of {whose} {what}: {cost}.")
    if not found:
        said.append("Nobody judged: no win rates. judge=NAME asks one, columns.ratings reads a column of scores.")
    for judge, judgement in found.items():
        for arm in given.arms:
            if not any(arm in duel for duel in judgement.duels):
                said.append(f"{judge} says nothing of arm {arm}.")
    return said


def _all(given: Given) -> dict[str, Mapping[str, Written]]:
    return {**given.arms, **({REFERENCE: given.references} if given.references else {})}


def _lengths(given: Given, of: Callable[[str], float]) -> Lengths:
    return {arm: {key: of(row.completion) for key, row in rows.items()} for arm, rows in _all(given).items()}


def _arm(
    arm: str, rows: Mapping[str, Written], config: ScoreConfig, given: Given, models: TextModels
) -> dict[str, Any]:
    """The numbers that need no other arm and no judge, as far as the files tell what they need."""
    seed, resamples = draws = config.seed, config.evaluation.bootstrap_resamples
    prompts = [prompt for prompt in given.prompts if prompt.id in rows]
    written = [rows[prompt.id] for prompt in prompts]

    def mean(values: Iterable[float]) -> dict[str, Any]:
        return estimate(bootstrap_mean(list(values), *draws))

    both = list(zip(prompts, written, strict=True))
    sampled = [Sampled(prompt.prompt, row.completion, row.finished) for prompt, row in both]
    texts = [Summary.of(prompt.prompt, row.completion) for prompt, row in both]
    numbers: dict[str, Any] = {
        "degeneration": degeneration(sampled, seed),
        "length_words": mean(float(len(words(row.completion))) for row in written),
        "summaries": summary_estimates(texts, config.evaluation.metrics, models, *draws),
    }
    if tokens := _known(row.n_tokens for row in written):
        numbers["length_tokens"] = mean(tokens)
    if finished := _known(row.finished for row in written):
        numbers["finished"] = estimate(proportion_interval(list(map(float, finished)), *draws))
    for column in config.ratings:
        if ratings := _known(row.ratings.get(column) for row in written):
            numbers.setdefault("ratings", {})[column] = mean(ratings)
    if arm != REFERENCE and given.references:
        against = [(row.completion, prompt.reference) for prompt, row in both if prompt.reference]
        pair = [text for text, _ in against], [reference for _, reference in against]
        numbers["rouge"] = rouge_estimates(*pair, seed, resamples, config.evaluation.rouge_stemmer)
    if any(row.logp is not None and row.ref_logp is not None for row in written):
        numbers |= kl_numbers(written, *draws)
    return numbers


def _known(values: Iterable[Any]) -> list[Any]:
    """The values, where every row has one; else none: a mean over some of the prompts is not comparable."""
    found = list(values)
    return [] if None in found else found


def _of_judge(
    judge: str,
    judgement: Judgement,
    lengths: Lengths,
    characters: Lengths,
    labels: Sequence[Labelled] | None,
    draws: tuple[int, int],
) -> dict[str, Any]:
    """What one judge adds to metrics.json. Each judge by itself: not all speak of the same pairs."""
    duels = {duel: {judge: verdicts} for duel, verdicts in judgement.duels.items()}
    references = {duel: said for duel, said in duels.items() if duel[1] == REFERENCE}
    pairs = {duel: said for duel, said in duels.items() if duel[1] != REFERENCE}
    by_label = {} if labels is None else {judge: labels}
    alone = {arm: said for (arm, _), said in references.items() if said[judge]}
    heads = head_to_heads(pairs, alone, lengths, *draws)
    zero = zero_of(judgement.duels)
    habits = judge_habits(duels, lengths, *draws) if duels else {judge: {}}
    if not judgement.shows:
        habits[judge].pop("position_bias", None)
    return {
        "arms": against_reference(references, lengths, characters, by_label, *draws) if references else {},
        "head_to_head": heads,
        "bradley_terry": strengths(duels, zero, *draws) if duels else {},
        "bradley_terry_zero": {judge: zero},
        "judges": habits,
    }


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Put a nested mapping into another one, key by key."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def prompt_rows(prompts: Sequence[EvalPrompt]) -> list[dict[str, str]]:
    return [{"prompt_id": p.id, "prompt": p.prompt, "reference": p.reference} for p in prompts]
