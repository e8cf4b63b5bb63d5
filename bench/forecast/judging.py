"""What judges that are asked will be asked, and at which price, before anything is sampled."""

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

from bench.evaluate.best_of_n import sizes
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.config import HumanJudgeConfig, JudgeSpec, LocalLLMJudgeConfig, OpenAIJudgeConfig
from bench.evaluate.judges.openai_compatible import _BYTES_PER_TOKEN as BYTES_PER_TOKEN
from bench.evaluate.judges.template import answer_format, load_template
from bench.records import ComparisonData

if TYPE_CHECKING:
    from bench.config import RunConfig


@dataclass(frozen=True)
class Asked:
    """Of one judge, at most: equal summaries are not shown, and answers that are kept are not bought again.

    `dollars` is None where the config names no price.
    """

    judge: str
    requests: int
    prompt_tokens: int
    answer_tokens: int
    dollars: float | None

    def __add__(self, other: "Asked") -> "Asked":
        dollars = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Asked(
            self.judge,
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            dollars,
        )


def asked(config: "RunConfig", data: ComparisonData) -> list[Asked]:
    """Of each judge of a cell that is asked pair by pair: every arm against the reference summary where there is one,
    best of every smaller n too, and every two arms, in the orders that `judge.orders` says."""
    arms = len(config.arms)
    fewer = len(sizes(config.best_of_n.at(config.sampling.temperature))) - 1 if "best_of_n" in config.arms else 0
    return _of_each_judge(config, data, ((arms + fewer) * data.has_references + comb(arms, 2)) * len(data.eval_prompts))


def asked_on_the_way(config: "RunConfig", data: ComparisonData, watched: int) -> list[Asked]:
    """The same of the samples that `watched` trainers take on the way, against the reference summaries."""
    settings = config.samples_in_training
    posts = min(settings.prompts, len(data.demonstrations.get("validation", [])))
    pairs = watched * (settings.points + 1) * posts if settings.points else 0
    return _of_each_judge(config, data, pairs) if pairs else []


def _of_each_judge(config: "RunConfig", data: ComparisonData, pairs: int) -> list[Asked]:
    """About so many pairs of summaries."""
    requests = pairs * (2 if config.judge.orders == "both" else 1)
    return [_asked(spec, requests, data) for spec in config.judge.specs if spec.settings is not None]


def _asked(spec: JudgeSpec, requests: int, data: ComparisonData) -> Asked:
    """Summaries as long as the writers'."""
    settings, prompts = spec.settings, data.eval_prompts
    if isinstance(settings, HumanJudgeConfig):
        return Asked(spec.name, requests, 0, 0, None)
    assert isinstance(settings, OpenAIJudgeConfig | LocalLLMJudgeConfig)
    how = answer_format(settings.compare_first, settings.allow_ties)
    template = load_template(settings.prompt, f"{spec.key}.prompt", how, verbatim=settings.verbatim)
    frame = sum(len(message["content"].encode()) for message in template.messages(JudgeItem("", "", "", "")))
    texts = sum(len(p.prompt.encode()) + 2 * len(p.reference.encode()) for p in prompts) / max(1, len(prompts))
    prompt_tokens = round(requests * (frame + texts) / BYTES_PER_TOKEN)
    if isinstance(settings, LocalLLMJudgeConfig):
        answers = settings.max_answer_tokens if settings.method == "text" else 0
        return Asked(spec.name, requests, prompt_tokens, requests * answers, None)
    answer_tokens = requests * settings.max_answer_tokens
    prices = settings.price_per_million_prompt_tokens, settings.price_per_million_completion_tokens
    dollars = None
    if prices != (None, None):
        dollars = (prompt_tokens * (prices[0] or 0) + answer_tokens * (prices[1] or 0)) / 1e6
    return Asked(spec.name, requests, prompt_tokens, answer_tokens, dollars)
