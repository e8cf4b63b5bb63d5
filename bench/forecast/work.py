"""What each stage has to do, counted before it is done: FLOPs by kind, decoding steps, optimizer steps, tokens.

FLOPs are those that `bench.cost.flops` counts when the stage runs: matrix products and attention, a multiply-add as 2.
A row of T tokens through the backbone: 2 x its matrices x T, and 4 x D x T x T a layer for attention over the full
rectangle (D, the width of all heads). A backward pass adds two products for each of the forward's, in attention two and
a half (the scores are computed again). A position of the head: 2 x hidden x vocabulary, in training four times, because
logits are not kept but computed again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bench.arms import needs_reward, stage_of
from bench.data import ControlledConfig
from bench.evaluate.best_of_n import sizes
from bench.forecast.decoding import decoding
from bench.forecast.rows import Rows, RunRows, mean_of
from bench.forecast.shape import ModelShape
from bench.train.settings.common import OptimizerSettings
from bench.train.settings.iterated_dpo import rounds_within
from bench.train.settings.rloo import RLOOSettings, within_budget

if TYPE_CHECKING:
    from bench.config import RunConfig

Kind = Literal["sft", "reward", "policy", "score", "head"]
"""Work whose speed differs: backbones trained by SFT, as reward models, as policies (DPO, PPO); backbones run without a
gradient; and projections to the vocabulary, which are in fp32 whatever the model runs in."""
KINDS: tuple[Kind, ...] = ("sft", "reward", "policy", "score", "head")

EVALUATION = "evaluation"
_SHIFT_ROWS = 256  # reference summaries whose mean score is a reward model's zero (bench.stages.reward)
_MOST = 0.95  # of a micro-batch's lengths, the quantile that its longest is about
_PADDED = 1.06  # attention pads rows that run together by at most an eighth (bench.packing), half of it on average


@dataclass(frozen=True)
class Work:
    """A stage's work. FLOPs by kind; those of sampled tokens behind their prompts are `decode`.

    Attributes:
        decode_steps: forward passes of one token a row.
        decode_rows: the rows of all these passes together.
        optimizer_steps: of every network that is trained.
        stepped: parameters that these steps move, added up.
        rows_read: rows that are tokenised.
    """

    sft: float = 0.0
    reward: float = 0.0
    policy: float = 0.0
    score: float = 0.0
    head: float = 0.0
    decode: float = 0.0
    decode_steps: float = 0.0
    decode_rows: float = 0.0
    optimizer_steps: float = 0.0
    stepped: float = 0.0
    rows_read: float = 0.0
    tokens_trained: float = 0.0
    tokens_generated: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def flops(self) -> float:
        return sum(getattr(self, kind) for kind in KINDS) + self.decode


class Passes(NamedTuple):
    """FLOPs of a forward pass of some rows through a backbone."""

    linear: float
    attention: float

    @property
    def forward(self) -> float:
        return self.linear + self.attention

    def trained(self, settings: OptimizerSettings | None = None) -> float:
        """With the backward pass; a frozen backbone's (under LoRA) has no gradients of the weights, and where
        activations are recomputed it runs forward once more."""
        frozen, again = (settings.lora_rank > 0, settings.activation_checkpointing) if settings else (False, False)
        return (2 + again if frozen else 3 + again) * self.linear + (3.5 + again) * self.attention


@dataclass(frozen=True)
class Counting:
    """Counts the work of the stages of one run on one process."""

    config: "RunConfig"
    shape: ModelShape
    rows: RunRows
    bf16: bool

    def of(self, stage: str) -> Work:
        """The work of a stage, or of the evaluation; none of what only copies."""
        if stage.startswith("generate_"):
            return self._generate(stage.removeprefix("generate_"))
        budget = self.config.budget
        stages: Mapping[str, Callable[[], Work]] = {
            "sft": lambda: self._sft(self.rows.demonstrations, budget.sft_epochs),
            "label": self._label,
            "preferred_ft": lambda: self._sft(self.rows.chosen, budget.dpo_epochs),
            "reward": lambda: self._reward(self.rows.pairs),
            "judge_reward": lambda: self._reward(self.rows.judge_pairs),
            "reference_logps": self._reference_logps,
            "dpo": self._dpo,
            "ppo": self._ppo,
            "rloo": self._rloo,
            "iterated_dpo": self._iterated_dpo,
            "best_of_n": self._best_of_n,
            EVALUATION: self._evaluation,
        }
        return (stages[stage]() if stage in stages else Work()) + self._watching(stage)

    # Passes and heads

    def passes(self, rows: Rows, pairs: bool = False) -> Passes:
        """Every row once; of pairs the prompt runs once for both summaries where the model packs."""
        if pairs and self.shape.packed:
            first, second = rows.completions
            tokens = rows.prompt + first + second
            # The second summaries' queries are as many as the longest of those that attend together has.
            most = np.quantile(second, _MOST) if len(second) else 0
            squares = (rows.prompt + first) ** 2 + most * (rows.prompt + second)
            return self._passes(rows.count, mean_of(tokens), mean_of(squares))
        return self._passes(rows.count * len(rows.completions), mean_of(rows.whole), mean_of(rows.whole**2))

    def head(self, positions: float) -> float:
        """FLOPs of the projection to the vocabulary, forward."""
        return 2 * self.shape.head * positions

    def _passes(self, count: float, tokens: float, squares: float) -> Passes:
        padded = _PADDED if self.shape.packed else 1.0
        attention = 4 * self.shape.queries * self.shape.layers * padded * squares
        return Passes(2 * self.shape.matrices * tokens * count, attention * count)

    # Stages

    def _sft(self, rows: Rows, epochs: float) -> Work:
        return self._stepping(self.config.sft, rows.count, epochs) + Work(
            sft=self.passes(rows).trained(self.config.sft) * epochs,
            head=(4 - (self.config.sft.lora_rank > 0)) * self.head(rows.completion_tokens) * epochs,
            rows_read=rows.count,
            tokens_trained=rows.count * mean_of(rows.whole) * epochs,
        )

    def _reward(self, pairs: Rows) -> Work:
        epochs = self.config.budget.reward_epochs
        shift = self.rows.demonstrations.first(_SHIFT_ROWS)
        return self._stepping(self.config.reward, pairs.count, epochs) + Work(
            reward=self.passes(pairs, pairs=True).trained(self.config.reward) * epochs,
            score=self.passes(shift).forward,
            rows_read=pairs.count + shift.count,
            tokens_trained=2 * pairs.count * mean_of(pairs.whole) * epochs,
        )

    def _reference_logps(self) -> Work:
        pairs = self.rows.pairs
        return Work() if self.bf16 else self._logps(pairs, pairs=True) + Work(rows_read=pairs.count)

    def _dpo(self) -> Work:
        return self._learning(self.rows.pairs, self.config.budget.dpo_epochs)

    def _iterated_dpo(self) -> Work:
        settings = self.config.iterated_dpo
        posts, (rounds, a_round) = self.rows.posts["pairs"], rounds_within(settings, self.config.budget.ppo_episodes)
        count, each = rounds * a_round, settings.samples_per_post
        rows = self.sampled(posts, count)
        pairs = replace(rows, completions=2 * rows.completions)
        one = replace(pairs, count=a_round)  # steps are counted round by round
        learning = sum([self._learning(one, settings.epochs)] * rounds, Work())
        before = Work() if self.bf16 else self._logps(pairs, pairs=True)
        scored = Work(score=self.passes(self.sampled(posts, count * each)).forward)
        return self._sampling(posts, count, self._together(a_round, each), each) + scored + before + learning

    def _learning(self, pairs: Rows, epochs: float) -> Work:
        """DPO's of these pairs."""
        passes, head = self.passes(pairs, pairs=True), self.head(pairs.completion_tokens)
        beside = int(self.bf16 or self.config.dpo.lora_4bit)  # the reference, in the policy's rows
        lora = self.config.dpo.lora_rank > 0
        return self._stepping(self.config.dpo, pairs.count, epochs) + Work(
            policy=passes.trained(self.config.dpo) * epochs,
            score=beside * passes.forward * epochs,
            head=(4 - lora + beside) * head * epochs,
            rows_read=pairs.count,
            tokens_trained=2 * pairs.count * mean_of(pairs.whole) * epochs,
        )

    def _ppo(self) -> Work:
        settings, episodes = self.config.ppo, self.config.budget.ppo_episodes
        posts = self.rows.posts[settings.prompts]
        batch = self._episodes_at_once
        updates = episodes // batch
        rollouts = self.sampled(posts, updates * batch)
        passes, head = self.passes(rollouts), self.head(rollouts.completion_tokens)
        separate, lora, full = settings.value_model == "separate", settings.lora_rank > 0, settings.kl == "full"
        # Before the update: rewards, reference, values; the policy at the first, and where its sampler's log-probs do
        # not do.
        runs_policy = 1.0 if self.bf16 or full or not separate else 1 / updates
        heads_before = 1 + runs_policy + 2 * full
        heads_in_it = 4 - lora + 3 * full  # the value model has none to speak of
        steps = updates * settings.ppo_epochs * settings.num_mini_batches
        moves = 1 - settings.critic_warmup_updates / updates  # the policy's share of the updates
        trained = 0 if lora else self.shape.parameters * (moves + separate)
        return self._sampling(posts, updates * batch, self._together(batch)) + Work(
            policy=passes.trained(settings) * (moves + separate) * settings.ppo_epochs,
            score=passes.forward * (2 + separate + runs_policy),
            head=head * (heads_before + moves * heads_in_it * settings.ppo_epochs),
            optimizer_steps=steps * (moves + separate),
            stepped=steps * trained,
            tokens_trained=rollouts.completion_tokens * settings.ppo_epochs,
        )

    def _rloo(self) -> Work:
        settings = self._rloo_settings
        posts = self.rows.posts[settings.prompts]
        updates = self.config.budget.ppo_episodes // settings.batch_size
        rollouts = self.sampled(posts, updates * settings.batch_size)
        passes, head = self.passes(rollouts), self.head(rollouts.completion_tokens)
        groups = settings.batch_size // settings.num_generations
        together = self._together(groups, settings.num_generations)
        lora = settings.lora_rank > 0
        sampling = self._sampling(posts, updates * groups, together, settings.num_generations)
        passed, steps = settings.num_iterations, updates * settings.num_iterations
        # Before the steps: rewards, the policy's log-probs, and the reference's.
        return sampling + Work(
            policy=passes.trained(settings) * passed,
            score=passes.forward * (2 + (settings.beta > 0)),
            head=head * ((3 - lora) * passed + 1 + (settings.beta > 0)),
            optimizer_steps=steps,
            stepped=0 if lora else steps * self.shape.parameters,
            tokens_trained=rollouts.completion_tokens * passed,
        )

    def _best_of_n(self) -> Work:
        n = self.config.best_of_n.at(self.config.sampling.temperature)
        together = self._together(self.rows.prompts.count, n)
        rows = self.sampled(self.rows.prompts, self.rows.prompts.count * n)
        samples = self._sampling(self.rows.prompts, self.rows.prompts.count, together, n)
        return samples + Work(score=self.passes(rows).forward, rows_read=rows.count)

    def _label(self) -> Work:
        if not isinstance(data := self.config.data, ControlledConfig):
            return Work()
        together = self._together(self.rows.labelled.count, data.samples_per_post)
        return self._sampling(self.rows.labelled, self.rows.labelled.count, together, data.samples_per_post)

    def _generate(self, arm: str) -> Work:
        if arm == "best_of_n":
            return Work()  # its candidates are there
        return self._sampled_and_scored(self.rows.prompts, self.config.sampling.temperature, unlimited=arm == "base")

    def _sampled_and_scored(self, prompts: Rows, temperature: float, unlimited: bool = False) -> Work:
        """One completion of each prompt. Policy and SFT model run it once each; log-probs under both, and both again
        for the exact KL."""
        rows = self.sampled(prompts, prompts.count, unlimited)
        heads = 4 if temperature > 0 else 2
        scored = Work(score=2 * self.passes(rows).forward, head=heads * self.head(rows.completion_tokens))
        return self._sampling(prompts, prompts.count, self.config.sampling.batch_size, unlimited=unlimited) + scored

    def _watching(self, stage: str) -> Work:
        """The samples that a trainer takes on the way."""
        wanted = self.config.samples_in_training
        if not self.moments(stage):
            return Work()
        held_out = self.rows.held_out.first(wanted.prompts)
        return sum([self._sampled_and_scored(held_out, wanted.temperature)] * self.moments(stage), Work())

    def moments(self, stage: str) -> int:
        """How often the stage samples on the way; 0 for one that does not."""
        config = self.config
        steps: Mapping[str, Callable[[], int]] = {
            "dpo": lambda: _steps(config.dpo, self.rows.pairs.count, config.budget.dpo_epochs),
            "ppo": lambda: config.budget.ppo_episodes // self._episodes_at_once,
            "rloo": lambda: config.budget.ppo_episodes // self._rloo_settings.batch_size * config.rloo.num_iterations,
        }
        return len(config.samples_in_training.steps(steps[stage]())) if stage in steps else 0

    def moments_kept(self, stage: str) -> int:
        """How many whole models the stage keeps on its way: not what it began with, nor what it ends with."""
        settings = getattr(self.config, str(stage_of(stage).settings), None)
        is_whole = settings is not None and not settings.lora_rank
        keeps = is_whole and self.config.samples_in_training.keep_best is not None
        return max(0, self.moments(stage) - 2) if keeps else 0

    @property
    def _episodes_at_once(self) -> int:
        """Of an update of PPO."""
        return min(self.config.ppo.batch_size, self.config.budget.ppo_episodes)

    @property
    def _rloo_settings(self) -> RLOOSettings:
        return within_budget(self.config.rloo, self.config.budget.ppo_episodes, 1)

    def _evaluation(self) -> Work:
        """Scores of every arm's summaries and of the writers', and of the held-out pairs."""
        config, prompts, pairs = self.config, self.rows.prompts, self.rows.validation_pairs
        arms = [*config.arms, "reference"]
        of_arms = [self.sampled(prompts, prompts.count, arm == "base") for arm in arms]
        if "best_of_n" in config.arms:
            fewer = sizes(config.best_of_n.at(config.sampling.temperature))[:-1]
            of_arms += [self.sampled(prompts, prompts.count)] * len(fewer)
        held_out = self.rows.held_out.first(config.samples_in_training.prompts)
        on_the_way = [self.sampled(held_out, held_out.count)] * sum(map(self.moments, config.arms))
        scored: list[Rows] = []
        if needs_reward(config.arms):
            scored += [*of_arms[: len(arms)], *on_the_way, pairs]
        if "reward_model" in config.judge.names:
            scored += [*of_arms, *on_the_way, pairs]
        work = Work(
            score=sum(self.passes(rows).forward for rows in scored),
            rows_read=sum(rows.count * len(rows.completions) for rows in scored),
        )
        if "dpo" not in config.arms:
            return work
        return work + self._logps(pairs) + self._logps(pairs) + Work(rows_read=4 * pairs.count)

    # Parts of stages

    def sampled(self, prompts: Rows, count: int, unlimited: bool = False) -> Rows:
        """`count` rows of these prompts with completions as long as the writers', which SFT teaches.

        Args:
            unlimited: completions up to the limit, as of a model that has not learnt where a summary ends.
        """
        limit = self.config.budget.max_completion_tokens
        lengths = np.full(1, limit) if unlimited else np.minimum(self.rows.written, limit)
        return Rows(count, prompts.prompt, (np.resize(lengths, len(prompts.prompt)),))

    def _together(self, prompts: int, samples: int = 1) -> int:
        """How many prompts of a batch of so many are sampled at once, with all their samples."""
        return max(1, min(prompts, self.config.sampling.batch_size // samples))

    def _sampling(self, prompts: Rows, count: int, together: int, samples: int = 1, unlimited: bool = False) -> Work:
        """`samples` completions for each of `count` prompts, `together` prompts at a time; a prompt runs once."""
        rows = self.sampled(prompts, count, unlimited)
        calls = math.ceil(count / together)
        found = decoding(rows.completions[0], min(together, count) * samples)
        width = mean_of(rows.prompt)
        attention = 4 * self.shape.queries * self.shape.layers * (width * found.rows + found.positions)
        per_row = 2 * (self.shape.matrices + self.shape.head)
        prefill = self._passes(count, width, mean_of(rows.prompt**2)).forward
        return Work(
            score=prefill,
            decode=calls * (per_row * found.rows + attention) + self.head(count * samples),
            decode_steps=calls * found.steps,
            decode_rows=calls * found.rows,
            tokens_generated=count * samples * mean_of(rows.completions[0]),
        )

    def _logps(self, rows: Rows, pairs: bool = False) -> Work:
        return Work(score=self.passes(rows, pairs).forward, head=self.head(rows.completion_tokens))

    def _stepping(self, settings: OptimizerSettings, rows: int, epochs: float) -> Work:
        steps = _steps(settings, rows, epochs)
        return Work(optimizer_steps=steps, stepped=0 if settings.lora_rank else steps * self.shape.parameters)


def _steps(settings: OptimizerSettings, rows: int, epochs: float) -> int:
    """Of an optimizer over so many rows."""
    return math.ceil(math.ceil(rows / settings.batch_size) * epochs)
