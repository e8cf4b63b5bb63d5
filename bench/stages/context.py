"""What a stage is: a module with `needs` and `build`.

    needs(config, data) -> values          everything besides its inputs that can change what it makes
    build(context, inputs, folder, **values) -> Built

The engine hashes the values, the inputs' keys and the reachable source into the stage's key, and hands the very same
values to `build`: what is not in the key cannot be used. A stage never asks for another; `inputs` are the folders of
those that the table names (`bench.arms.STAGES`). What `build` keeps in `context.scratch` is there again after a kill.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import processes
from bench.files import write_jsonl
from bench.generation import SamplingConfig, sample_all
from bench.models.loading import save_policy
from bench.progress import StageBar
from bench.records import ComparisonData, EvalPrompt, GoldReward
from bench.train.context import TrainingContext
from bench.train.health.settings import DEFAULT_HEALTH, HealthSettings
from bench.train.log import TrainingLog
from bench.train.samples import HeldOut, Samples, Taken
from bench.train.settings.common import PLACES, RolledOutOn

if TYPE_CHECKING:
    from bench.config import RunConfig
    from bench.evaluate.judges.base import Judge

IN_TRAINING = "samples.jsonl"
"""What a trainer sampled on the way, beside its model: `bench.train.samples`."""
CHOSEN = "chosen.json"
"""Which of the moments was chosen and by whom, beside its weights: `bench.stages.best_checkpoint`."""


@dataclass(frozen=True)
class StageContext:
    """Where and how a stage runs; nothing here changes what it makes but for rounding.

    Attributes:
        name: the stage's own.
        scratch: for checkpoints; thrown away when the stage is finished.
        cache_dir: where models that come in a package are kept.
        gold: the known reward, for the log alone; training never sees it.
        on_rows: called with the whole training log whenever it has grown.
        on_taken: called with samples of held-out posts as they are taken on the way.
        judge: the judge of the run that has this name, in memory while it is asked.
        apart: the context in which what is done is no cost of the stage; None where no samples are to be taken.
    """

    name: str
    device: torch.device
    bf16: bool
    tokenizer: PreTrainedTokenizerBase
    scratch: Path
    cache_dir: Path
    checkpoint_every_s: float
    health: HealthSettings = DEFAULT_HEALTH
    gold: GoldReward | None = None
    on_rows: Callable[[TrainingLog], None] = lambda rows: None
    on_taken: Callable[[Taken], None] = lambda taken: None
    judge: Callable[[str], AbstractContextManager["Judge"]] | None = None
    apart: Callable[[], AbstractContextManager[None]] | None = nullcontext

    @property
    def frozen_dtype(self) -> torch.dtype:
        """Of networks that are not trained: they have no need of the fp32 weights that training keeps."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def bar(self, total: int, unit: str, of: str = "") -> StageBar:
        """On the way through the stage, or through a part of it that takes its own time."""
        return StageBar(self.name.replace("_", " ") + (f", {of}" if of else ""), total, unit)

    def training(
        self,
        seed: int,
        held_out: HeldOut | None = None,
        inputs: Mapping[str, Path] | None = None,
        folder: Path | None = None,
    ) -> TrainingContext:
        """What every trainer is told; with `held_out`, to sample these on the way (the SFT model is among `inputs`) and
        to keep below `folder` what is to be chosen from."""
        samples = None
        if held_out is not None and inputs is not None and folder is not None and self.apart is not None:
            where = (inputs["sft"], self.device, self.bf16)
            samples = Samples(self.name, held_out, self.tokenizer, *where, self.apart, folder, self.on_taken)
        return TrainingContext(
            self.name,
            seed,
            self.device,
            self.bf16,
            self.scratch,
            checkpoint_every_s=self.checkpoint_every_s,
            health=self.health,
            on_rows=self.on_rows,
            samples=samples,
        )

    def save(self, policy: PreTrainedModel, folder: Path) -> None:
        if processes.is_main():
            save_policy(policy, self.tokenizer, folder)

    def save_samples(self, samples: Samples | None, folder: Path) -> None:
        """Those of a training, if any were taken."""
        if samples is not None and processes.is_main():
            write_jsonl(folder / IN_TRAINING, samples.rows)


class Built(NamedTuple):
    """What a stage tells of itself: its training log, the tokens it saw, the networks it held at once."""

    log: TrainingLog = []  # noqa: RUF012 - nobody writes into it
    tokens_trained: int = 0
    tokens_generated: int = 0
    models_resident: int = 1


def trained(log: TrainingLog, models_resident: int = 1) -> Built:
    """Of a TRL trainer, which counts its tokens."""
    tokens = round(max((row.get("num_tokens") or 0.0 for row in log), default=0.0))
    return Built(log, tokens_trained=tokens, models_resident=models_resident)


def rollout_posts(on: RolledOutOn, data: ComparisonData) -> dict[str, str]:
    """Prompt -> the id of (the last of) its rows: a post may have several pairs, and a demonstration beside them."""
    return {row.prompt: row.id for place in PLACES[on] for row in data.rows(place)}


def held_out(config: "RunConfig", data: ComparisonData) -> dict[str, HeldOut]:
    """What a trainer that is watched needs besides: the first validation posts, one prompt each. Nothing where no
    trainer is, so that the setting is in no key then."""
    wanted = config.samples_in_training
    if not wanted.points:
        return {}
    posts = {d.prompt: EvalPrompt(d.id, d.prompt, d.completion) for d in data.demonstrations.get("validation", [])}
    prompts = tuple(posts.values())[: wanted.prompts]
    tokens = config.budget.max_completion_tokens
    keeps = wanted.keep_best is not None
    settings = replace(wanted, keep_best=None)
    return {"held_out": HeldOut(settings, prompts, config.sampling.batch_size, tokens, config.seed, keeps)}


class Sampled(NamedTuple):
    """Token ids of one completion, and whether it ended with EOS."""

    ids: list[int]
    finished: bool


def sample_prompts(
    context: StageContext,
    policy: PreTrainedModel,
    prompts: Sequence[EvalPrompt],
    *,
    samples_per_prompt: int = 1,
    sampling: SamplingConfig,
    max_new_tokens: int,
    seed: int,
) -> list[Sampled]:
    """Completions of the evaluation prompts, a prompt's samples together. Every arm is sampled by this function.

    All processes call it and share the work.
    """
    with context.bar(samples_per_prompt * len(prompts), "samples") as bar:
        rows = sample_all(
            policy,
            context.tokenizer,
            [context.tokenizer(prompt.prompt).input_ids for prompt in prompts],
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            generator=torch.Generator(context.device).manual_seed(seed),
            on_batch=bar.update,
            samples_per_prompt=samples_per_prompt,
            shared=True,
        )
    return [Sampled(ids, finished) for ids, finished in rows]
