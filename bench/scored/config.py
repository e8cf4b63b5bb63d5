"""Which files of completions are scored, what their columns are called, and who judges them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.data.config import require_scorer
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.validation import require

RULES = {
    "longer": "The summary with more characters wins.",
    "rouge": "The summary with the higher ROUGE-L F1 to the reference summary wins; between arms alone.",
}

REWARD, IMPLICIT, KNOWN = "reward_model", "implicit_reward", "known_reward"
"""The judges that are models or a scorer which the scoring is given: the higher reward wins."""


@dataclass(frozen=True)
class ScoreColumns:
    """Which column holds what; conf/score.yaml says it of each."""

    arm: str = "arm"
    id: str = "prompt_id"
    prompt: str = "prompt"
    reference: str = "reference"
    completion: str = "completion"
    finished: str = "finished"
    n_tokens: str = "n_tokens"
    temperature: str = "temperature"
    logp: str = "logp"
    ref_logp: str = "ref_logp"
    ratings: tuple[str, ...] = ()
    beats_reference: tuple[str, ...] = ()
    arm_a: str = "arm_a"
    arm_b: str = "arm_b"
    verdict: str = "verdict"
    order: str = "order"
    judge: str = "judge"

    def __post_init__(self) -> None:
        for name in ("ratings", "beats_reference"):
            value = getattr(self, name)
            require(not isinstance(value, str), f"columns.{name}", value, f"must be a list: columns.{name}=[{value}]")
            object.__setattr__(self, name, tuple(value))  # YAML gives a list, which cannot be hashed


@dataclass(frozen=True)
class ScorerConfig:
    """Any scorer of (prompt, summary), as `bench.data.config.KnownRewardConfig` has it; None: there is none."""

    scorer: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scorer is not None:
            require_scorer("known_reward.scorer", self.scorer)
        none = self.scorer is not None or not self.settings
        require(none, "known_reward.settings", dict(self.settings), "must be empty where there is no scorer")


@dataclass(frozen=True)
class ScoreConfig:
    """One scoring of files, resolved."""

    files: tuple[str, ...]
    columns: ScoreColumns = field(default_factory=ScoreColumns)
    policy: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    reward: str | None = None
    implicit_reward: str | None = None
    known_reward: ScorerConfig = field(default_factory=ScorerConfig)
    judge: JudgeConfig | None = None
    rules: tuple[str, ...] = ()
    head_to_head: bool = True
    incomplete: Literal["error", "drop"] = "error"
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    name: str | None = None
    results_dir: str = "results"

    def __post_init__(self) -> None:
        require(len(self.files) >= 1, "files", list(self.files), "must name at least one file of completions")
        names = [] if self.judge is None else list(self.judge.names)
        for name in ("gold", "reward_model"):
            require(name not in names, "judge.names", names, f"has {name}, which a run of its own arms alone has")
        for rule in self.rules:
            require(rule in RULES, "rules", rule, f"must be among {', '.join(RULES)}")
        voices = [*self.rules, *names, *self.ratings, *self.columns.beats_reference]
        once = len(set(voices)) == len(voices)
        require(once, "judge.names, rules and columns of verdicts", names, "must have names of their own")
        both = bool(self.policy) == (self.reference is not None)
        require(both, "policy and reference", list(self.policy), "must be given together: KL is of one to the other")
        dpo = self.implicit_reward
        require(dpo is None or dpo in self.policy, "implicit_reward", dpo, "must be an arm that policy names")
        require(0 <= self.seed < 2**32, "seed", self.seed, f"must be at least 0 and below {2**32}")
        plain = self.name is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) is not None
        require(plain, "name", self.name, "must be a plain folder name (letters, digits, . _ -)")

    @property
    def ratings(self) -> tuple[str, ...]:
        """What rates completions by a number each: columns of the files, models and a scorer that are given."""
        models = ((REWARD, self.reward), (IMPLICIT, self.implicit_reward), (KNOWN, self.known_reward.scorer))
        return (*self.columns.ratings, *(name for name, model in models if model is not None))
