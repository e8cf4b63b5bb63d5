"""The engine: builds the stages of the table, hands each its inputs, and knows keys, cache, cost and resume.

base -> sft -> {preferred_ft, reward -> {best_of_n, rloo, ppo}, reference_logps -> dpo}, judge_reward, and the
completions of every arm; `python -m bench --help` prints the graph from the table.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from bench.arms import BY_NAME, STAGE_BY_NAME, Stage, generated
from bench.config import RunConfig
from bench.cost import StageCost, metered
from bench.files import read_jsonl
from bench.models.loading import pick_device, same_weights, use_bf16
from bench.pipeline.cache import CHECKPOINT, FinishedStage, StageCache, key_of
from bench.pipeline.cells import TEST, Cell
from bench.provenance import stable_hash
from bench.reach import code_key
from bench.records import ComparisonData, Completion
from bench.stages.context import Built, StageContext
from bench.stages.generate import COMPLETIONS
from bench.train.log import TrainingLog


class Recipe(NamedTuple):
    """All that goes into a stage, known before any of it is made: what its module needs, and what its key hashes."""

    name: str
    values: Mapping[str, Any]
    inputs: Mapping[str, Any]
    folder: Path


OnRows = Callable[[str, TrainingLog], None]
"""on_rows(stage, its whole log), whenever a row has come."""


class Engine:
    """Runs the stages of one config on one data set, each at most once per cache."""

    def __init__(
        self,
        config: RunConfig,
        data: ComparisonData,
        tokenizer: PreTrainedTokenizerBase,
        cache_dir: Path,
        on_rows: OnRows = lambda stage, rows: None,
    ) -> None:
        """`cache_dir` holds the finished stages, and models that come in a package."""
        self.config, self.data, self.tokenizer, self.cache_dir = config, data, tokenizer, cache_dir
        self.cache, self.on_rows = StageCache(cache_dir / "stages"), on_rows
        self.device = pick_device(config.model.device)
        self.bf16 = use_bf16(config.model.precision, self.device)
        self.frozen_dtype = torch.bfloat16 if self.bf16 else torch.float32
        self.headline = Cell(TEST, config.sampling.temperature, config, data)
        self._done: dict[str, dict[str, FinishedStage]] = {}
        self._recipes: dict[tuple[str, str], Recipe] = {}

    @property
    def done(self) -> dict[str, FinishedStage]:
        """What was trained, and the headline's completions."""
        return self.done_in(self.headline)

    def done_in(self, cell: Cell) -> dict[str, FinishedStage]:
        """The stages that a cell stands on."""
        return {**self._done.get(self.headline.name, {}), **self._done.get(cell.name, {})}

    def completions(self, arm: str, cell: Cell | None = None) -> list[Completion]:
        """The arm's summaries of a cell's prompts, the headline's unless another is named."""
        stage = self.finished(generated(BY_NAME[arm]), cell)
        return [Completion(**row) for row in read_jsonl(stage.folder / COMPLETIONS)]

    def finished(self, stage: Stage, cell: Cell | None = None) -> FinishedStage:
        """The stage, from memory, from the cache, or built from its inputs, which are finished first."""
        at = self._at(stage, cell)
        done = self._done.setdefault(at.name, {})
        if stage.name not in done:
            sources = {role: self.finished(STAGE_BY_NAME[source], cell) for role, source in stage.inputs.items()}
            done[stage.name] = self._run(stage, sources, at)
        return done[stage.name]

    def again(self, stage: Stage, folder: Path, on_rows: Callable[[TrainingLog], None]) -> None:
        """Build the headline's stage once more in `folder`, from what it was made of; the finished one and its log stay
        as they are. What `on_rows` raises ends it."""
        sources = {role: self.finished(STAGE_BY_NAME[source]) for role, source in stage.inputs.items()}
        context = replace(self._context(stage, folder / CHECKPOINT), checkpoint_every_s=math.inf, on_rows=on_rows)
        self._build(stage, context, sources, folder, self.recipe(stage).values)

    def recipe(self, stage: Stage, cell: Cell | None = None) -> Recipe:
        """What the stage is made of, and the folder where it is, or will be."""
        at = self._at(stage, cell)
        if (at.name, stage.name) not in self._recipes:
            values: dict[str, Any] = import_module(stage.module).needs(at.config, at.data)
            sources = {role: self.recipe(STAGE_BY_NAME[source], cell).folder for role, source in stage.inputs.items()}
            inputs = {
                # Another kind of device, or precision, gives another model.
                "device": self.device.type,
                "bf16": self.bf16,
                "inputs": {role: key_of(folder) for role, folder in sources.items()},
                "values": {name: fingerprint(value) for name, value in values.items()},
            }
            folder = self.cache.place(stage.name, code_key(stage.module), inputs)
            self._recipes[at.name, stage.name] = Recipe(stage.name, values, inputs, folder)
        return self._recipes[at.name, stage.name]

    def _at(self, stage: Stage, cell: Cell | None) -> Cell:
        """Only what reads the evaluation's prompts differs from cell to cell."""
        return cell if cell is not None and "prompts" in stage.reads else self.headline

    def _build(
        self,
        stage: Stage,
        context: StageContext,
        sources: Mapping[str, FinishedStage],
        folder: Path,
        values: Mapping[str, Any],
    ) -> Built:
        # What a stage draws depends on no stage before it.
        set_seed(values.get("seed", 0))
        inputs = {role: source.folder for role, source in sources.items()}
        return import_module(stage.module).build(context, inputs, folder, **values)

    def _run(self, stage: Stage, sources: Mapping[str, FinishedStage], cell: Cell) -> FinishedStage:
        recipe = self.recipe(stage, cell)

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device) as cost:
                built = self._build(stage, self._context(stage, folder / CHECKPOINT), sources, folder, recipe.values)
            cost.models_resident = built.models_resident
            cost.tokens_trained, cost.tokens_generated = built.tokens_trained, built.tokens_generated
            return cost, built.log

        found = self.cache.run(stage.name, code_key(stage.module), recipe.inputs, build, by_all=stage.by_all)
        if found.log:
            self.on_rows(stage.name, found.log)
        return found

    def _context(self, stage: Stage, scratch: Path) -> StageContext:
        config = self.config
        return StageContext(
            name=stage.name,
            device=self.device,
            bf16=self.bf16,
            tokenizer=self.tokenizer,
            scratch=scratch,
            cache_dir=self.cache_dir,
            checkpoint_every_s=config.checkpoint_every_s,
            health=config.health,
            gold=self.data.gold,
            on_rows=lambda rows: self.on_rows(stage.name, rows),
        )


def unmoved(done: Mapping[str, FinishedStage]) -> dict[str, dict[str, Any]]:
    """Stage -> a finding (as the trainers' checks make them) where its training left every weight as it was."""
    found = {}
    for name, stage in done.items():
        row = STAGE_BY_NAME.get(name)
        if row is None or row.settings is None:
            continue
        start = row.inputs.get("sft") or row.inputs["base"]
        if same_weights(stage.folder, done[start].folder):
            found[name] = {
                "check": "unmoved",
                "severity": "warning",
                "step": None,
                "value": 0.0,
                "threshold": 0.0,
                "message": f"training moved no weight: {name} is the model that it started from ({start})",
                "advice": f"a higher {row.settings}.learning_rate, or more data or passes",
            }
    return found


def fingerprint(value: Any) -> Any:
    """A value as the stage's record holds it: settings and numbers in full, rows of data by their hash."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return stable_hash([fingerprint(item) for item in value])
    return stable_hash(dict(value)) if isinstance(value, Mapping) else value
