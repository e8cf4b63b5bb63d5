"""A run's plan before it starts: the forecast put together with the data, the cells and what the cache holds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.arms import Stage
from bench.evaluate.judges.budget import RequestBudget
from bench.evaluate.judges.config import OpenAIJudgeConfig
from bench.forecast.calibration import calibrate
from bench.forecast.fit import require_fit
from bench.forecast.hardware import Hardware, elsewhere, here
from bench.forecast.judging import Asked, asked, asked_on_the_way
from bench.forecast.plan import Item, Plan, plan
from bench.forecast.rows import RunRows, of_further_cell, rows_of_run
from bench.forecast.shape import ModelShape, model_shape, transformers_config
from bench.forecast.speeds import Speeds, assumed, keep, kept, place
from bench.forecast.table import one_line
from bench.forecast.work import EVALUATION
from bench.pipeline.cells import Cell
from bench.pipeline.engine import Engine

WATCHED = {"ppo", "dpo", "rloo"}
"""Arms whose trainers take samples on the way."""


@dataclass(frozen=True)
class Ahead:
    """A plan and what it was made from."""

    plan: Plan
    items: Sequence[Item]
    shape: ModelShape
    bf16: bool

    def require_fit(self) -> None:
        """Raises ResourceError where a stage needs more memory than there is."""
        require_fit(self.plan, self.items, self.shape, self.bf16)


def plan_ahead(
    engine: Engine, cells: Sequence[Cell], stages: Sequence[Stage], hardware: str = "here", measures: bool = True
) -> Ahead:
    """The plan of a run on a device.

    Args:
        engine: with the run's config and data; it is asked for keys and builds nothing.
        cells: the headline first.
        hardware: "here", or an accelerator's name.
        measures: a few steps are measured on this machine where no such measurement is kept.

    Raises:
        ConfigError: there is no such hardware.
        ResourceError: the model's config is not to be had.
    """
    start_s = time.process_time()
    config, cache_dir = engine.config, engine.cache_dir
    shape = model_shape(config.model, engine.tokenizer, cache_dir)
    is_here = hardware == "here"
    bf16 = engine.bf16 if is_here else config.model.precision != "fp32"
    device = _here(engine, shape, measures) if is_here else elsewhere(hardware, config.cost.projected_mfu)
    items = _items(engine, cells, stages, use_cache=is_here or bf16 == engine.bf16)
    judges = _asked(cells)
    return Ahead(plan(items, shape, device, bf16, judges, start_s if is_here else 0.0), items, shape, bf16)


def require_budget(engine: Engine, cells: Sequence[Cell], stages: Sequence[Stage]) -> None:
    """Refuse a judge's budget that will not do, before anything is trained for it. Where every summary is there, what
    is left to ask is known, and the judge itself refuses.

    Raises:
        ConfigError: says how many requests or tokens it takes at most.
    """
    folders = [engine.recipe(stage, cell).folder for cell in cells for stage in stages]
    if all((folder / "stage.json").exists() for folder in folders):
        return
    asked_of = _asked(cells)
    for spec in engine.config.judge.specs:
        if isinstance(spec.settings, OpenAIJudgeConfig):
            of_judge = [one for one in asked_of if one.judge == spec.name]
            tokens = sum(one.prompt_tokens + one.answer_tokens for one in of_judge)
            RequestBudget(spec.settings, spec.key).require_room(sum(one.requests for one in of_judge), tokens)


def _asked(cells: Sequence[Cell]) -> list[Asked]:
    headline = cells[0]
    watched = len(WATCHED & {*headline.config.arms})
    on_the_way = asked_on_the_way(headline.config, headline.data, watched)
    return [*(one for cell in cells for one in asked(cell.config, cell.data)), *on_the_way]


def line_ahead(engine: Engine, cells: Sequence[Cell], stages: Sequence[Stage]) -> str:
    """The plan in one line, from what is known without a measurement; it never stands in a run's way."""
    try:
        return one_line(replace(plan_ahead(engine, cells, stages, measures=False).plan, start_s=0.0))
    except Exception as error:  # a plan that fails must not cost the run
        return f"plan: none ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})"


def _here(engine: Engine, shape: ModelShape, measures: bool) -> Hardware:
    config, device, bf16 = engine.config, engine.device, engine.bf16
    path = place(config, device, bf16, engine.cache_dir)
    speeds: Speeds | None = kept(path)
    if speeds is None and measures:
        model_config = transformers_config(config.model, engine.tokenizer, engine.cache_dir)
        speeds = calibrate(config, shape, model_config, engine.data, engine.tokenizer, device, bf16)
        keep(speeds, path)
    return here(device, speeds or assumed(device, bf16, 2.0 * (shape.matrices + shape.head)))


def _items(engine: Engine, cells: Sequence[Cell], stages: Sequence[Stage], use_cache: bool) -> list[Item]:
    """Every stage once, and once more at each further cell whose prompts it reads."""
    headline, *grid = cells
    of_run = rows_of_run(engine.data, engine.tokenizer)
    rows: dict[str, RunRows] = {headline.set: of_run}
    found = []
    for cell in cells:
        if cell.set not in rows:
            rows[cell.set] = rows_of_run(cell.data, engine.tokenizer)
        for stage in stages:
            if cell is headline or "prompts" in stage.reads:
                there = use_cache and (engine.recipe(stage, cell).folder / "stage.json").exists()
                found.append(Item(stage.name, cell.config, rows[cell.set], there))
    found += [Item(EVALUATION, headline.config, of_run)]
    found += [Item(EVALUATION, cell.config, of_further_cell(rows[cell.set])) for cell in grid]
    return found
