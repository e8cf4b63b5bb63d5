"""The work that is counted ahead is what the counter counts when it is done; steps and rows are simulated by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from forecast_world import CONFIG
from transformers import PreTrainedModel

from bench.config import RunConfig
from bench.cost.flops import FlopCounter
from bench.evaluate.best_of_n import BestOfNSettings
from bench.forecast.decoding import _one, decoding
from bench.forecast.rows import Rows, RunRows, of_further_cell
from bench.forecast.shape import ModelShape, shape_of
from bench.forecast.work import EVALUATION, Counting
from bench.forward import completion_hidden, lm_head, token_logps_and_entropy
from bench.generation import sample
from bench.models import tiny
from bench.special_tokens import pad_id
from bench.train.pairs import pair_rows, pair_tokens
from bench.train.settings.samples import SamplesSettings


@pytest.fixture
def model(prepared) -> PreTrainedModel:
    """As wide as the built-in model, so that attention's share of the work is a usual one."""
    return tiny.build(replace(CONFIG.model, hidden_size=128), prepared[1], seed=0)


@pytest.fixture
def counting(model: PreTrainedModel, rows: RunRows) -> Counting:
    return Counting(CONFIG, shape_of(model.config), rows, bf16=False)


def counted(work: Callable[[], Any]) -> int:
    with FlopCounter() as counter:
        work()
    return counter.total


def test_a_pass_over_pairs_is_what_is_counted(counting: Counting, prepared, model):
    data, tokenizer, _ = prepared
    pairs = data.preferences["train"]
    batch = pair_rows([pair_tokens(tokenizer, pair) for pair in pairs], pad_id(tokenizer), torch.device("cpu"))
    passes = counting.passes(counting.rows.pairs, pairs=True)

    assert counting.rows.pairs.count == len(pairs)
    assert passes.trained() == pytest.approx(
        counted(lambda: completion_hidden(model.base_model, batch, pairs=True)), rel=0.05
    )
    with torch.no_grad():
        forward = counted(lambda: completion_hidden(model.base_model, batch, pairs=True))
        alone = counted(lambda: completion_hidden(model.base_model, batch))
    assert passes.forward == pytest.approx(forward, rel=0.05)
    assert counting.passes(counting.rows.pairs).forward == pytest.approx(alone, rel=0.05)


def test_the_head_is_run_four_times_in_training(counting: Counting, prepared, model):
    data, tokenizer, _ = prepared
    pairs = [pair_tokens(tokenizer, pair) for pair in data.preferences["train"]]
    batch = pair_rows(pairs, pad_id(tokenizer), torch.device("cpu"))
    hidden = torch.randn(int(batch.completion_mask.sum()), 128, requires_grad=True)

    def learn() -> None:
        token_logps_and_entropy(hidden, lm_head(model), batch)[0].sum().backward()

    assert 4 * counting.head(counting.rows.pairs.completion_tokens) == counted(learn)


def test_sampling_is_what_is_counted(counting: Counting, prepared, model):
    data, tokenizer, _ = prepared
    prompts = [tokenizer(prompt.prompt).input_ids for prompt in data.eval_prompts]

    def draw() -> None:
        sample(
            model, prompts, max_new_tokens=16, eos_token_id=-1, pad_token_id=0, temperature=1.0,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    work = counting._sampling(counting.rows.prompts, len(prompts), 64, unlimited=True)

    assert work.score + work.decode == pytest.approx(counted(draw), rel=0.05)
    assert (work.decode_steps, work.decode_rows) == (15, 15 * len(prompts))  # the last token is drawn and not run


def test_rows_leave_a_batch_when_a_quarter_has_ended():
    assert _one(np.array([5, 5, 5, 5])) == (4, 16, 4 * (1 + 2 + 3 + 4))
    assert _one(np.array([1, 1, 1, 5])) == (4, 4, 1 + 2 + 3 + 4)  # three leave before the first step
    assert _one(np.array([2, 6, 6, 6, 6])) == (5, 5 + 5 + 5 + 5 + 5, 5 * (1 + 2 + 3 + 4 + 5))  # a fifth stays
    assert decoding(np.array([3]), batch=7) == (2, 14, 21)


def test_optimizer_steps_are_those_of_the_trainers(shape: ModelShape, rows: RunRows):
    counting = Counting(CONFIG, shape, rows, bf16=False)
    dpo = counting.of("dpo")
    assert dpo.optimizer_steps == math.ceil(counting.rows.pairs.count / 8)
    assert dpo.stepped == dpo.optimizer_steps * shape.parameters
    rloo = replace(CONFIG.rloo, batch_size=8, micro_batch_size=4)
    once, twice = (
        Counting(replace(CONFIG, rloo=replace(rloo, num_iterations=n)), shape, rows, bf16=False).of("rloo")
        for n in (1, 2)
    )
    assert once.optimizer_steps == 2 and twice.optimizer_steps == 4  # of 16 episodes
    assert twice.policy == 2 * once.policy and twice.decode == once.decode and twice.score == once.score
    # 16 episodes are two updates of 8, two passes each, a step of policy and of value model.
    assert counting.of("ppo").optimizer_steps == 2 * 2 * 2


def test_twice_the_epochs_twice_the_work(make_config: Callable[..., RunConfig], shape: ModelShape, rows: RunRows):
    twice = make_config(budget=replace(CONFIG.budget, sft_epochs=2.0))
    one, two = (Counting(config, shape, rows, False).of("sft") for config in (CONFIG, twice))

    assert two.sft == 2 * one.sft and two.optimizer_steps == 2 * one.optimizer_steps


def test_what_a_setting_saves_is_taken_off(make_config: Callable[..., RunConfig], shape: ModelShape, rows: RunRows):
    def flops(stage: str, bf16: bool = False, **ppo: Any) -> float:
        config = make_config(ppo=replace(CONFIG.ppo, **ppo))
        return Counting(config, shape, rows, bf16).of(stage).flops

    assert flops("ppo", lora_rank=4) < flops("ppo") < flops("ppo", kl="full")
    assert flops("ppo", value_model="shared") < flops("ppo")
    one = Counting(make_config(ppo=replace(CONFIG.ppo, critic_warmup_updates=1)), shape, rows, False).of("ppo")
    both = Counting(CONFIG, shape, rows, False).of("ppo")
    # Of two updates of two passes the policy learns in one.
    assert one.optimizer_steps == both.optimizer_steps - 2 and one.policy == pytest.approx(0.75 * both.policy)
    assert one.head < both.head and one.score == both.score
    assert flops("reference_logps", bf16=True) == 0 < flops("reference_logps")  # then it runs beside the policy:
    assert flops("dpo", bf16=True) == pytest.approx(flops("dpo") + flops("reference_logps"))
    assert flops("base") == 0


def test_best_of_n_samples_n(make_config: Callable[..., RunConfig], shape: ModelShape, rows: RunRows):
    config = make_config(best_of_n=BestOfNSettings(n=4), arms=("sft", "best_of_n"))

    work = Counting(config, shape, rows, False).of("best_of_n")

    per_sample = float(np.minimum(rows.written, 16).mean())
    assert work.tokens_generated == pytest.approx(4 * rows.prompts.count * per_sample, rel=0.2)
    assert work.rows_read == 4 * rows.prompts.count


def test_samples_in_training_are_counted(make_config: Callable[..., RunConfig], shape: ModelShape, rows: RunRows):
    """Two updates of PPO and three moments (before, after each); each is the sampling of as many prompts."""
    watched = make_config(
        samples_in_training=SamplesSettings(points=12, prompts=3, temperature=CONFIG.sampling.temperature)
    )
    before, after = (Counting(config, shape, rows, False) for config in (CONFIG, watched))
    few = Counting(CONFIG, shape, replace(rows, prompts=rows.held_out.first(3)), False)

    assert after.moments("ppo") == 3 and after.moments("sft") == 0 == before.moments("ppo")
    more = after.of("ppo").flops - before.of("ppo").flops
    assert more == pytest.approx(3 * few.of("generate_ppo").flops)
    assert after.of(EVALUATION).score > before.of(EVALUATION).score
    cell = Counting(watched, shape, of_further_cell(rows), False)
    assert cell.of(EVALUATION) == Counting(CONFIG, shape, of_further_cell(rows), False).of(EVALUATION)


def test_rollouts_are_on_the_posts_that_the_setting_names(prepared, shape: ModelShape, rows: RunRows):
    data, _, _ = prepared
    pairs, shown = ({row.prompt for row in data.rows(place)} for place in ("preferences/train", "demonstrations/train"))

    counts = {on: posts.count for on, posts in rows.posts.items()}
    assert counts == {"pairs": len(pairs), "demonstrations": len(shown), "both": len(pairs | shown)}
    parts = (rows.pairs, rows.demonstrations)
    mean = sum(part.count * part.prompt.mean() for part in parts) / sum(part.count for part in parts)
    assert rows.posts["both"].prompt.mean() == pytest.approx(mean, rel=0.02)
    # Longer posts, more work.
    longer = replace(rows.posts["pairs"], prompt=2 * rows.posts["pairs"].prompt)
    some = replace(rows, posts={**rows.posts, "both": longer})
    both = replace(CONFIG, ppo=replace(CONFIG.ppo, prompts="both"), rloo=replace(CONFIG.rloo, prompts="both"))
    for stage in ("ppo", "rloo"):
        assert Counting(both, shape, some, False).of(stage).flops > Counting(CONFIG, shape, some, False).of(stage).flops


def test_no_rows_no_work(shape: ModelShape, rows: RunRows):
    none = Rows(0, np.array([], dtype=np.int64), (np.array([], dtype=np.int64),) * 2)

    counting = Counting(CONFIG, shape, replace(rows, judge_pairs=none), False)

    assert counting.passes(none, pairs=True).forward == 0
    assert counting.of("judge_reward").reward == 0
