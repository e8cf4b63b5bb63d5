"""What the evaluator and the judges may be told."""

from dataclasses import dataclass
from typing import Literal

from bench.evaluate.judges.config import HumanJudgeConfig, LocalLLMJudgeConfig, OpenAIJudgeConfig
from bench.validation import require

Orders = Literal["both", "one"]
JUDGES = ("gold", "reward_model", "openai", "local_llm", "human")


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges, how often each pair is shown, and the settings of the judges that have some."""

    names: tuple[str, ...] = ("gold", "reward_model")
    orders: Orders = "both"
    openai: OpenAIJudgeConfig | None = None
    local_llm: LocalLLMJudgeConfig | None = None
    human: HumanJudgeConfig | None = None

    def __post_init__(self) -> None:
        require(not isinstance(self.names, str), "judge.names", self.names, "must be a list of judges")
        object.__setattr__(self, "names", tuple(self.names))  # YAML gives a list, which cannot be hashed
        require(len(self.names) >= 1, "judge.names", self.names, "must name at least one judge")
        for name in self.names:
            require(name in JUDGES, "judge.names", name, f"must be among {', '.join(JUDGES)}")
        require(len(set(self.names)) == len(self.names), "judge.names", self.names, "must name each judge once")
        require(self.orders in ("both", "one"), "judge.orders", self.orders, "must be 'both' or 'one'")
        for name in ("openai", "local_llm", "human"):
            known = name not in self.names or getattr(self, name) is not None
            require(known, "judge.names", name, f"needs the settings judge.{name}: take them from judge={name}")
        # A person who has seen a pair remembers it, and a mirrored verdict would say nothing of the order.
        once = "human" not in self.names or self.orders == "one"
        require(once, "judge.orders", self.orders, "must be 'one' with the judge human")


@dataclass(frozen=True)
class EvaluationConfig:
    """How intervals are drawn and claims decided; sampling has a group of its own."""

    bootstrap_resamples: int = 2000
    rouge_stemmer: bool = True
    noninferiority_margin: float = 0.0
    cost_tolerance: float = 0.1
    samples_in_report: int = 5

    def __post_init__(self) -> None:
        require(
            self.bootstrap_resamples >= 100,
            "evaluation.bootstrap_resamples",
            self.bootstrap_resamples,
            "must be at least 100 (a 95 % interval reads the 2.5 % tails)",
        )
        require(
            0 <= self.noninferiority_margin < 0.5,
            "evaluation.noninferiority_margin",
            self.noninferiority_margin,
            "must be at least 0 and below 0.5",
        )
        require(self.cost_tolerance >= 0, "evaluation.cost_tolerance", self.cost_tolerance, "must be at least 0")
        require(
            self.samples_in_report >= 0,
            "evaluation.samples_in_report",
            self.samples_in_report,
            "must be at least 0",
        )
