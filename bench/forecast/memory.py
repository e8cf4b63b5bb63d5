"""The peak memory of each stage on one device, as a sum of terms that can each be counted.

    weights       of every network that is there: 4 bytes a parameter in fp32, 2 in bf16
    optimizer     AdamW keeps two fp32 numbers a parameter (RMSprop one); bf16 weights have an fp32 master copy beside
    gradients     fp32, 4 bytes a parameter, of the one network that learns at a time
    activations   what a micro-batch's forward keeps for its backward (`ModelShape.saved`, bytes a token), and a layer's
                  worth beside it: the gradients that pass through the layer in work
    logits        rows x vocabulary in fp32, held three times (log-probs, their exponential, a product or gradient);
                  in bf16 also the head's weights in fp32, and their gradient
    cache         keys and values of every sampled row's prompt and completion
    process       what a process with everything imported holds without any model; on a GPU none of it lies there

Gradients grow while activations are given back, so that of a step's only micro-batch the larger of the two counts; with
several, both do. Full PPO comes to 36 bytes a parameter either way: fp32, 2 x (4 + 8) + 4 + 2 x 4, and bf16,
2 x (2 + 12) + 4 + 2 x 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from bench.arms import chooses, needs_reward, stage_of
from bench.forecast.rows import Ints, Rows, RunRows, mean_of
from bench.forecast.shape import ModelShape
from bench.forecast.work import EVALUATION
from bench.forward import _LOGITS as LOGITS_AT_ONCE
from bench.kv_cache import PREFILL_TOKENS
from bench.micro_batches import similar_lengths
from bench.train.settings.common import BudgetedSettings, RolledOutOn
from bench.train.settings.ppo import PPOSettings

if TYPE_CHECKING:
    from bench.config import RunConfig

_FP32 = 4
_NF4 = 0.516  # bytes of a number, with its share of the scale of 64 and of the scale of 256 of these
_COPIES = 3  # of the logits
_DRAWS = 24  # batches that are drawn to find the largest micro-batch
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at a stage's peak."""

    process: float = 0.0
    weights: float = 0.0
    optimizer: float = 0.0
    gradients: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0

    @property
    def total(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Sizing:
    """Sizes the stages of one run on one device.

    Attributes:
        process: bytes of a process without models (`Memory.process`).
    """

    config: "RunConfig"
    shape: ModelShape
    rows: RunRows
    bf16: bool
    process: float

    def of(self, stage: str) -> Memory:
        """The peak of a stage, or of the evaluation."""
        if stage.startswith("generate_"):
            return self._sampling(self.rows.prompts, self.config.sampling.batch_size, networks=2)
        if chooses(stage):
            judging = self.width * ("judge_reward" in stage_of(stage).inputs)
            return self._holding((_FP32 + judging) * self.shape.parameters)
        config, rows = self.config, self.rows
        beside = int(self.bf16 and not config.dpo.lora_rank)  # DPO's reference, or it is the policy without adapters
        stages: Mapping[str, Callable[[], Memory]] = {
            "base": lambda: self._holding(_FP32 * self.shape.parameters),
            "sft": lambda: self._training(config.sft, rows.demonstrations, head=True),
            "label": lambda: self._sampling(rows.labelled, config.sampling.batch_size, networks=1),
            "preferred_ft": lambda: self._training(config.sft, rows.chosen, head=True),
            "reward": lambda: self._training(config.reward, rows.pairs, head=False),
            "judge_reward": lambda: self._training(config.reward, rows.judge_pairs, head=False),
            "reference_logps": self._reference_logps,
            "dpo": lambda: self._training(config.dpo, rows.pairs, head=True, frozen=beside),
            "ppo": self._ppo,
            "rloo": self._rloo,
            "iterated_dpo": self._iterated_dpo,
            "best_of_n": lambda: self._sampling(rows.prompts, config.sampling.batch_size, networks=2),
            EVALUATION: self._evaluation,
        }
        return stages[stage]() if stage in stages else self._holding(0)

    # Terms

    @property
    def width(self) -> int:
        """Bytes of a number of a network that is not trained, and of the activations."""
        return 2 if self.bf16 else _FP32

    def optimizer(self, settings: BudgetedSettings | PPOSettings) -> int:
        """Bytes a parameter."""
        return _FP32 * ((2 if settings.optimizer == "adamw" else 1) + self.bf16)

    def saved(self, tokens: float, longest: float, recomputes: bool = False) -> float:
        """Activations of rows of `tokens` in all, and the layer in work. A layer that recomputes keeps its input."""
        shape = self.shape
        a_token = shape.saved[self.width] + longest * shape.saved_of_pairs[self.width]
        if recomputes:
            return tokens * (shape.layers * shape.hidden * self.width + 2 * a_token / shape.layers)
        return tokens * a_token * (1 + 1 / shape.layers)

    def shared(self, prompts: float) -> float:
        """Keys and values of prompts that run once and are attended to a second time."""
        return prompts * 2 * self.shape.queries * self.shape.layers * self.width if self.shape.packed else 0.0

    def passing(self, tokens: float) -> float:
        """The layer in work alone, where no gradient is asked for."""
        return tokens * self.shape.saved[self.width] / self.shape.layers

    def logits(self, positions: float, learns: bool) -> float:
        rows = min(positions, max(1, LOGITS_AT_ONCE // self.shape.vocabulary))
        cast = (1 + learns) * _FP32 * self.shape.head if self.bf16 else 0
        return _COPIES * _FP32 * rows * self.shape.vocabulary + cast

    def cache(self, prompts: Ints, rows: int) -> float:
        """Every row is as wide as the longest prompt and has room for the longest completion; prompts run some at a
        time before they are written into it."""
        new = self.config.budget.max_completion_tokens
        width = _largest(prompts) + new
        at_once = min(PREFILL_TOKENS, rows * mean_of(prompts))
        return 2 * self.shape.keys * self.shape.layers * self.width * (rows * width + at_once)

    def weights(self, settings: BudgetedSettings | PPOSettings) -> float:
        """Of a network that learns; in 4 bits, those of the backbone's products are."""
        small = self.shape.matrices if settings.lora_4bit else 0
        return self.width * (self.shape.parameters - small) + _NF4 * small

    # Stages

    def _holding(self, weights: float) -> Memory:
        return Memory(self.process, weights)

    def _training(self, settings: BudgetedSettings, rows: Rows, head: bool, frozen: int = 0) -> Memory:
        """One network that learns, beside `frozen` ones that do not."""
        pairs = len(rows.completions) == 2
        largest = self._micro_batch(settings, rows, settings.batch_size, pairs)
        activations = self.saved(largest.tokens, largest.longest, settings.activation_checkpointing) + self.shared(
            largest.prompts if pairs else 0.0
        )
        logits = self.logits(largest.completions, learns=True) if head else 0.0
        trained = 0 if settings.lora_rank else self.shape.parameters
        gradients = float(_FP32 * trained)
        if largest.alone:
            gradients = max(0.0, gradients - activations - logits)
        learns = Memory(
            process=self.process,
            weights=self.weights(settings) + self.width * self.shape.parameters * frozen,
            optimizer=self.optimizer(settings) * trained,
            gradients=gradients,
            activations=activations,
            logits=logits,
        )
        return self._or_loading(learns, settings, frozen)

    def _or_loading(
        self, learns: Memory, settings: BudgetedSettings | PPOSettings, frozen: int, more: int = 0
    ) -> Memory:
        """The larger: what lies beneath adapters is whole, in fp32, until it has been made smaller."""
        if not settings.lora_rank:
            return learns
        whole = self.shape.parameters * (_FP32 * (1 + more) + self.width * frozen)
        return max(learns, Memory(self.process, whole), key=lambda of: of.total)

    def _reference_logps(self) -> Memory:
        if self.bf16:
            return self._holding(0)
        rows = self.rows.pairs
        size = min(self.config.sampling.batch_size, rows.count)
        tokens = size * self._tokens(rows, pairs=True)
        positions = size * rows.completion_tokens / max(1, rows.count)
        return Memory(
            self.process,
            _FP32 * self.shape.parameters,
            activations=self.passing(tokens),
            logits=self.logits(positions, learns=False),
        )

    def _ppo(self) -> Memory:
        settings, budget = self.config.ppo, self.config.budget
        parameters, lora = self.shape.parameters, settings.lora_rank > 0
        separate = settings.value_model == "separate"
        episodes = min(settings.batch_size, budget.ppo_episodes)
        rollouts = self._rollouts(settings.prompts)
        largest = self._micro_batch(settings, rollouts, episodes // settings.num_mini_batches, pairs=False)
        learning = 1 + separate
        trained = 0.0 if lora else parameters
        # Under LoRA the reference is the policy.
        weights = self.weights(settings) * learning + self.width * parameters * (2 - lora)
        sampling, drawing = self._drawing(rollouts, episodes)
        activations = self.saved(largest.tokens, largest.longest, settings.activation_checkpointing)
        logits = self.logits(largest.completions, learns=True)
        gradients = _FP32 * trained
        if largest.alone:
            gradients = max(0.0, gradients - activations - logits)
        learns = gradients + activations + logits > sampling + drawing
        memory = Memory(
            process=self.process,
            weights=weights,
            optimizer=self.optimizer(settings) * trained * learning,
            gradients=gradients if learns else 0.0,
            activations=activations if learns else 0.0,
            logits=logits if learns else drawing,
            cache=0.0 if learns else sampling,
        )
        return self._or_loading(memory, settings, frozen=2 - lora, more=int(separate))

    def _iterated_dpo(self) -> Memory:
        """Sampling with the reward model beside it, or learning from the pairs."""
        posts = self.rows.posts["pairs"]
        rows = self._rollouts("pairs")
        pairs = Rows(rows.count, rows.prompt, 2 * rows.completions)
        learns = self._training(self.config.dpo, pairs, head=True, frozen=int(self.bf16))
        return max(learns, self._sampling(posts, self.config.sampling.batch_size, networks=2), key=lambda of: of.total)

    def _rloo(self) -> Memory:
        """TRL's: fp32 weights (under autocast in bf16), the reference among them, rows padded, logits whole."""
        settings, parameters = self.config.rloo, self.shape.parameters
        rollouts = self._rollouts(settings.prompts)
        size = min(settings.micro_batch_size, self.config.budget.ppo_episodes)
        longest = float(_largest(rollouts.whole))
        a_token = self.shape.saved[_FP32] + longest * self.shape.saved_of_pairs[_FP32]
        references = int(settings.beta > 0)
        states = 2 if settings.optimizer == "adamw" else 1
        activations = size * longest * a_token * (1 + 1 / self.shape.layers)
        logits = _COPIES * _FP32 * size * self.config.budget.max_completion_tokens * self.shape.vocabulary
        gradients = _FP32 * parameters
        sampling, drawing = self._drawing(rollouts, min(settings.batch_size, self.config.budget.ppo_episodes))
        learns = gradients + activations + logits > sampling + drawing
        return Memory(
            process=self.process,
            weights=_FP32 * parameters * (1 + references) + self.width * parameters,
            optimizer=_FP32 * states * parameters,
            gradients=gradients if learns else 0.0,
            activations=activations if learns else 0.0,
            logits=logits if learns else drawing,
            cache=0.0 if learns else sampling,
        )

    def _sampling(self, prompts: Rows, rows: int, networks: int) -> Memory:
        size = min(rows, max(1, prompts.count))
        scored = size * (mean_of(prompts.prompt) + self.config.budget.max_completion_tokens)
        (cache, drawing), scoring = self._drawing(prompts, size), self.passing(scored)
        samples = cache + drawing > scoring
        return Memory(
            process=self.process,
            weights=networks * self.width * self.shape.parameters,
            activations=0.0 if samples else scoring,
            logits=drawing,
            cache=cache if samples else 0.0,
        )

    def _evaluation(self) -> Memory:
        """Scorers stay once they are loaded."""
        config, rows = self.config, self.rows.validation_pairs
        networks = needs_reward(config.arms) + ("reward_model" in config.judge.names) + 2 * ("dpo" in config.arms)
        size = min(config.sampling.batch_size, max(1, rows.count))
        return Memory(
            process=self.process,
            weights=networks * self.width * self.shape.parameters,
            activations=self.passing(size * self._tokens(rows, pairs=False)),
            logits=self.logits(size * config.budget.max_completion_tokens, learns=False) if networks else 0.0,
        )

    # Parts of stages

    def _drawing(self, prompts: Rows, rows: int) -> tuple[float, float]:
        """The cache of sampling so many rows, which run `sampling.batch_size` at a time, and the logits of a step."""
        at_once = min(rows, self.config.sampling.batch_size)
        return self.cache(prompts.prompt, at_once), _COPIES * _FP32 * at_once * self.shape.vocabulary

    def _rollouts(self, on: RolledOutOn) -> Rows:
        lengths = np.minimum(self.rows.written, self.config.budget.max_completion_tokens)
        posts = self.rows.posts[on]
        return Rows(posts.count, posts.prompt, (np.resize(lengths, len(posts.prompt)),))

    def _tokens(self, rows: Rows, pairs: bool) -> float:
        """Mean over rows."""
        return mean_of(_together(rows) if pairs and self.shape.packed else rows.whole)

    def _micro_batch(self, settings: BudgetedSettings, rows: Rows, batch: int, pairs: bool) -> "_MicroBatch":
        """The largest of the micro-batches that batches of these rows are cut into, as the trainers cut them."""
        if not len(rows.prompt):
            return _MicroBatch(0.0, 0.0, 0.0, 0.0, alone=True)
        size = min(batch, rows.count)
        counted = np.sum([rows.prompt + side for side in rows.completions], axis=0)
        runs = _together(rows) if pairs and self.shape.packed else counted
        written = np.sum(rows.completions, axis=0)
        random, parts, longest = np.random.default_rng(0), 0, 0.0
        found: list[tuple[float, float, float]] = []
        for _ in range(_DRAWS):
            drawn = random.choice(len(rows.prompt), size, replace=size > len(rows.prompt))
            groups = similar_lengths(counted[drawn].tolist(), settings.micro_batch_size, settings.micro_batch_tokens)
            parts = max(parts, len(groups))
            members = [drawn[group] for group in groups]
            found += [(float(runs[m].sum()), float(written[m].sum()), float(rows.prompt[m].sum())) for m in members]
            longest = max(longest, *(float(counted[m].max()) for m in members))
        return _MicroBatch(*max(found), longest / len(rows.completions), alone=parts == 1)


@dataclass(frozen=True)
class _MicroBatch:
    """Tokens that run, completion positions that are projected, tokens of the prompts, of the longest row; whether it
    is a step's only one."""

    tokens: float
    completions: float
    prompts: float
    longest: float
    alone: bool


def _together(rows: Rows) -> Ints:
    """(n,) tokens of a row whose prompt runs once for all its completions."""
    return rows.prompt + sum(rows.completions)


def _largest(values: Ints) -> int:
    return int(values.max()) if len(values) else 0
