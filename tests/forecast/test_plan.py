"""Plans: times from speeds, what is cached taken off, what does not fit refused with the nearest that does."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from forecast_world import CONFIG

from bench.config import RunConfig
from bench.errors import ConfigError, ResourceError
from bench.forecast.fit import PARAMETERS, require_fit, scaled
from bench.forecast.hardware import MEMORY_GIB, Hardware, elsewhere
from bench.forecast.judging import Asked
from bench.forecast.memory import GIB
from bench.forecast.plan import Item, plan
from bench.forecast.rows import RunRows
from bench.forecast.shape import ModelShape
from bench.forecast.speeds import Speeds, keep, kept
from bench.forecast.table import one_line, table
from bench.forecast.work import Counting, Work
from bench.train.settings.samples import SamplesSettings

SPEEDS = Speeds(
    flops_per_s={"sft": 1e9, "reward": 2e9, "policy": 4e9, "score": 8e9, "head": 16e9},
    decode_step_s=0.001,
    decode_row_s=0.0001,
    stepped_s=1e-9,
    read_s=0.01,
    setup_s=0.5,
    process_gib=0.5,
    source="by hand",
)
STAGES = ("base", "sft", "reward", "ppo", "dpo", "generate_sft", "evaluation")


def of(capacity_gib: float) -> Hardware:
    return Hardware("the device", capacity_gib * GIB, SPEEDS.source, SPEEDS)


def items(rows: RunRows, config: RunConfig = CONFIG, cached: tuple[str, ...] = ()) -> list[Item]:
    return [Item(stage, config, rows, stage in cached) for stage in STAGES]


def test_seconds_are_the_sum_of_what_each_kind_takes():
    work = Work(sft=1e9, reward=1e9, policy=1e9, score=1e9, head=16e8, decode=9e99, decode_steps=10, decode_rows=100)
    other = Work(stepped=1e8, rows_read=20, optimizer_steps=99, tokens_trained=99)

    assert SPEEDS.seconds(work) == pytest.approx(1 + 0.5 + 0.25 + 0.125 + 0.1 + 0.01 + 0.01 + 0.5)
    assert SPEEDS.seconds(work + other) == pytest.approx(SPEEDS.seconds(work) + 0.1 + 0.2)


def test_speeds_are_kept(tmp_path):
    assert kept(tmp_path / "speeds.json") is None
    keep(SPEEDS, tmp_path / "speeds.json")
    assert kept(tmp_path / "speeds.json") == SPEEDS


def test_the_cache_is_taken_off(rows: RunRows, shape: ModelShape):
    whole, less = (plan(items(rows, cached=c), shape, of(8), False) for c in ((), ("base", "sft")))

    saved = sum(stage.seconds for stage in whole.stages if stage.name in ("base", "sft"))
    assert whole.seconds - less.seconds == pytest.approx(saved)
    assert whole.disk - less.disk == 2 * 4 * shape.parameters
    assert "2 of 7 stages are in the cache" in one_line(less)
    assert [line.split()[1] for line in table(less).splitlines() if line.startswith(("base", "sft"))] == ["cached"] * 2


@pytest.mark.parametrize(("bf16", "lora_rank", "models"), [(False, 0, 3), (True, 0, 2), (True, 4, 1)])
def test_the_moments_to_choose_from_are_on_the_disk(
    rows: RunRows, shape: ModelShape, bf16: bool, lora_rank: int, models: float
):
    """Of the moments 0, 1, 2, 3 the first is the SFT model and the last what the training leaves, in fp32; the two
    others are kept as they run, or as adapters, which are small."""
    watched = SamplesSettings(points=3, keep_best="gold")
    config = replace(CONFIG, samples_in_training=watched, dpo=replace(CONFIG.dpo, lora_rank=lora_rank))
    todo = [Item(stage, config, rows, False) for stage in ("dpo", "best_dpo_by_gold")]
    training, choice = plan(todo, shape, of(8), bf16).stages
    assert (training.disk, choice.disk) == (models * 4 * shape.parameters, 4 * shape.parameters)
    assert choice.memory.weights == 4 * shape.parameters


def test_a_stage_at_several_cells_is_one_row(rows: RunRows, shape: ModelShape):
    three = [Item("generate_sft", CONFIG, rows, is_cached) for is_cached in (False, False, True)]
    one = plan(three[:1], shape, of(8), False)

    (stage,) = plan(three, shape, of(8), False).stages

    assert (stage.times, stage.cached) == (3, 1)
    assert stage.seconds == pytest.approx(2 * one.seconds)
    assert stage.memory == one.stages[0].memory


def test_totals(rows: RunRows, shape: ModelShape):
    found = plan(items(rows), shape, of(8), False, [Asked("openai", 100, 5000, 1000, 0.25)] * 2, start_s=7.0)

    assert found.seconds == pytest.approx(7 + sum(stage.seconds for stage in found.stages))
    assert found.highest.memory.total == max(stage.memory.total for stage in found.stages)
    assert found.highest.memory.process == 0.5 * GIB
    assert "judge openai: at most 200 questions, 0.50 $" in one_line(found)
    assert "by hand" in table(found) and one_line(found).startswith("plan: about ")


def test_elsewhere_time_is_flops_over_a_share_of_the_peak(rows: RunRows, shape: ModelShape):
    h100 = elsewhere("h100", mfu=0.3)

    assert h100.name == "h100_sxm" and "30%" in h100.basis and "989.4" in h100.basis
    work = Counting(CONFIG, shape, rows, True).of("dpo")
    assert h100.seconds(work) == pytest.approx(work.flops / (0.3 * 989.4e12))
    assert plan(items(rows), shape, h100, True).highest.memory.process == 0
    assert MEMORY_GIB[elsewhere("l4", 0.3).name] == 24
    with pytest.raises(ConfigError, match=r"plan\.hardware must be here or among a100_sxm.*got 'tpu'"):
        elsewhere("tpu", 0.3)


def large(shape: ModelShape, parameters: float) -> ModelShape:
    return scaled(shape, parameters / shape.parameters)


def refusal(rows: RunRows, shape: ModelShape, gib: float, config: RunConfig = CONFIG) -> str:
    run = items(rows, config)
    with pytest.raises(ResourceError) as error:
        require_fit(plan(run, shape, of(gib), True), run, shape, True)
    return str(error.value)


def test_what_fits_is_not_refused(rows: RunRows, shape: ModelShape):
    run = items(rows)

    require_fit(plan(run, shape, of(8), True), run, shape, True)


def test_a_smaller_micro_batch_is_the_nearest(rows: RunRows, shape: ModelShape, make_config: Callable[..., RunConfig]):
    wide = make_config(dpo=replace(CONFIG.dpo, batch_size=8, micro_batch_size=8))
    dpo, ppo = (
        next(s.memory.total for s in plan(items(rows, wide), shape, of(8), True).stages if s.name == name)
        for name in ("dpo", "ppo")
    )
    assert dpo > ppo

    assert "the nearest that fits: dpo.micro_batch_size=4" in refusal(rows, shape, (dpo - 1000) / GIB, wide)


def test_then_ppo_with_less_then_a_smaller_model(rows: RunRows, shape: ModelShape):
    billions = large(shape, 2.78e9)

    # Full PPO holds 36 bytes a parameter: 93 GiB. SFT, the reward model and DPO hold 18 to 20.
    shared = refusal(rows, billions, 90)
    assert shared.startswith("ppo needs 9") and "GiB of memory, and the device has 90.0 to use" in shared
    assert shared.endswith("the nearest that fits: ppo.value_model=shared")
    one = {group: replace(getattr(CONFIG, group), micro_batch_size=1) for group in ("sft", "reward", "dpo")}
    least = replace(CONFIG, **one, ppo=replace(CONFIG.ppo, value_model="shared", micro_batch_size=1))
    # 22 bytes, 57 GiB, where DPO holds 20, 52 GiB.
    assert refusal(rows, billions, 57, least).endswith("the nearest that fits: ppo.lora_rank=16")
    assert refusal(rows, billions, 40).endswith("model=pythia_1b")  # 36 bytes for 1.01e9: 34 GiB
    assert refusal(rows, billions, 0.51).endswith("no smaller model of conf/model fits either")


def test_models_to_fall_back_on_are_those_of_conf():
    from bench.cli.conf_dir import conf_dir

    named = {path.stem for path in (conf_dir() / "model").glob("*.yaml")}
    assert set(PARAMETERS) <= named
    assert list(PARAMETERS.values()) == sorted(PARAMETERS.values(), reverse=True)
