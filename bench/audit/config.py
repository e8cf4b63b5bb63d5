"""What an audit reads and whose verdicts it looks at."""

import os
import re
from dataclasses import dataclass, field

from bench.audit.rules import RULES
from bench.evaluate.judges.config import JudgeConfig
from bench.validation import require


@dataclass(frozen=True)
class AuditColumns:
    """Which column of the user's files holds what."""

    pair_id: str = "pair_id"
    id: str = "id"
    prompt: str = "prompt"
    summary_a: str = "summary_a"
    summary_b: str = "summary_b"
    verdict: str = "verdict"
    chosen: str = "chosen"
    rejected: str = "rejected"
    shown_as: str = "chosen_shown_as"
    annotator: str = "annotator"
    confidence: str = "confidence"
    judge: str | None = None


@dataclass(frozen=True)
class AuditConfig:
    """One audit, resolved."""

    data: str
    judge: JudgeConfig | None = None
    rule: str = "labels"
    as_shown: bool = True
    reward_model: str | None = None
    columns: AuditColumns = field(default_factory=AuditColumns)
    seed: int = 0
    bootstrap_resamples: int = 2000
    name: str | None = None
    results_dir: str = "results"

    def __post_init__(self) -> None:
        object.__setattr__(self, "results_dir", os.path.expanduser(self.results_dir))
        require(self.data.strip() != "", "data", self.data, "must be a file or folder")
        require(self.rule in RULES, "rule", self.rule, f"must be one of {', '.join(RULES)}")
        if self.judge is not None:
            names = list(self.judge.names)
            require(
                self.rule == "labels", "rule", self.rule, f"must not be set together with a judge ({', '.join(names)})"
            )
            require("gold" not in names, "judge.names", names, "has gold, which is known in the built-in world alone")
        wants_model = self.judge is not None and "reward_model" in self.judge.names
        require(
            wants_model == (self.reward_model is not None),
            "reward_model",
            self.reward_model,
            "must be the folder of a trained reward model with judge=reward_model, and null without it",
        )
        require(
            (self.rule == "column") == (self.columns.judge is not None),
            "columns.judge",
            self.columns.judge,
            "must name the column of verdicts with judge=column, and be null without it",
        )
        require(0 <= self.seed < 2**32, "seed", self.seed, f"must be at least 0 and below {2**32}")
        require(
            self.bootstrap_resamples >= 100,
            "bootstrap_resamples",
            self.bootstrap_resamples,
            "must be at least 100 (a 95 % interval reads the 2.5 % tails)",
        )
        plain = self.name is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) is not None
        require(plain, "name", self.name, "must be a plain folder name (letters, digits, . _ -)")

    @property
    def judge_name(self) -> str:
        """What the folder is called after: the rule, or the judges of the config."""
        return self.rule if self.judge is None else "-".join(self.judge.names)
