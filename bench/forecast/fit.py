"""Whether a run fits into the memory there is, and the nearest one that does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.arms import STAGE_BY_NAME
from bench.errors import ResourceError
from bench.forecast.memory import GIB, Sizing
from bench.forecast.plan import Item, Plan
from bench.forecast.shape import ModelShape

if TYPE_CHECKING:
    from bench.config import RunConfig

PARAMETERS = {
    "pythia_6_9b": 6.86e9,
    "gpt_j_6b": 6.05e9,
    "pythia_2_8b": 2.78e9,
    "pythia_1b": 1.01e9,
    "qwen2_5_0_5b": 0.494e9,
    "smollm2_135m": 0.135e9,
}
"""Of the models in conf/model, the largest first."""
_RANK = 16  # of the LoRA that is proposed

Change = tuple[tuple[str, ...], Callable[["RunConfig"], "RunConfig"], float]
"""(overrides to type, what they make of the config, the size of the model as a share of the present one)."""


def require_fit(plan: Plan, items: Sequence[Item], shape: ModelShape, bf16: bool) -> None:
    """Refuse a run of which a stage does not fit into the hardware's memory.

    Raises:
        ResourceError: names the stage, and the nearest change under which all stages fit.
    """
    if plan.fits:
        return
    capacity, highest = plan.hardware.capacity, plan.highest
    process = highest.memory.process
    todo = [item for item in items if not item.is_cached]
    sizes = {item.stage: Sizing(item.config, shape, item.rows, bf16, process).of(item.stage).total for item in todo}
    short = sorted(stage for stage, size in sizes.items() if size > capacity)
    instead = "no smaller model of conf/model fits either"
    for overrides, change, share in _changes(todo[0].config, short, shape):
        smaller = shape if share == 1 else scaled(shape, share)
        largest = max(Sizing(change(i.config), smaller, i.rows, bf16, process).of(i.stage).total for i in todo)
        if largest <= capacity:
            instead = f"the nearest that fits: {' '.join(overrides)}"
            break
    raise ResourceError(
        f"{highest.name} needs {highest.memory.total / GIB:,.1f} GiB of memory, and {plan.hardware.name} has"
        f" {capacity / GIB:,.1f} to use; {instead}"
    )


def scaled(shape: ModelShape, share: float) -> ModelShape:
    """A model of `share` of the parameters, as wide as deep: widths and layers go with the third root."""
    root = share ** (1 / 3)
    return replace(
        shape,
        parameters=round(shape.parameters * share),
        layers=max(1, round(shape.layers * root)),
        hidden=round(shape.hidden * root),
        keys=round(shape.keys * root),
        saved={width: size * root**2 for width, size in shape.saved.items()},
    )


def _changes(config: "RunConfig", short: Sequence[str], shape: ModelShape) -> Iterator[Change]:
    """The nearest first: smaller micro-batches (which change nothing but speed), what PPO can do without, LoRA, a
    smaller model; each with the smallest micro-batches that are needed."""
    groups = sorted({g for name in short if name in STAGE_BY_NAME and (g := STAGE_BY_NAME[name].settings) is not None})
    samples = any(name not in STAGE_BY_NAME or name == "best_of_n" for name in short)
    smaller = list(_smaller_batches(config, groups, samples))
    yield from smaller
    last = smaller[-1] if smaller else ((), lambda c: c, 1.0)
    for words, settings in (
        (("ppo.value_model=shared",), {"value_model": "shared"}),
        ((f"ppo.lora_rank={_RANK}",), {"lora_rank": _RANK}),
        (("ppo.value_model=shared", f"ppo.lora_rank={_RANK}"), {"value_model": "shared", "lora_rank": _RANK}),
    ):
        if short == ["ppo"]:
            yield words, lambda c, s=settings: _with(c, "ppo", s), 1.0
            yield (*last[0], *words), lambda c, s=settings: _with(last[1](c), "ppo", s), 1.0
    for name, parameters in PARAMETERS.items():
        if parameters < 0.95 * shape.parameters:
            yield (f"model={name}",), lambda c: c, parameters / shape.parameters
            yield (*last[0], f"model={name}"), last[1], parameters / shape.parameters


def _smaller_batches(config: "RunConfig", groups: Sequence[str], sampling: bool) -> Iterator[Change]:
    """Halves, quarters, ... of the micro-batches of these groups, and of the rows that are sampled together."""
    rows = {group: getattr(config, group).micro_batch_size for group in groups}
    together = config.sampling.batch_size
    while any(size % 2 == 0 for size in rows.values()) or (sampling and together > 1):
        rows = {group: size // 2 if size % 2 == 0 else size for group, size in rows.items()}
        together = max(1, together // 2) if sampling else together
        words = [f"{group}.micro_batch_size={size}" for group, size in rows.items()]
        words += [f"sampling.batch_size={together}"] if sampling else []

        def change(config: "RunConfig", rows: dict[str, int] = rows, together: int = together) -> "RunConfig":
            for group, size in rows.items():
                config = _with(config, group, {"micro_batch_size": size})
            return replace(config, sampling=replace(config.sampling, batch_size=together))

        yield tuple(words), change, 1.0


def _with(config: "RunConfig", group: str, settings: dict[str, Any]) -> "RunConfig":
    return replace(config, **{group: replace(getattr(config, group), **settings)})
