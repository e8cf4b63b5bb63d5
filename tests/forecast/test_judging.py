"""Questions counted by hand: duels x prompts x orders, and what they cost."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.config import RunConfig
from bench.evaluate.best_of_n import BestOfNSettings
from bench.evaluate.judges.config import JudgeConfig, LocalLLMJudgeConfig, OpenAIJudgeConfig
from bench.forecast.judging import Asked, asked


def openai(**settings: object) -> JudgeConfig:
    return JudgeConfig(names=("openai",), openai=OpenAIJudgeConfig(model="m", **settings))  # pyright: ignore


def test_every_arm_meets_the_reference_and_every_other(prepared, make_config: Callable[..., RunConfig]):
    data, _, _ = prepared  # 6 prompts

    (one,) = asked(make_config(judge=openai(), arms=("base", "sft", "ppo", "dpo")), data)

    assert one.requests == (4 + 6) * 6 * 2
    assert one.answer_tokens == one.requests * 128
    assert one.dollars is None


def test_smaller_n_and_a_single_order(prepared, make_config: Callable[..., RunConfig]):
    data, _, _ = prepared
    config = make_config(
        judge=replace(openai(), orders="one"), arms=("sft", "best_of_n"), best_of_n=BestOfNSettings(n=8)
    )

    assert asked(config, data)[0].requests == (2 + 3 + 1) * 6  # best of 1, 2 and 4 meet the reference too


def test_money(prepared, make_config: Callable[..., RunConfig]):
    data, _, _ = prepared
    priced = openai(price_per_million_prompt_tokens=2.0, price_per_million_completion_tokens=10.0)

    (one,) = asked(make_config(judge=priced), data)

    assert one.dollars == pytest.approx((2 * one.prompt_tokens + 10 * one.answer_tokens) / 1e6)
    texts = sum(len(p.prompt) + 2 * len(p.reference) for p in data.eval_prompts) / 6
    assert one.prompt_tokens > one.requests * texts / 3  # and the question around them


def test_judges_that_score_are_not_asked(prepared, make_config: Callable[..., RunConfig]):
    data, _, _ = prepared
    local = JudgeConfig(names=("gold", "local_llm"), local_llm=LocalLLMJudgeConfig(name="m"))

    assert asked(make_config(), data) == []
    assert [(one.judge, one.answer_tokens) for one in asked(make_config(judge=local), data)] == [("local_llm", 0)]


def test_cells_add_up():
    assert Asked("j", 1, 2, 3, 0.5) + Asked("j", 10, 20, 30, 1.0) == Asked("j", 11, 22, 33, 1.5)
    assert (Asked("j", 1, 2, 3, 0.5) + Asked("j", 1, 1, 1, None)).dollars is None
