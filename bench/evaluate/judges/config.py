"""Who judges, and what the judges that are asked may be told: a server, a model in this process, people."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from bench.evaluate.judges.template import load_template
from bench.records import Orders
from bench.validation import require

JUDGES = ("gold", "reward_model", "openai", "local_llm", "human")


@dataclass(frozen=True)
class OpenAIJudgeConfig:
    """A model behind an OpenAI-compatible endpoint (`/chat/completions`). The key itself is never part of a config."""

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    prompt: str = "simple"
    compare_first: bool = True
    temperature: float | None = 0.0
    max_answer_tokens: int = 128
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: int = 8
    timeout_s: float = 60.0
    max_attempts: int = 6
    retry_wait_s: float = 1.0
    max_requests: int | None = 10_000
    max_tokens: int | None = 10_000_000
    price_per_million_prompt_tokens: float | None = None
    price_per_million_completion_tokens: float | None = None

    def __post_init__(self) -> None:
        def check(condition: bool, name: str, rule: str) -> None:
            require(condition, f"judge.openai.{name}", getattr(self, name), rule)

        check(self.model.strip() != "", "model", "must name the model to ask")
        url = urlsplit(self.base_url)
        check(url.scheme in ("http", "https") and url.netloc != "", "base_url", "must begin with http:// or https://")
        # Not the message of `require`, which would show the password.
        require("@" not in url.netloc, "judge.openai.base_url", "one with a user or password", "must hold no secret")
        named = self.api_key_env is None or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env) is not None
        require(named, "judge.openai.api_key_env", "something else", "must be the name of an environment variable")
        load_template(self.prompt, "judge.openai.prompt")
        check(self.temperature is None or self.temperature >= 0, "temperature", "must be at least 0, or null")
        for name in ("max_answer_tokens", "concurrency", "max_attempts"):
            check(getattr(self, name) >= 1, name, "must be at least 1")
        check(self.timeout_s > 0, "timeout_s", "must be above 0")
        check(self.retry_wait_s >= 0, "retry_wait_s", "must be at least 0")
        for name in ("max_requests", "max_tokens"):
            check(getattr(self, name) is None or getattr(self, name) >= 1, name, "must be at least 1, or null")
        for name in ("price_per_million_prompt_tokens", "price_per_million_completion_tokens"):
            check(getattr(self, name) is None or getattr(self, name) >= 0, name, "must be at least 0, or null")


@dataclass(frozen=True)
class LocalLLMJudgeConfig:
    """A causal language model in this process."""

    name: str
    kind: Literal["wheel", "hub"] = "hub"
    revision: str | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    prompt: str = "simple"
    compare_first: bool = True
    method: Literal["likelihood", "text"] = "likelihood"
    tie_margin: float = 0.0
    max_answer_tokens: int = 128
    batch_size: int = 8

    def __post_init__(self) -> None:
        def check(condition: bool, name: str, rule: str) -> None:
            require(condition, f"judge.local_llm.{name}", getattr(self, name), rule)

        check(self.name.strip() != "", "name", "must name a model")
        check(self.kind in ("wheel", "hub"), "kind", "must be wheel or hub")
        check(self.precision in ("auto", "fp32", "bf16"), "precision", "must be auto, fp32 or bf16")
        load_template(self.prompt, "judge.local_llm.prompt")
        check(self.method in ("likelihood", "text"), "method", "must be likelihood or text")
        check(self.tie_margin >= 0, "tie_margin", "must be at least 0 (nats)")
        for name in ("max_answer_tokens", "batch_size"):
            check(getattr(self, name) >= 1, name, "must be at least 1")


@dataclass(frozen=True)
class HumanJudgeConfig:
    """People, asked through a file."""

    verdicts: str = "human/verdicts.csv"

    def __post_init__(self) -> None:
        known = self.verdicts.endswith((".csv", ".jsonl"))
        require(known, "judge.human.verdicts", self.verdicts, "must be a .csv or .jsonl file")


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
