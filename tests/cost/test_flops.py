"""The counter against FlopCounterMode, which sees every operator that runs, and against products counted by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import PreTrainedModel

from bench.arms import BY_NAME, STAGE_BY_NAME, generated
from bench.config import BudgetConfig, RunConfig
from bench.cost.flops import FlopCounter, gemm_peak, seconds_at_peak
from bench.data import SyntheticConfig
from bench.models.config import ModelConfig
from bench.pipeline.engine import Engine
from bench.pipeline.runner import prepare_data
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings

CPU = torch.device("cpu")
aten = torch.ops.aten
WHAT_THE_MODE_LACKS: dict[Any, Any] = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
    aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1],
}
"""The CPU's names of what it counts on a GPU, and addmm in place."""


@contextmanager
def both() -> Iterator[tuple[FlopCounter, FlopCounterMode]]:
    with FlopCounterMode(display=False, custom_mapping=WHAT_THE_MODE_LACKS) as mode, FlopCounter() as counter:
        yield counter, mode


def test_a_linear_layer_is_three_products_where_all_of_it_is_trained():
    layer, x = torch.nn.Linear(8, 16), torch.randn(3, 5, 8)
    product = 2 * (3 * 5) * 8 * 16

    def count(**needs: bool) -> int:
        layer.requires_grad_(needs.get("weight", False))
        with FlopCounter() as counter:
            layer(x.requires_grad_(needs.get("input", False)))
        return counter.total

    assert count() == product
    assert count(weight=True) == 2 * product
    assert count(input=True) == 2 * product
    assert count(input=True, weight=True) == 3 * product
    with torch.no_grad():
        assert count(input=True, weight=True) == product


def test_attention_is_two_products_and_five_in_its_backward():
    batch, heads, queries, keys, size = 2, 3, 5, 7, 4
    q = torch.randn(batch, heads, queries, size, requires_grad=True)
    k, v = (torch.randn(batch, heads, keys, size, requires_grad=True) for _ in range(2))
    product = 2 * batch * heads * queries * keys * size

    with both() as (counter, mode):
        F.scaled_dot_product_attention(q, k, v).sum().backward()
    with torch.no_grad(), FlopCounter() as sampling:
        F.scaled_dot_product_attention(q, k, v)

    assert counter.total == mode.get_total_flops() == 7 * product
    assert sampling.total == 2 * product


@pytest.mark.parametrize("multiply", [torch.matmul, torch.mm], ids=["matmul", "mm"])
def test_named_products(multiply: Callable[..., torch.Tensor]):
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)

    with FlopCounter() as counter:
        getattr(torch, multiply.__name__)(a, b).sum().backward()

    assert counter.total == 2 * (2 * 3 * 4 * 5)  # forward, and the gradient of a


def test_products_added_into_a_buffer():
    buffer, a, b = torch.zeros(3, 5), torch.randn(3, 4), torch.randn(4, 5)

    with FlopCounter() as counter:
        buffer.addmm_(a, b)
        torch.addmm(buffer, a, b)

    assert counter.total == 2 * (2 * 3 * 4 * 5)


def test_a_checkpoint_runs_its_forward_twice():
    layer, x = torch.nn.Linear(8, 16), torch.randn(5, 8, requires_grad=True)

    with both() as (counter, mode):
        out = checkpoint(lambda x: layer(layer.bias.new_ones(5, 8) * x).relu(), x, use_reentrant=False)
        assert isinstance(out, torch.Tensor)
        out.sum().backward()

    assert counter.total == mode.get_total_flops() == 4 * (2 * 5 * 8 * 16)


def test_flops_are_of_the_dtype_that_ran():
    layer, x, w = torch.nn.Linear(8, 16), torch.randn(4, 8), torch.randn(8, 16)
    product = 2 * 4 * 8 * 16

    with torch.no_grad(), FlopCounter() as counter:
        layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(x)
            torch.matmul(x, w)
        torch.mm(x.bfloat16(), w.bfloat16(), out=torch.empty(4, 16, dtype=torch.bfloat16))

    assert counter.by_dtype == {torch.float32: product, torch.bfloat16: 3 * product}


def test_counters_nest_and_leave_nothing_behind():
    linear, addmm_ = F.linear, torch.Tensor.addmm_
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    with pytest.raises(ZeroDivisionError), FlopCounter() as outer:
        F.linear(x, weight)
        with FlopCounter() as inner:
            F.linear(x, weight)
        raise ZeroDivisionError
    F.linear(x, weight)

    assert (outer.total, inner.total) == (2 * 48, 48)
    assert F.linear is linear
    assert torch.Tensor.addmm_ is addmm_


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_model_by_hand(implementation: str, architecture: str, make_policy: Callable[..., PreTrainedModel]):
    """2 FLOPs for every weight of the layers and the head at every token, and the attention's two products."""
    model = make_policy(architecture)
    model.set_attn_implementation(implementation)
    batch, tokens, heads = 3, 20, 2
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    by_hand = batch * tokens * 2 * weights + model.config.num_hidden_layers * 4 * batch * tokens**2 * 32
    assert model.config.num_attention_heads == heads and model.config.hidden_size == 32

    with torch.no_grad(), FlopCounter() as counter:
        model(torch.ones(batch, tokens, dtype=torch.long), use_cache=False)

    assert counter.total == by_hand


def small_run(architecture: Any, folder: Path) -> Engine:
    batch: Any = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3}
    config = RunConfig(
        data=SyntheticConfig(demonstrations=4, preference_pairs=4, judge_pairs=1, validation_pairs=1, eval_prompts=2),
        model=ModelConfig(architecture=architecture, hidden_size=32, layers=2, heads=2, vocabulary=300),
        sft=SFTSettings(**batch),
        reward=RewardSettings(**batch),
        ppo=replace(PPOSettings(**batch), ppo_epochs=2, num_mini_batches=2),
        dpo=DPOSettings(**batch),
        budget=BudgetConfig(max_prompt_tokens=256, max_completion_tokens=12, ppo_episodes=4),
        results_dir=str(folder),
    )
    data, tokenizer, _ = prepare_data(config, folder)
    return Engine(config, data, tokenizer, folder)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", pytest.param("gpt_neox", marks=pytest.mark.long)], indirect=True)
def test_every_method_is_counted_as_by_the_dispatch_mode(architecture: str, tmp_path: Path):
    """To the last product: shared prefixes, chunked heads, KV caches, networks that are not trained."""
    gemm_peak(CPU, torch.float32)  # or the mode counts its products
    engine = small_run(architecture, tmp_path)
    stages = [STAGE_BY_NAME[name] for name in ("base", "sft", "reward", "dpo", "ppo")]
    for stage in (*stages, generated(BY_NAME["ppo"])):
        name, before = stage.name, set(engine.done)
        with FlopCounterMode(display=False, custom_mapping=WHAT_THE_MODE_LACKS) as mode:
            engine.finished(stage)
        flops = sum(cost.cost.flops for done, cost in engine.done.items() if done not in before)

        assert flops == mode.get_total_flops(), name
        assert flops > 0


def test_the_peak_is_measured_once_and_faster_than_any_product():
    size = 256
    a = torch.randn(size, size)
    peak = gemm_peak(CPU, torch.float32)

    with FlopCounter() as counter:
        _ = a @ a
        gemm_peak(CPU, torch.float32)

    assert counter.total == 0
    assert gemm_peak.cache_info().hits >= 1
    assert seconds_at_peak({torch.float32: 10**9}, CPU) == pytest.approx(1e9 / peak)


def test_a_counter_says_when_a_product_has_been_counted():
    seen: list[int] = []
    counter = FlopCounter(lambda: seen.append(counter.total))
    with counter:
        torch.matmul(torch.ones(2, 3), torch.ones(3, 4))
        F.linear(torch.ones(5, 2), torch.ones(3, 2))

    assert seen == [2 * 2 * 3 * 4, 2 * 2 * 3 * 4 + 2 * 5 * 2 * 3]
