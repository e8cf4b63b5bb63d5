"""Who judges, and what the judges that are asked may be told: a server, a model in this process, people."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from bench.evaluate.judges.template import SystemRole, built_in_prompts, load_template
from bench.records import Orders
from bench.validation import require

JUDGES = ("gold", "reward_model", "openai", "local_llm", "human")
"""The kinds of judges; one of each can be named by its kind, others are instances with names of their own."""
PANEL = "panel"
"""The judge that is the majority of others."""
FROM_ENVIRONMENT = "env:"
"""How a header or a query parameter says that its value is in an environment variable."""

_KINDS_WITH_SETTINGS = ("openai", "local_llm", "human")
_PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_SECRET_NAME = re.compile(
    r"auth|api.?key|subscription.?key|secret|passw|credential|cookie|signature|(?:access|session|security).?token"
    r"|(?:^|[-_])(?:key|token|sig)$",
    re.IGNORECASE,
)
_SECRET_IN_BODY = re.compile(r"authorization|api.?key|secret|passw|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"(?:bearer|basic)\s|sk-|xox|gh[pousr]_|AKIA|eyJ", re.IGNORECASE)
_OURS = ("model", "messages", "stream", "n")  # what an answer is understood by


@dataclass(frozen=True)
class OpenAIJudgeConfig:
    """A model behind an OpenAI-compatible endpoint (`/chat/completions`). No secret is ever part of a config."""

    home: ClassVar[str] = "judge.openai"

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    extra_headers: Mapping[str, str] | None = None
    extra_query: Mapping[str, str] | None = None
    extra_body: Mapping[str, Any] | None = None
    prompt: str = "simple"
    verbatim: bool = False
    system_role: SystemRole = "system"
    compare_first: bool = True
    allow_ties: bool = False
    structured_output: Literal["off", "auto", "required"] = "off"
    temperature: float | None = 0.0
    max_answer_tokens: int = 128
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: int = 8
    timeout_s: float = 60.0
    max_attempts: int = 6
    retry_wait_s: float = 1.0
    max_wait_s: float = 600.0
    max_unparsed_in_a_row: int | None = 20
    max_requests: int | None = 10_000
    max_tokens: int | None = 10_000_000
    price_per_million_prompt_tokens: float | None = None
    price_per_million_completion_tokens: float | None = None

    def __post_init__(self) -> None:
        def check(condition: bool, name: str, rule: str) -> None:
            require(condition, f"{self.home}.{name}", getattr(self, name), rule)

        check(self.model.strip() != "", "model", "must name the model to ask")
        url = urlsplit(self.base_url)
        check(url.scheme in ("http", "https") and url.netloc != "", "base_url", "must begin with http:// or https://")
        # Not the message of `require`, which would show the password.
        require("@" not in url.netloc, f"{self.home}.base_url", "one with a user or password", "must hold no secret")
        named = self.api_key_env is None or re.fullmatch(_VARIABLE, self.api_key_env) is not None
        require(named, f"{self.home}.api_key_env", "something else", "must be the name of an environment variable")
        for name in ("extra_headers", "extra_query"):
            _require_no_secret(f"{self.home}.{name}", getattr(self, name) or {})
        for name, value in _leaves(self.extra_body or {}):
            key = f"{self.home}.extra_body.{name}"
            open_ = not isinstance(value, str) or not (_SECRET_IN_BODY.search(name) or _SECRET_VALUE.match(value))
            require(open_, key, "something else", "must hold no secret; name one in api_key_env or extra_headers")
            require(name not in _OURS, key, value, "must not be set: the judge sets it itself")
        load_template(self.prompt, f"{self.home}.prompt", verbatim=self.verbatim)
        check(self.temperature is None or self.temperature >= 0, "temperature", "must be at least 0, or null")
        for name in ("max_answer_tokens", "concurrency", "max_attempts"):
            check(getattr(self, name) >= 1, name, "must be at least 1")
        check(self.timeout_s > 0, "timeout_s", "must be above 0")
        for name in ("retry_wait_s", "max_wait_s"):
            check(getattr(self, name) >= 0, name, "must be at least 0")
        for name in ("max_unparsed_in_a_row", "max_requests", "max_tokens"):
            check(getattr(self, name) is None or getattr(self, name) >= 1, name, "must be at least 1, or null")
        for name in ("price_per_million_prompt_tokens", "price_per_million_completion_tokens"):
            check(getattr(self, name) is None or getattr(self, name) >= 0, name, "must be at least 0, or null")


@dataclass(frozen=True)
class LocalLLMJudgeConfig:
    """A causal language model in this process."""

    home: ClassVar[str] = "judge.local_llm"

    name: str
    kind: Literal["wheel", "hub"] = "hub"
    revision: str | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    prompt: str = "simple"
    verbatim: bool = False
    compare_first: bool = True
    allow_ties: bool = False
    method: Literal["likelihood", "text"] = "likelihood"
    position: Literal["as_shown", "free"] = "as_shown"
    offset: float = 0.0
    tie_margin: float = 0.0
    max_answer_tokens: int = 128
    max_unparsed_in_a_row: int | None = 20
    batch_size: int = 8

    def __post_init__(self) -> None:
        def check(condition: bool, name: str, rule: str) -> None:
            require(condition, f"{self.home}.{name}", getattr(self, name), rule)

        check(self.name.strip() != "", "name", "must name a model")
        check(self.kind in ("wheel", "hub"), "kind", "must be wheel or hub")
        check(self.precision in ("auto", "fp32", "bf16"), "precision", "must be auto, fp32 or bf16")
        load_template(self.prompt, f"{self.home}.prompt", verbatim=self.verbatim)
        check(self.method in ("likelihood", "text"), "method", "must be likelihood or text")
        by_text = self.method == "text"
        check(by_text or not self.allow_ties, "allow_ties", "must be false with method=likelihood; set tie_margin")
        check(self.position in ("as_shown", "free"), "position", "must be as_shown or free")
        check(not by_text or self.position == "as_shown", "position", "must be as_shown with method=text")
        check(self.position == "as_shown" or self.offset == 0, "offset", "must be 0 with position=free, which has none")
        check(self.tie_margin >= 0, "tie_margin", "must be at least 0 (nats)")
        check(
            self.max_unparsed_in_a_row is None or self.max_unparsed_in_a_row >= 1,
            "max_unparsed_in_a_row",
            "must be at least 1, or null",
        )
        for name in ("max_answer_tokens", "batch_size"):
            check(getattr(self, name) >= 1, name, "must be at least 1")


@dataclass(frozen=True)
class HumanJudgeConfig:
    """People, asked through a file."""

    home: ClassVar[str] = "judge.human"

    verdicts: str = "human/verdicts.csv"

    def __post_init__(self) -> None:
        known = self.verdicts.endswith((".csv", ".jsonl"))
        require(known, f"{self.home}.verdicts", self.verdicts, "must be a .csv or .jsonl file")


JudgeSettings = OpenAIJudgeConfig | LocalLLMJudgeConfig | HumanJudgeConfig


@dataclass(frozen=True)
class JudgeInstance:
    """A judge with a name of its own: the settings of one kind."""

    openai: OpenAIJudgeConfig | None = None
    local_llm: LocalLLMJudgeConfig | None = None
    human: HumanJudgeConfig | None = None


@dataclass(frozen=True)
class JudgeSpec:
    """One judge of a run. `key` is where its settings are, for messages; gold and reward_model have none."""

    name: str
    kind: str
    key: str
    settings: JudgeSettings | None


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges, how often each pair is shown, and the settings of the judges that have some."""

    names: tuple[str, ...] = ("gold", "reward_model")
    orders: Orders = "both"
    panel: tuple[str, ...] | None = None
    openai: OpenAIJudgeConfig | None = None
    local_llm: LocalLLMJudgeConfig | None = None
    human: HumanJudgeConfig | None = None
    instances: Mapping[str, JudgeInstance] | None = None

    def __post_init__(self) -> None:
        require(not isinstance(self.names, str), "judge.names", self.names, "must be a list of judges")
        object.__setattr__(self, "names", tuple(self.names))  # YAML gives a list, which cannot be hashed
        instances = self.instances or {}
        for name, instance in instances.items():
            key = f"judge.instances.{name}"
            require(
                re.fullmatch(_PLAIN_NAME, name) is not None, key, name, "must be a plain name (letters, digits, _ -)"
            )
            require(name not in (*JUDGES, PANEL, "reference"), key, name, "must not be the name of something else")
            given = [kind for kind in _KINDS_WITH_SETTINGS if getattr(instance, kind) is not None]
            require(len(given) == 1, key, given, f"must hold the settings of one of {', '.join(_KINDS_WITH_SETTINGS)}")
        require(len(self.names) >= 1, "judge.names", self.names, "must name at least one judge")
        for name in self.names:
            known = (*JUDGES, *instances)
            require(name in known, "judge.names", name, f"must be among {', '.join(known)}")
        require(len(set(self.names)) == len(self.names), "judge.names", self.names, "must name each judge once")
        require(self.orders in ("both", "one"), "judge.orders", self.orders, "must be 'both' or 'one'")
        for spec in self.specs:
            has_settings = spec.kind not in _KINDS_WITH_SETTINGS or spec.settings is not None
            require(
                has_settings,
                "judge.names",
                spec.name,
                f"needs the settings {spec.key}: take them from judge={spec.name}",
            )
        # A person who has seen a pair remembers it, and a mirrored verdict would say nothing of the order.
        once = self.orders == "one" or all(spec.kind != "human" for spec in self.specs)
        require(once, "judge.orders", self.orders, "must be 'one' with the judge human")
        if self.panel is not None:
            members = tuple(self.panel)
            object.__setattr__(self, "panel", members)
            is_several = len(set(members)) == len(members) >= 2
            require(is_several, "judge.panel", members, "must name at least two judges, each once, or be null")
            strangers = [name for name in members if name not in self.names]
            require(not strangers, "judge.panel", strangers, f"must be among judge.names ({', '.join(self.names)})")

    @property
    def specs(self) -> list[JudgeSpec]:
        """The judges of `names`, in that order."""
        return [self._spec(name) for name in self.names]

    def only(self, name: str) -> "JudgeConfig":
        """One of the judges alone, without what is said of the others."""
        asked = {kind: getattr(self, kind) if kind == name else None for kind in _KINDS_WITH_SETTINGS}
        instances = {name: self.instances[name]} if self.instances and name in self.instances else None
        return replace(self, names=(name,), panel=None, instances=instances, **asked)

    def about(self, text: str) -> "JudgeConfig":
        """The judges with the shipped prompts for another kind of text (`simple_news` for `simple`); a prompt file of
        the user's own is asked as it is."""

        def told(settings: Any) -> Any:
            other = f"{getattr(settings, 'prompt', '')}_{text}"
            return replace(settings, prompt=other) if other in built_in_prompts() else settings

        instances = {
            name: replace(instance, openai=told(instance.openai), local_llm=told(instance.local_llm))
            for name, instance in (self.instances or {}).items()
        }
        asked = {kind: told(getattr(self, kind)) for kind in ("openai", "local_llm")}
        return replace(self, **asked, instances=instances or self.instances)

    def _spec(self, name: str) -> JudgeSpec:
        instance = (self.instances or {}).get(name)
        if instance is None:
            return JudgeSpec(name, name, f"judge.{name}", getattr(self, name, None))
        kind = next(kind for kind in _KINDS_WITH_SETTINGS if getattr(instance, kind) is not None)
        return JudgeSpec(name, kind, f"judge.instances.{name}.{kind}", getattr(instance, kind))

    @staticmethod
    def before_binding(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The config file's values, each instance completed: what it does not set is as in `judge.<kind>`."""
        instances = values.get("instances")
        if not isinstance(instances, Mapping):
            return values
        completed = {
            name: {
                kind: {**(values.get(kind) or {}), **own} if isinstance(own, Mapping) else own
                for kind, own in instance.items()
            }
            if isinstance(instance, Mapping)
            else instance
            for name, instance in instances.items()
        }
        return {**values, "instances": completed}


def _require_no_secret(key: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if value.startswith(FROM_ENVIRONMENT):
            named = re.fullmatch(_VARIABLE, value.removeprefix(FROM_ENVIRONMENT)) is not None
            require(named, f"{key}.{name}", "something else", "must name an environment variable behind env:")
            continue
        is_open = not _SECRET_NAME.search(name) and not _SECRET_VALUE.match(value)
        rule = "must be env:NAME, the name of the environment variable that holds it"
        require(is_open, f"{key}.{name}", "something else", rule)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
