"""Every judge's verdicts on every pair of arms: judges that are asked, rules, ratings, and verdicts that are there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.arms import REFERENCE
from bench.errors import ConfigError, DataError
from bench.evaluate.comparisons import Duel
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import Judge
from bench.evaluate.judges.config import PANEL
from bench.evaluate.judges.factory import ask_ahead, build_judges
from bench.evaluate.judges.rules import LongerJudge, RougeJudge
from bench.evaluate.panel import majority
from bench.evaluate.win_rate import SWAPPED, Order, compare, questions
from bench.progress import StageBar
from bench.records import EvalPrompt, Verdict, VerdictLabel
from bench.scored.config import ScoreConfig
from bench.scored.read import Given, Written

_FLIPPED: dict[Order, Order] = {"ab": "ba", "ba": "ab"}


@dataclass(frozen=True)
class Judgement:
    """What one judge says.

    Attributes:
        kind: of the judge in metrics.json: openai, local_llm, human, panel, rule, ratings, outcomes or verdicts.
        duels: (arm, opponent) -> its verdicts; pairs that it says nothing of are missing.
        shows: whether it was shown one summary before the other, so that it can lean to the first.
        about: what metrics.json says of it beside its habits.
    """

    kind: str
    duels: Mapping[Duel, Sequence[Verdict]]
    shows: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)


def judgements(config: ScoreConfig, given: Given, cache_dir: Path) -> dict[str, Judgement]:
    """Judge -> its verdicts, in the order: asked, rules, ratings, outcomes, verdicts of files.

    Raises:
        UserError: what a judge lacks, or two judges of one name.
    """
    found = _asked(config, given, cache_dir)
    for rule in config.rules:
        found[rule] = Judgement("rule", _by_rule(rule, config, given))
    for column in config.ratings:
        found[column] = Judgement("ratings", _rated(column, config, given))
    for column in config.columns.beats_reference:
        found[column] = Judgement("outcomes", _against_reference(column, given))
    for judge, verdicts in given.verdicts.items():
        if judge in found:
            raise DataError(f"a judge {judge!r} of the settings is also in a file of verdicts; rename one of them")
        found[judge] = Judgement("verdicts", _by_duel(verdicts), shows=any(v.order == "ba" for v in verdicts))
    return found


def duels_of(config: ScoreConfig, given: Given, against_reference: bool = True) -> list[Duel]:
    """The pairs that are compared: every arm with the reference summaries where there are some, then the arms."""
    arms = list(given.arms)
    references = [(arm, REFERENCE) for arm in arms] if given.references and against_reference else []
    return [*references, *(combinations(arms, 2) if config.head_to_head else [])]


def _asked(config: ScoreConfig, given: Given, cache_dir: Path) -> dict[str, Judgement]:
    if config.judge is None:
        return {}
    judges = build_judges(config.judge, gold=None, reward_score=None, cache_dir=cache_dir, seed=config.seed)
    duels, orders = duels_of(config, given), config.judge.orders
    if not duels:
        raise ConfigError("judge: there is nothing to compare: one arm, and no reference summaries")
    shown = [
        question
        for a, b in duels
        for question in questions(_texts(given, a), _texts(given, b), _prompts(given, b), config.seed, orders)
    ]
    ask_ahead(judges, [item for _, item in shown])
    kinds = {spec.name: spec.kind for spec in config.judge.specs}
    found = {
        judge.name: Judgement(
            kinds[judge.name],
            _compared(judge, duels, config, given),
            shows=True,
            about={"prompt_hash": judge.prompt_hash}
            | ({"usage": judge.usage.to_dict()} if isinstance(judge, AskingJudge) else {}),
        )
        for judge in judges
    }
    if (members := config.judge.panel) is not None:
        verdicts = {duel: majority({name: found[name].duels[duel] for name in members}) for duel in duels}
        found[PANEL] = Judgement(PANEL, verdicts, shows=True, about={"members": list(members), "prompt_hash": ""})
    return found


def _compared(judge: Judge, duels: Sequence[Duel], config: ScoreConfig, given: Given) -> dict[Duel, list[Verdict]]:
    orders = "one" if config.judge is None else config.judge.orders
    with StageBar(judge.name, len(duels), "pairs") as bar:
        found = {}
        for a, b in duels:
            texts, prompts = (_texts(given, a), _texts(given, b)), _prompts(given, b)
            found[a, b] = compare(a, b, *texts, prompts, judge, config.seed, orders)
            bar.update(1)
    return found


def _by_rule(rule: str, config: ScoreConfig, given: Given) -> dict[Duel, list[Verdict]]:
    if rule == "longer":
        return _each(LongerJudge(), duels_of(config, given), given)
    if not given.references:
        raise ConfigError("rules has rouge, which needs reference summaries; set columns.reference, or use longer")
    if len(given.arms) < 2 or not config.head_to_head:
        raise ConfigError("rules has rouge, which compares arms with each other; give two, with head_to_head=true")
    references = {key: row.completion for key, row in given.references.items()}
    judge = RougeJudge(references)
    duels = duels_of(config, given, against_reference=False)  # a reference is nearest to itself
    return _each(judge, duels, given, lambda prompt: prompt.id in references)


def _each(
    judge: Judge, duels: Sequence[Duel], given: Given, applies: Callable[[EvalPrompt], bool] = lambda _: True
) -> dict[Duel, list[Verdict]]:
    """A rule's verdicts, each pair seen once: it is the same in both orders."""
    found = {}
    for a, b in duels:
        prompts = [prompt for prompt in _prompts(given, b) if applies(prompt)]
        both = compare(a, b, _texts(given, a), _texts(given, b), prompts, judge, seed=0, orders="both")
        found[a, b] = [verdict for verdict in both if verdict.order == "ab"]
    return found


def _rated(column: str, config: ScoreConfig, given: Given) -> dict[Duel, list[Verdict]]:
    """The higher rating wins, on the prompts on which both are rated."""
    found = {}
    for a, b in duels_of(config, given):
        rows = [(p.id, _rows(given, a)[p.id].ratings, _rows(given, b)[p.id].ratings) for p in _prompts(given, b)]
        verdicts = [
            _verdict(key, a, b, _higher(x[column], y[column]), column)
            for key, x, y in rows
            if column in x and column in y
        ]
        if verdicts:
            found[a, b] = verdicts
    return found


def _higher(a: float, b: float) -> VerdictLabel:
    return "tie" if a == b else "a" if a > b else "b"


def _against_reference(column: str, given: Given) -> dict[Duel, list[Verdict]]:
    """What a column of outcomes says of each arm. There need not be a reference summary: it says how it compares."""
    found: dict[Duel, list[Verdict]] = {}
    for arm, rows in given.arms.items():
        said = {prompt.id: rows[prompt.id].outcomes for prompt in given.prompts if prompt.id in given.references}
        verdicts = [
            _verdict(key, arm, REFERENCE, outcomes[column], column)
            for key, outcomes in said.items()
            if column in outcomes
        ]
        if verdicts:
            found[arm, REFERENCE] = verdicts
    return found


def _by_duel(verdicts: Sequence[Verdict]) -> dict[Duel, list[Verdict]]:
    """Verdicts of a file by pair, each pair turned the way in which all are: the reference last, arms by name."""
    found: dict[Duel, list[Verdict]] = {}
    for verdict in verdicts:
        a, b = sorted((verdict.arm_a, verdict.arm_b), key=lambda arm: (arm == REFERENCE, arm))
        turned = verdict
        if a != verdict.arm_a:
            label, order = SWAPPED[verdict.verdict], _FLIPPED[verdict.order]
            turned = Verdict(verdict.prompt_id, a, b, order, label, verdict.judge, verdict.prompt_hash)
        found.setdefault((a, b), []).append(turned)
    return dict(sorted(found.items()))


def _verdict(prompt_id: str, a: str, b: str, label: VerdictLabel, judge: str) -> Verdict:
    return Verdict(prompt_id, a, b, "ab", label, judge, "")


def _prompts(given: Given, opponent: str) -> list[EvalPrompt]:
    """All prompts, or against the reference summaries those that have one."""
    return [p for p in given.prompts if p.id in given.references] if opponent == REFERENCE else list(given.prompts)


def _rows(given: Given, arm: str) -> Mapping[str, Written]:
    return given.references if arm == REFERENCE else given.arms[arm]


def _texts(given: Given, arm: str) -> dict[str, str]:
    return {key: row.completion for key, row in _rows(given, arm).items()}
