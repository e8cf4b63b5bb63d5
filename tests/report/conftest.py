"""Finished run folders, written by the code that writes real ones: only what models would do in them is made up.

The engine's stages, and the scores and log-probs that the evaluator would ask models for, are stand-ins; the data, the
evaluator with its judges, costs, claims, health and every file of the run contract are the project's own.
"""

import html.parser
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bench.arms import Stage
from bench.config import BudgetConfig, RunConfig
from bench.cost import StageCost
from bench.data import SyntheticConfig, load
from bench.data.evaluation_sets import EvalSetConfig
from bench.evaluate.best_of_n import BestOfNSettings, Candidate, write_candidates
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json, write_json, write_jsonl
from bench.generation import SamplingConfig
from bench.models.probe import Probe
from bench.paths import Paths
from bench.pipeline import runner
from bench.pipeline.cache import FinishedStage
from bench.pipeline.cells import Cell
from bench.pipeline.engine import Engine, fingerprint
from bench.pipeline.instruments import Instruments
from bench.provenance import stable_hash
from bench.records import Completion
from bench.report import Plot, load_run
from bench.report.page import Block, Table
from bench.report.render import run_page
from bench.stages.base import PROBE
from bench.stages.context import IN_TRAINING
from bench.stages.generate import COMPLETIONS
from bench.train.samples import HeldOut
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.samples import SamplesSettings
from bench.tuning import TuningConfig

ARMS = ("base", "sft", "ppo", "dpo")
N_PROMPTS = 40
WALL_S = {"sft": 40.0, "reward": 30.0, "ppo": 90.0, "reference_logps": 5.0, "dpo": 40.0}
"""Of a stage; 20 s of every other one. So RLHF takes 120 s beyond the SFT model, and DPO 45 s."""
VOID = {"meta", "link", "br", "img", "input", "hr"}
_SKILL = {"base": 0.1, "sft": 0.35, "ppo": 0.6, "dpo": 0.65}
_KL = {"base": 9.0, "sft": 0.0, "ppo": 0.3, "dpo": 0.4}
"""At beta 1, nats; it falls with the root of beta."""
_CURVES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "sft": {"loss": (4.0, 1.8)},
    "reward": {"loss": (0.69, 0.6), "accuracy": (0.5, 0.64)},
    "judge_reward": {"loss": (0.69, 0.6), "accuracy": (0.5, 0.66)},
    "ppo": {"score": (0.0, 1.2), "kl_ref": (0.0, 6.0), "entropy": (2.4, 1.7), "gold": (1.2, 1.8)},
    "dpo": {
        "loss": (0.69, 0.5),
        "logps/chosen": (-60, -64),
        "logps/rejected": (-61, -72),
        "rewards/accuracies": (0.5, 0.72),
    },
}
"""Stage -> column of its log -> the value that it starts from and the one that it ends at."""


class MadeUpEngine(Engine):
    """Every stage is there at once: its folder, its cost, its log."""

    collapsed = False

    def _run(self, stage: Stage, sources: Mapping[str, FinishedStage], cell: Cell) -> FinishedStage:
        values = import_module(stage.module).needs(cell.config, cell.data)
        inputs = [source.key for source in sources.values()]
        key = stable_hash([stage.name, inputs, {name: fingerprint(value) for name, value in values.items()}])
        folder = self.cache_dir / "made-up" / f"{stage.name}-{key[:10]}"
        folder.mkdir(parents=True)
        if stage.name.startswith("generate_"):
            rows = self._completions(stage.name.removeprefix("generate_"), cell)
            write_jsonl(folder / COMPLETIONS, [asdict(row) for row in rows])
        if stage.name == "base":
            write_json(folder / PROBE, Probe(Paths(), (), None).to_dict())
        if "held_out" in values:
            write_jsonl(folder / IN_TRAINING, list(self._on_the_way(stage.name, values["held_out"])))
        if stage.name == "best_of_n":
            write_candidates(folder, self._candidates(cell))
        log = self._log(stage.name)
        if log:
            self.on_rows(stage.name, log)
        return FinishedStage(stage.name, key, "code", folder, self._cost(stage.name), log, reused=True)

    def _completions(self, arm: str, cell: Cell) -> list[Completion]:
        settings = getattr(self.config, arm, None)
        kl = _KL.get(arm, 0.2) / getattr(settings, "beta", 1.0) ** 0.5
        rows = []
        for prompt in cell.data.eval_prompts:
            rng = random.Random(repr((self.config.seed, arm, prompt.id, cell.temperature)))
            text = self._summary(rng, _SKILL.get(arm, 0.5), prompt.id, prompt.reference)
            of_prompt = kl * rng.uniform(0.5, 1.5)
            rows.append(
                Completion(
                    arm=arm,
                    prompt_id=prompt.id,
                    completion=text,
                    temperature=cell.temperature,
                    n_tokens=len(self.tokenizer(f" {text}").input_ids) + 1,
                    finished=rng.random() < 0.95,
                    logp=of_prompt * rng.uniform(0.9, 1.1) - 20.0,
                    ref_logp=-20.0,
                    kl=None if arm == "best_of_n" else of_prompt,
                )
            )
        return rows

    def _on_the_way(self, arm: str, held_out: HeldOut) -> Iterator[dict[str, Any]]:
        """Samples of 100 steps; KL grows evenly up to 4 nats, and skill from the SFT model's to the arm's."""
        for step in sorted(held_out.settings.steps(100)):
            skill = _SKILL["sft"] + (_SKILL[arm] - _SKILL["sft"]) * step / 100
            for prompt in held_out.prompts:
                rng = random.Random(repr((arm, prompt.id, step)))
                text = self._summary(rng, skill, prompt.id, prompt.reference)
                kl = 0.04 * step * rng.uniform(0.5, 1.5)
                yield {"step": step, **asdict(Completion(arm, prompt.id, text, 0.7, 12, True, -20.0 + kl, -20.0, kl))}

    def _candidates(self, cell: Cell) -> list[Candidate]:
        rng = random.Random(self.config.seed)
        return [
            Candidate(prompt.id, self._summary(rng, 0.4, prompt.id, prompt.reference), 20, True, rng.gauss(0, 1))
            for prompt in cell.data.eval_prompts
            for _ in range(cell.config.best_of_n.at(cell.temperature))
        ]

    def _summary(self, rng: random.Random, skill: float, prompt_id: str, reference: str) -> str:
        """The best there is, as often as the skill says; else a tie with the reference summary, or a poor one."""
        draw = rng.random()
        if draw < skill:
            return self.data.trivial_policies["best"].get(prompt_id, reference)
        poor = self.data.trivial_policies[rng.choice(("title", "first_sentence", "longest"))].get(prompt_id, "")
        return reference if draw < skill + 0.1 else poor

    def _log(self, stage: str) -> list[dict[str, float | None]]:
        """Straight lines with noise."""
        curves = dict(_CURVES.get(stage, {}))
        if self.data.gold is None:
            curves.pop("gold", None)
        if stage == "ppo" and self.collapsed:
            curves["kl_ref"] = (0.0, 90.0)
        rng = random.Random(repr((self.config.seed, stage)))
        return [
            {"step": step, "wall_s": step * 1.5}
            | {
                column: start + (end - start) * step / 40 + rng.gauss(0, abs(end - start) / 25)
                for column, (start, end) in curves.items()
            }
            for step in range(1, 41 if curves else 1)
        ]

    def _cost(self, stage: str) -> StageCost:
        wall_s = WALL_S.get(stage, 20.0)
        memory = {"reward": 1.0, "ppo": 1.6, "dpo": 1.2}.get(stage, 0.9)
        return StageCost(
            wall_s=wall_s,
            cpu_s=wall_s,
            other_load=0.0,
            device_hours=wall_s / 3600,
            peak_memory_gib=memory,
            peak_rss_gib=memory,
            models_resident={"ppo": 4, "dpo": 2}.get(stage, 1),
            tokens_trained=int(1000 * wall_s),
            tokens_generated=int(100 * wall_s),
            flops=int(1e9 * wall_s),
            mfu=wall_s / 1000,
            gemm_tflops=0.01,
            energy_source="none: no counter was made up",
        )


def _scores(self: Instruments, stage: str, summaries: Sequence[tuple[str, str]]) -> list[float]:
    """What a reward model would say: something of length, something of its own."""
    return [len(text) / 40 + random.Random(repr((stage, prompt, text))).gauss(0, 1) for prompt, text in summaries]


def _logratios(self: Instruments, summaries: Sequence[tuple[str, str]]) -> list[float]:
    return [random.Random(repr((prompt, text))).gauss(0, 1) for prompt, text in summaries]


def _write(results: Path, collapsed: bool, gold: bool, config: RunConfig) -> Path:
    def made(*args: Any) -> Any:
        return load(*args) if gold else replace(load(*args), gold=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MadeUpEngine, "collapsed", collapsed)
        patch.setattr(runner, "Engine", MadeUpEngine)
        patch.setattr(runner, "load", made)
        patch.setattr(runner, "_LAST_WORLD", {})  # with gold or without: the runner cannot tell
        patch.setattr(Instruments, "rewards", _scores)
        patch.setattr(Instruments, "logratios", _logratios)
        return runner.run(replace(config, results_dir=str(results)), "python -m bench experiment=fixture")


@pytest.fixture(scope="session")
def write_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """write_run(folder, **what differs from the defaults) puts a finished run there and returns its folder.

    Of runs that differ in nothing the first is copied.
    """
    written: dict[str, Path] = {}

    def write(
        path: Path,
        seed: int = 0,
        arms: tuple[str, ...] = ARMS,
        gold: bool = True,
        dpo_beta: float = 0.1,
        ppo_beta: float = 0.05,
        temperature: float = 0.7,
        temperatures: tuple[float, ...] = (),
        sets: Mapping[str, EvalSetConfig] | None = None,
        tuning: TuningConfig | None = None,
        collapsed: bool = False,
        points: int = 0,
    ) -> Path:
        config = RunConfig(
            seed=seed,
            name="fixture",
            arms=arms,
            data=SyntheticConfig(
                demonstrations=60, preference_pairs=40, judge_pairs=40, validation_pairs=60, eval_prompts=N_PROMPTS
            ),
            ppo=PPOSettings(beta=ppo_beta),
            dpo=DPOSettings(beta=dpo_beta),
            best_of_n=BestOfNSettings(n=16),
            budget=BudgetConfig(max_prompt_tokens=160, max_completion_tokens=48),
            sampling=SamplingConfig(temperature=temperature),
            samples_in_training=SamplesSettings(points, prompts=30),
            judge=JudgeConfig(names=("gold", "reward_model") if gold else ("reward_model",)),
            evaluation=EvaluationConfig(bootstrap_resamples=100, samples_in_report=3, temperatures=temperatures),
            sets=sets or {},
            tuning=tuning or TuningConfig(),
        )
        key = repr((config, gold, collapsed))
        if key not in written:
            written[key] = _write(tmp_path_factory.mktemp("results"), collapsed, gold, config)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(written[key], path)
        return path

    return write


@pytest.fixture
def make_run(tmp_path: Path, write_run: Callable[..., Path]) -> Callable[..., Path]:
    """make_run(name, **what differs from the defaults) puts a finished run into the test's own folder."""
    return lambda name="s0-fixture", **differing: write_run(tmp_path / "fixture" / name, **differing)


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], None]], None]:
    """edit(file, change) applies `change` to a JSON file of a run."""

    def apply(file: Path, change: Callable[[Any], None]) -> None:
        content = read_json(file)
        change(content)
        write_json(file, content)

    return apply


class Outline(html.parser.HTMLParser):
    """Checks that tags are balanced while it notes elements, their attributes and the page's visible text."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


class Reading:
    """What the tests read a report by."""

    @staticmethod
    def sections(folder: Path) -> dict[str, Sequence[Block]]:
        """Title -> blocks of the run's page."""
        return {section.title: section.blocks for section in run_page(load_run(folder)).sections}

    @staticmethod
    def cells(blocks: Sequence[Block], caption: str) -> dict[tuple[str, ...], dict[str, str]]:
        """The rows of the table whose caption begins so, by their first cells up to the judge: column -> its text."""
        (table,) = (block for block in blocks if isinstance(block, Table) and block.caption.lower().startswith(caption))
        keys = 2 if table.columns[1] == "judge" else 1
        return {
            tuple(cell.text for cell in row[:keys]): {
                column: f"{cell.text} {cell.interval}".strip() for column, cell in zip(table.columns, row, strict=True)
            }
            for row in table.rows
        }

    @staticmethod
    def page(file: Path) -> tuple[str, Outline]:
        page = file.read_text(encoding="utf-8")
        return page, Outline(page)

    outline = Outline

    @staticmethod
    def samples(outline: Outline) -> Any:
        """What the browser of samples holds; of a prompt `id`, `post`, `verdicts`, and a row by writer."""
        return Reading.as_read(outline.scripts[0])

    @staticmethod
    def as_read(text: str) -> Any:
        """The same of its JSON."""
        data = json.loads(text)
        names = data["writers"]
        return data | {
            "samples": [
                {"id": name, "post": post, "verdicts": verdicts, **dict(zip(names, rows, strict=True))}
                for name, post, rows, verdicts in data["samples"]
            ]
        }

    @staticmethod
    def texts(blocks: Sequence[Block]) -> str:
        """The paragraphs."""
        return " ".join(getattr(block, "text", "") for block in blocks)

    @staticmethod
    def per_cent(estimate: Mapping[str, Any], with_n: bool = False) -> str:
        """A share as metrics.json has it, as a cell shows it."""
        low, high = (f"{100 * end:.1f}" for end in estimate["ci95"])
        return f"{100 * estimate['value']:.1f} % [{low}, {high}]" + (f" n {estimate['n']}" if with_n else "")

    @staticmethod
    def number(estimate: Mapping[str, Any], digits: int = 2) -> str:
        low, high = (f"{end:.{digits}f}" for end in estimate["ci95"])
        return f"{estimate['value']:.{digits}f} [{low}, {high}]"

    @staticmethod
    def metrics(folder: Path) -> Any:
        return read_json(folder / "metrics.json")

    @staticmethod
    def axes(plot: Plot | None) -> Any:
        assert plot is not None
        (axes,) = plot.figure.axes
        return axes

    @staticmethod
    def drawn(axes: Any, label: str) -> Any:
        """The container of points, with their error bars, that the legend calls `label`."""
        return next(container for container in axes.containers if container.get_label() == label)

    @staticmethod
    def bar(errors: Any, direction: int) -> list[float]:
        """The ends of a container's first error bar along x (0) or y (1)."""
        return [end[direction] for end in errors.lines[2][0].get_segments()[0]]


@pytest.fixture(scope="session")
def reading() -> type[Reading]:
    return Reading


@pytest.fixture(scope="session")
def collapsed_dir(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """A run to be read only, with the best of n and an arm that collapsed."""
    arms = ("sft", "best_of_n", "ppo", "dpo")
    return write_run(tmp_path_factory.mktemp("collapsed") / "run", arms=arms, collapsed=True)
