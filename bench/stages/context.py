"""What a stage is: a module with `needs` and `build`.

    needs(config, data) -> values          everything besides its inputs that can change what it makes
    build(context, inputs, folder, **values) -> Built

The engine hashes the values, the inputs' keys and the reachable source into the stage's key, and hands the very same
values to `build`: what is not in the key cannot be used. A stage never asks for another; `inputs` are the folders of
those that the table names (`bench.arms.STAGES`). What `build` keeps in `context.scratch` is there again after a kill.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import processes
from bench.generation import SamplingConfig, sample_all
from bench.models.loading import save_policy
from bench.progress import StageBar
from bench.records import EvalPrompt, GoldReward, PreferencePair
from bench.train.context import TrainingContext
from bench.train.health.settings import DEFAULT_HEALTH, HealthSettings
from bench.train.log import TrainingLog


@dataclass(frozen=True)
class StageContext:
    """Where and how a stage runs; nothing here changes what it makes but for rounding.

    Attributes:
        name: the stage's own.
        scratch: for checkpoints; thrown away when the stage is finished.
        cache_dir: where models that come in a package are kept.
        gold: the known reward, for the log alone; training never sees it.
        on_rows: called with the whole training log whenever it has grown.
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

    @property
    def frozen_dtype(self) -> torch.dtype:
        """Of networks that are not trained: they have no need of the fp32 weights that training keeps."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def training(self, seed: int) -> TrainingContext:
        """What every trainer is told."""
        return TrainingContext(
            self.name,
            seed,
            self.device,
            self.bf16,
            self.scratch,
            checkpoint_every_s=self.checkpoint_every_s,
            health=self.health,
            on_rows=self.on_rows,
        )

    def save(self, policy: PreTrainedModel, folder: Path) -> None:
        if processes.is_main():
            save_policy(policy, self.tokenizer, folder)


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


def distinct_prompts(pairs: Sequence[PreferencePair]) -> dict[str, str]:
    """Prompt -> the id of (the last of) its pairs: a post may have several."""
    return {pair.prompt: pair.id for pair in pairs}


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
    """Completions of the evaluation prompts, a prompt's samples together. Every arm is sampled by this function."""
    with StageBar(context.name.replace("_", " "), samples_per_prompt * len(prompts), "samples") as bar:
        rows = sample_all(
            policy,
            context.tokenizer,
            [context.tokenizer(prompt.prompt).input_ids for prompt in prompts],
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            generator=torch.Generator(context.device).manual_seed(seed),
            on_batch=bar.update,
            samples_per_prompt=samples_per_prompt,
        )
    return [Sampled(ids, finished) for ids, finished in rows]
