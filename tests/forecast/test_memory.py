"""Each term of the memory formula against the bytes of real tensors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from forecast_world import CONFIG
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.config import RunConfig
from bench.forecast.memory import Sizing
from bench.forecast.rows import Rows, RunRows
from bench.forecast.shape import ModelShape, saved_bytes, shape_of
from bench.forward import completion_hidden
from bench.kv_cache import prefill
from bench.models import tiny
from bench.models.loading import RewardModel, to_bf16_weights
from bench.special_tokens import pad_id
from bench.train.master_weights import MasterWeights
from bench.train.pairs import pair_rows, pair_tokens
from bench.train.ppo_models import PPOModels, ppo_models
from bench.train.ppo_update import PPOUpdate
from bench.train.ranks import Ranks

PROCESS = 1000.0


def sizing(shape: ModelShape, rows: RunRows, bf16: bool = False, config: RunConfig = CONFIG) -> Sizing:
    return Sizing(config, shape, rows, bf16, PROCESS)


def bytes_of(tensors: object) -> int:
    return sum(t.untyped_storage().nbytes() for t in {id(t): t for t in tensors}.values())  # pyright: ignore


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of what an optimizer keeps beside the parameters; its step counts, a number each, left out."""
    inner = optimizer.inner if isinstance(optimizer, MasterWeights) else optimizer
    states = [t for state in inner.state.values() for t in state.values() if torch.is_tensor(t) and t.numel() > 1]
    return bytes_of(states) + (bytes_of(optimizer.masters) if isinstance(optimizer, MasterWeights) else 0)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["adamw", "rmsprop"])
def test_optimizer_and_gradients_of_one_network(
    bf16: bool, kind: str, rows: RunRows, make_policy: Callable[..., PreTrainedModel]
):
    model = make_policy()
    shape = shape_of(model.config)
    inner = torch.optim.AdamW(model.parameters()) if kind == "adamw" else torch.optim.RMSprop(model.parameters())
    optimizer = MasterWeights(inner) if bf16 else inner
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.arange(5, 25)[None]).logits.sum().backward()
        gradients = bytes_of(p.grad for p in model.parameters())
        optimizer.step()
    settings = replace(CONFIG.dpo, optimizer=kind, micro_batch_size=4)  # pyright: ignore[reportArgumentType]
    terms = sizing(shape, rows, bf16, replace(CONFIG, reward=settings)).of("reward")

    assert terms.weights == bytes_of(model.parameters())
    assert terms.optimizer == pytest.approx(state_bytes(optimizer), rel=0.01)
    assert terms.gradients == gradients == 4 * shape.parameters
    assert terms.process == PROCESS


@pytest.mark.parametrize("bf16", [False, True])
def test_full_ppo_holds_36_bytes_a_parameter(
    bf16: bool,
    rows: RunRows,
    make_policy: Callable[..., PreTrainedModel],
    make_classifier: Callable[..., PreTrainedModel],
):
    models = _ppo_models(make_policy, make_classifier, bf16)
    learner = PPOUpdate(models, CONFIG.ppo, updates=1, temperature=1.0, bf16=bf16, ranks=Ranks())
    for name, network in models.trained.items():
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter, dtype=torch.float32)
        gradients = bytes_of(p.grad for p in network.parameters())
        learner.optimizers[name].step()
        learner.optimizers[name].zero_grad(set_to_none=True)
    networks = [models.policy, models.ref_policy, models.reward.model, models.value]
    held = bytes_of(p for network in networks if network is not None for p in network.parameters())
    held += sum(map(state_bytes, learner.optimizers.values())) + gradients

    shape = shape_of(models.policy.config)
    terms = sizing(shape, rows, bf16).of("ppo")

    assert terms.weights + terms.optimizer + terms.gradients == 36 * shape.parameters
    assert held == pytest.approx(36 * shape.parameters, rel=0.01)  # the heads of one row are left out


def _ppo_models(
    make_policy: Callable[..., PreTrainedModel], make_classifier: Callable[..., PreTrainedModel], bf16: bool
) -> PPOModels:
    policy, reference, reward, value = make_policy(), make_policy(), make_classifier(), make_classifier()
    for frozen in (reference, reward) if bf16 else ():
        to_bf16_weights(frozen)
    return ppo_models(policy, reference, RewardModel(reward), value, CONFIG.ppo, seed=0)


def test_lora_and_a_shared_value_head_hold_less(rows: RunRows, shape: ModelShape):
    def held(**changes: object) -> float:
        settings = replace(CONFIG.ppo, **changes)  # pyright: ignore[reportArgumentType]
        return sizing(shape, rows, config=replace(CONFIG, ppo=settings)).of("ppo").total

    assert held(lora_rank=4, lora_4bit=True) < held(lora_rank=4) < held(value_model="shared") < held()
    # The value model's weights and its optimizer's two numbers a parameter.
    assert held() - held(value_model="shared") == pytest.approx(12 * shape.parameters)


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_of_a_micro_batch_of_pairs(
    bf16: bool, rows: RunRows, shape: ModelShape, prepared, make_config: Callable[..., RunConfig]
):
    data, tokenizer, _ = prepared
    model = tiny.build(CONFIG.model, tokenizer, seed=0)
    if bf16:
        to_bf16_weights(model)
    batch = pair_rows([pair_tokens(tokenizer, p) for p in data.preferences["train"]], pad_id(tokenizer), model.device)
    saved = saved_bytes(lambda: completion_hidden(model.base_model, batch, pairs=True), model)
    pairs = len(data.preferences["train"])
    settings = replace(CONFIG.reward, batch_size=pairs, micro_batch_size=pairs)

    term = sizing(shape, rows, bf16, make_config(reward=settings)).of("reward").activations

    # And the layer in work. What attention pads is left out: more than usual, as rows are long here and widths small.
    assert term == pytest.approx(saved * (1 + 1 / shape.layers), rel=0.15)


def test_the_cache_of_sampling(
    rows: RunRows, shape: ModelShape, prepared: tuple[object, PreTrainedTokenizerBase, object]
):
    _, tokenizer, _ = prepared
    model = tiny.build(CONFIG.model, tokenizer, seed=0)
    prompts = [[5] * int(length) for length in rows.prompts.prompt]
    new = CONFIG.budget.max_completion_tokens

    cache, _, _ = prefill(model, prompts, new)

    layers: list[Any] = list(cache.layers)
    held = bytes_of(t for layer in layers for t in (layer._keys, layer._values))
    at_once = 2 * 4 * shape.keys * shape.layers * sum(map(len, prompts))  # beside it, while they are written
    assert sizing(shape, rows).cache(rows.prompts.prompt, len(prompts)) == pytest.approx(held + at_once)


@pytest.mark.parametrize("stage", ["ppo", "rloo"])
def test_rollouts_hold_the_cache_of_a_few(
    stage: str, rows: RunRows, shape: ModelShape, make_config: Callable[..., RunConfig]
):
    """Of 8 rollouts 2 run at once; keys and values so large that sampling is the peak."""
    wide = replace(shape, keys=10_000 * shape.keys)
    few, all_at_once = (
        make_config(sampling=replace(CONFIG.sampling, batch_size=size), budget=replace(CONFIG.budget, ppo_episodes=8))
        for size in (2, 8)
    )

    two, eight = (sizing(wide, rows, config=config) for config in (few, all_at_once))

    assert two.of(stage).cache == two.cache(rows.posts["pairs"].prompt, 2) > 0
    assert eight.of(stage).cache == eight.cache(rows.posts["pairs"].prompt, 8) > two.of(stage).cache


def test_logits_are_bounded(shape: ModelShape, rows: RunRows):
    large = replace(shape, vocabulary=2**20)

    few, many = (sizing(large, rows).logits(positions, learns=True) for positions in (10, 10**6))

    assert few == 3 * 4 * 10 * 2**20
    assert many == 3 * 4 * 16 * 2**20  # 2^24 logits at once


def test_micro_batches_are_cut_as_the_trainers_cut_them(
    rows: RunRows, shape: ModelShape, make_config: Callable[..., RunConfig]
):
    same = Rows(100, np.full(100, 50), (np.full(100, 10), np.full(100, 10)))

    def activations(**changes: object) -> float:
        settings = replace(CONFIG.dpo, batch_size=16, **changes)  # pyright: ignore[reportArgumentType]
        return sizing(shape, replace(rows, pairs=same), config=make_config(dpo=settings)).of("dpo").activations

    a_pair = sizing(shape, rows).saved(50 + 2 * 10, 60) + sizing(shape, rows).shared(50)
    assert activations(micro_batch_size=8) == pytest.approx(8 * a_pair)
    assert activations(micro_batch_size=8, micro_batch_tokens=400) == pytest.approx(3 * a_pair)  # 120 tokens each


def test_dpo_holds_its_reference_beside_it_in_bf16(rows: RunRows, shape: ModelShape):
    assert sizing(shape, rows, bf16=True).of("dpo").weights == 2 * 2 * shape.parameters
    assert sizing(shape, rows, bf16=False).of("dpo").weights == 4 * shape.parameters
    assert sizing(shape, rows, bf16=True).of("reference_logps").weights == 0


@pytest.mark.parametrize(
    "stage",
    [
        "base",
        "sft",
        "reward",
        "judge_reward",
        "ppo",
        "rloo",
        "iterated_dpo",
        "dpo",
        "best_of_n",
        "preferred_ft",
        "generate_sft",
        "evaluation",
    ],
)
def test_every_stage_has_a_size(stage: str, rows: RunRows, shape: ModelShape):
    assert sizing(shape, rows).of(stage).total > PROCESS
