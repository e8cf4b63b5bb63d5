"""The judges of an audit: those of conf/judge, trivial rules, and verdicts that the file has already."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.audit.config import AuditConfig
from bench.audit.pairs import LabelledPair, require_prompts
from bench.data.prompts import truncate_post
from bench.errors import ConfigError
from bench.evaluate.judges.base import Judge, JudgeItem, ScoringJudge, mirror
from bench.evaluate.judges.config import PANEL
from bench.evaluate.judges.reward_model import Score
from bench.evaluate.judges.rules import LongerJudge, TitleOverlapJudge
from bench.evaluate.panel import majority
from bench.evaluate.win_rate import SWAPPED, Order, drawn_order
from bench.progress import StageBar
from bench.records import Verdict, VerdictLabel

ORDERS: tuple[Order, ...] = ("ab", "ba")
_BATCH = 8
_CHUNK = 64  # summaries between two steps of the progress bar


_RULES: dict[str, Callable[[], ScoringJudge]] = {"longer": LongerJudge, "title_overlap": TitleOverlapJudge}


def judged(config: AuditConfig, pairs: Sequence[LabelledPair]) -> dict[str, tuple[Judge | None, list[Verdict]]]:
    """Judge name -> the judge (None for a column) and its verdicts on every pair, one per order shown.

    A pair is shown as its record says it was or, where it does not say or `as_shown` is off, by `judge.orders`.

    Raises:
        UserError: posts, a key, a model or verdicts are missing.
    """
    if config.columns.judge is not None:
        name = config.columns.judge
        rows = [_verdict(name, "", pair, order, verdict) for pair in pairs for verdict, order in pair.judged]
        return {name: (None, rows)}
    shown: list[tuple[LabelledPair, Order]] = [(pair, order) for pair in pairs for order in _orders(config, pair)]
    items = [
        JudgeItem(pair.id, pair.prompt or "", *((pair.a, pair.b) if order == "ab" else (pair.b, pair.a)))
        for pair, order in shown
    ]
    verdicts: dict[str, tuple[Judge | None, list[Verdict]]] = {}
    for judge in _judges(config, pairs):
        labels = judge.judge(items)
        verdicts[judge.name] = (
            judge,
            [
                _verdict(judge.name, judge.prompt_hash, pair, order, label if order == "ab" else SWAPPED[label])
                for (pair, order), label in zip(shown, labels, strict=True)
            ],
        )
    if config.judge is not None and config.judge.panel is not None:
        verdicts[PANEL] = (None, majority({name: verdicts[name][1] for name in config.judge.panel}))
    return verdicts


def both_log_odds(judge: Judge | None, pairs: Sequence[LabelledPair]) -> tuple[list[float], list[float]] | None:
    """A judge's log p(A) - log p(B) on every pair, in nats, with its a shown first and with its b; None where a judge
    has none.

    Raises:
        UserError: as the judge.
    """
    if judge is None or not getattr(judge, "has_log_odds", False):
        return None
    items = [JudgeItem(pair.id, pair.prompt or "", pair.a, pair.b) for pair in pairs]
    log_odds: Callable[[Sequence[JudgeItem]], list[float]] = getattr(judge, "log_odds")  # noqa: B009
    return log_odds(items), log_odds([mirror(item) for item in items])


def _verdict(judge: str, prompt_hash: str, pair: LabelledPair, order: Order, verdict: VerdictLabel) -> Verdict:
    return Verdict(pair.id, "summary_a", "summary_b", order, verdict, judge, prompt_hash)


def _orders(config: AuditConfig, pair: LabelledPair) -> tuple[Order, ...]:
    recorded = {annotation.shown.order for annotation in pair.annotations}
    if config.as_shown and None not in recorded:
        return tuple(order for order in ORDERS if order in recorded)
    if config.judge is not None and config.judge.orders == "one":
        return (drawn_order(config.seed, pair.id),)
    return ORDERS


def _judges(config: AuditConfig, pairs: Sequence[LabelledPair]) -> list[Judge]:
    """Raises UserError where a judge lacks what it judges by, before any model is loaded."""
    if config.judge is None:
        if config.rule == "title_overlap":
            require_prompts(pairs, config.rule)
        return [rule() for name, rule in _RULES.items() if name == config.rule]
    require_prompts(pairs, config.judge_name)
    # Labels and rules need no model, and should not wait for the libraries that load one.
    from bench.evaluate.judges.factory import build_judges, check_judges

    check_judges(config.judge)
    score = None if config.reward_model is None else _reward_score(Path(config.reward_model), pairs)
    cache_dir = Path(config.results_dir) / ".cache"
    return build_judges(config.judge, gold=None, reward_score=score, cache_dir=cache_dir, seed=config.seed)


def _reward_score(folder: Path, pairs: Sequence[LabelledPair]) -> Score:
    """The scorer of a reward model that a run has trained; posts lose their end where they do not fit.

    Raises:
        ConfigError: the folder holds no reward model.
    """
    if not (folder / "reward.json").is_file():
        raise ConfigError(
            f"reward_model: {folder} holds no trained reward model; name a stage's folder, such as"
            " results/.cache/stages/judge_reward-..."
        )
    from bench.models.loading import load_reward_model, load_tokenizer, pick_device
    from bench.scoring import encode, reward_scores

    tokenizer, reward = load_tokenizer(folder), load_reward_model(folder, pick_device("auto"))
    longest = max(len(encode(tokenizer, "", summary)[0][1]) for pair in pairs for summary in (pair.a, pair.b))
    room = reward.model.config.max_position_embeddings - longest

    def count_tokens(text: str) -> int:
        return len(tokenizer(text).input_ids)

    def score(rows: list[tuple[str, str]]) -> list[float]:
        prompts = {prompt: truncate_post(prompt, room, count_tokens)[0] for prompt in dict.fromkeys(p for p, _ in rows)}
        fitting = [(prompts[prompt], summary) for prompt, summary in rows]
        scores: list[float] = []
        with StageBar("reward_model", len(rows), "summaries") as bar:
            for start in range(0, len(rows), _CHUNK):
                chunk = fitting[start : start + _CHUNK]
                scores += reward_scores(reward, tokenizer, chunk, _BATCH)
                bar.update(len(chunk))
        return scores

    return score
