"""The engine: builds the stages of the table, hands each its inputs, and knows keys, cache, cost and resume.

base -> sft -> {preferred_ft, reward -> {best_of_n, rloo, ppo}, reference_logps -> dpo}, judge_reward, and the
completions of every arm; `python -m bench --help` prints the graph from the table. Where the pairs are the SFT model's
own samples, label comes between sft and what learns from pairs: not as an input of theirs but as data (`Engine.take`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from bench.arms import STAGE_BY_NAME, Stage, arm_of, generated, policy_stage, stage_of
from bench.config import RunConfig
from bench.cost import StageCost, apart, metered
from bench.evaluate.judges.base import Judge
from bench.files import read_json, read_jsonl
from bench.models.loading import pick_device, same_weights, use_bf16
from bench.pipeline.cache import FinishedStage, StageCache
from bench.pipeline.cells import Cell, headline_of
from bench.pipeline.outlook import Awaited, Outlook
from bench.pipeline.stage_folder import CHECKPOINT, key_of
from bench.provenance import stable_hash
from bench.reach import code_key
from bench.records import ComparisonData, Completion
from bench.stages.context import CHOSEN, IN_TRAINING, Built, StageContext
from bench.stages.generate import COMPLETIONS
from bench.train.log import TrainingLog
from bench.train.samples import Taken


class Recipe(NamedTuple):
    """All that goes into a stage, known before any of it is made: what its module needs, and what its key hashes."""

    name: str
    values: Mapping[str, Any]
    inputs: Mapping[str, Any]
    folder: Path
    scale: Mapping[str, Any]


OnRows = Callable[[str, TrainingLog], None]
"""on_rows(stage, its whole log), whenever a row has come."""
OnTaken = Callable[[str, Taken], None]
"""on_taken(stage, samples), as its trainer takes them on the way."""
OnStage = Callable[[FinishedStage], None]
"""on_stage(stage), as soon as it is there."""


class Engine:
    """Runs the stages of one config on one data set, each at most once per cache."""

    def __init__(
        self,
        config: RunConfig,
        data: ComparisonData,
        tokenizer: PreTrainedTokenizerBase,
        cache_dir: Path,
        user: str = "a run",
    ) -> None:
        """`cache_dir` holds the finished stages, and models that come in a package; `user` is the run's name."""
        self.config, self.data, self.tokenizer, self.cache_dir = config, data, tokenizer, cache_dir
        self.cache = StageCache(cache_dir / "stages", user)
        self.on_rows: OnRows = lambda stage, rows: None
        self.on_taken: OnTaken = lambda stage, taken: None
        self.judge: Callable[[str], AbstractContextManager[Judge]] | None = None
        self.on_stage: OnStage = lambda stage: None
        self.device = pick_device(config.model.device)
        self.bf16 = use_bf16(config.model.precision, self.device)
        self.frozen_dtype = torch.bfloat16 if self.bf16 else torch.float32
        self.headline = headline_of(config, data)
        self._done: dict[str, dict[str, FinishedStage]] = {}
        self._recipes: dict[tuple[str, str], Recipe] = {}
        self._outlook = Outlook()

    @property
    def done(self) -> dict[str, FinishedStage]:
        """What was trained, and the headline's completions."""
        return self.done_in(self.headline)

    def done_in(self, cell: Cell) -> dict[str, FinishedStage]:
        """The stages that a cell stands on."""
        return {**self._done.get(self.headline.name, {}), **self._done.get(cell.name, {})}

    def completions(self, arm: str, cell: Cell | None = None) -> list[Completion]:
        """The arm's summaries of a cell's prompts, the headline's unless another is named."""
        stage = self.finished(generated(arm_of(arm), self._keep_best), cell)
        return [Completion(**row) for row in read_jsonl(stage.folder / COMPLETIONS)]

    def watched(self, arm: str) -> list[dict[str, Any]]:
        """What the arm's trainer sampled on the way, if it did."""
        file = self.finished(stage_of(arm_of(arm).stage)).folder / IN_TRAINING
        return read_jsonl(file) if file.exists() else []

    def chosen(self, arm: str) -> dict[str, Any] | None:
        """By which judge, at which step and out of what the arm's policy was chosen among the moments of its training;
        None where it is the last."""
        file = self.finished(stage_of(policy_stage(arm_of(arm), self._keep_best))).folder / CHOSEN
        return read_json(file) if file.exists() else None

    def finished(self, stage: Stage, cell: Cell | None = None) -> FinishedStage:
        """The stage, from memory, from the cache, or built from its inputs, which are finished first."""
        at = self._at(stage, cell)
        done = self._done.setdefault(at.name, {})
        if stage.name not in done:
            sources = {role: self.finished(stage_of(source), cell) for role, source in stage.inputs.items()}
            done[stage.name] = self._run(stage, sources, at)
        return done[stage.name]

    def again(self, stage: Stage, folder: Path, on_rows: Callable[[TrainingLog], None]) -> None:
        """Build the headline's stage once more in `folder`, from what it was made of; the finished one and its log stay
        as they are. What `on_rows` raises ends it."""
        sources = {role: self.finished(stage_of(source)) for role, source in stage.inputs.items()}
        alone = {"checkpoint_every_s": math.inf, "on_rows": on_rows, "apart": None}
        context = replace(self._context(stage, folder / CHECKPOINT), **alone)
        self._build(stage, context, sources, folder, self.recipe(stage).values)

    def take(self, data: ComparisonData) -> None:
        """Go on with this data. What is finished stays: it has to be made of what both have alike."""
        self.data, self.headline = data, headline_of(self.config, data)
        # Of the data that was before: of this data the same stage would be another, which nobody makes.
        self._recipes = {at: recipe for at, recipe in self._recipes.items() if at[1] in self._done.get(at[0], {})}

    def finish(self, wanted: Iterable[tuple[Stage, Cell | None]]) -> None:
        """All of these stages, saying what was there already and how far it has come."""
        wanted = list(wanted)
        recipes: dict[Path, Recipe] = {}
        for stage, cell in wanted:
            recipes |= {recipe.folder: recipe for recipe in self._upstream(stage, cell) if recipe.folder not in recipes}
        self._outlook = Outlook([Awaited(r.name, r.folder, r.scale) for r in recipes.values()])
        for stage, cell in wanted:
            self.finished(stage, cell)
        self._outlook.close()

    def recipe(self, stage: Stage, cell: Cell | None = None) -> Recipe:
        """What the stage is made of, and the folder where it is, or will be."""
        at = self._at(stage, cell)
        if (at.name, stage.name) not in self._recipes:
            which = {} if stage.policy is None else {"name": stage.policy}
            values: dict[str, Any] = import_module(stage.module).needs(at.config, at.data, **which)
            sources = {role: self.recipe(stage_of(source), cell).folder for role, source in stage.inputs.items()}
            where = {"device": self.device.type, "bf16": self.bf16}
            inputs = {
                **where,  # Another kind of device, or precision, gives another model.
                "inputs": {role: key_of(folder) for role, folder in sources.items()},
                "values": {name: fingerprint(value) for name, value in values.items()},
            }
            folder = self.cache.place(stage.name, code_key(stage.module), inputs)
            scale = {**where, "model": fingerprint(at.config.model), **_sizes(values)}
            self._recipes[at.name, stage.name] = Recipe(stage.name, values, inputs, folder, scale)
        return self._recipes[at.name, stage.name]

    @property
    def _keep_best(self) -> str | None:
        return self.config.samples_in_training.keep_best

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

    def _upstream(self, stage: Stage, cell: Cell | None) -> Iterator[Recipe]:
        """The recipes of the stage and all that it is made from, inputs first."""
        for source in stage.inputs.values():
            yield from self._upstream(stage_of(source), cell)
        yield self.recipe(stage, cell)

    def _run(self, stage: Stage, sources: Mapping[str, FinishedStage], cell: Cell) -> FinishedStage:
        recipe = self.recipe(stage, cell)

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            self._outlook.begins(recipe.folder)
            with metered(self.device) as cost:
                built = self._build(stage, self._context(stage, folder / CHECKPOINT), sources, folder, recipe.values)
            cost.models_resident = built.models_resident
            cost.tokens_trained, cost.tokens_generated = built.tokens_trained, built.tokens_generated
            return cost, built.log

        found = self.cache.run(
            stage.name,
            code_key(stage.module),
            recipe.inputs,
            build,
            made_from={role: source.content for role, source in sources.items()},
            scale=recipe.scale,
            by_all=stage.by_all,
        )
        self._outlook.ended(stage.name, found.folder, found.reused)
        self.on_stage(found)
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
            on_taken=lambda taken: self.on_taken(stage.name, taken),
            judge=self.judge,
            apart=apart,
        )


def unmoved(done: Mapping[str, FinishedStage]) -> dict[str, dict[str, Any]]:
    """Stage -> a finding (as the trainers' checks make them) where its training left every weight as it was."""
    found = {}
    for name, stage in done.items():
        row = STAGE_BY_NAME.get(name)
        if row is None or row.settings is None or not stage.log:  # a model that was given is not trained
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


def _sizes(values: Mapping[str, Any]) -> dict[str, float]:
    """How much a stage has to do: its numbers but for the seed, and how many rows it reads."""
    sizes: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, (Sequence, Mapping)) and not isinstance(value, str):
            sizes[name] = len(value)
        elif isinstance(value, (int, float)) and name != "seed":
            sizes[name] = value
    return sizes


def fingerprint(value: Any) -> Any:
    """A value as the stage's record holds it: settings and numbers in full, rows of data by their hash."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: fingerprint(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return stable_hash([fingerprint(item) for item in value])
    if isinstance(value, Mapping):
        return stable_hash({key: fingerprint(item) for key, item in value.items()})
    return value
