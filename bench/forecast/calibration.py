"""A few real steps on this machine: trainers, sampler and scorer on the run's own rows, about a second each.

The weights are random, which changes no time, and of a large model some layers are run, which are all alike: what is
measured is FLOP/s by kind of work. On one thread of a CPU processor time counts, which other work on the machine hardly
moves; elsewhere the clock.
"""

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.cost.flops import FlopCounter, gemm_peak, synchronize
from bench.encoding import encode
from bench.forecast.shape import ModelShape
from bench.forecast.speeds import ASSUMED_SHARE, Speeds
from bench.forward import completion_hidden, lm_head, token_logps_and_entropy
from bench.generation import sample
from bench.models.loading import to_bf16_weights
from bench.progress import say
from bench.records import ComparisonData, Rows
from bench.special_tokens import pad_id
from bench.train.context import TrainingContext
from bench.train.log import TrainingLog
from bench.train.master_weights import MasterWeights
from bench.train.pairs import pair_rows, pair_tokens
from bench.train.reward import train_reward_model
from bench.train.settings.common import BudgetedSettings
from bench.train.sft import train_sft

if TYPE_CHECKING:
    from bench.config import RunConfig

_STEP_S = 1.0  # that a measured step is meant to take
_STEPS = 4  # of a trainer; the first warms up
_LEAST_LAYERS = 4
_DECODED = (3, 13)  # tokens: the time between the two is that of ten decoding steps
_PROMPT = 32  # tokens of the prompts that are decoded from
_READ = 64  # rows
_NEVER_S = 1e9  # no checkpoint falls into a measurement
_DISK_BYTES_PER_S = 1e9

S = TypeVar("S", bound=BudgetedSettings)


def calibrate(
    config: "RunConfig",
    shape: ModelShape,
    model_config: PreTrainedConfig,
    data: ComparisonData,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    bf16: bool,
) -> Speeds:
    """The speeds of this machine, with the configured model on the configured rows."""
    say("plan: measuring a few steps of this model on this machine; kept for the next plan")
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        steps = _Steps(config, shape, model_config, data, tokenizer, device, bf16)
        head = steps.head()
        sft, setup_s = steps.sft(head)
        reward, _ = steps.reward()
        decode_step_s, decode_row_s = steps.decoding()
        return Speeds(
            flops_per_s={
                "sft": sft,
                "reward": reward,
                "policy": steps.policy(),
                "score": steps.score(),
                "head": head,
            },
            decode_step_s=decode_step_s,
            decode_row_s=decode_row_s,
            stepped_s=steps.stepped_s,
            read_s=steps.reading_s(),
            setup_s=setup_s + 8 * shape.parameters / _DISK_BYTES_PER_S,  # read and written in fp32
            process_gib=_resident_gib() if device.type == "cpu" else 0.0,
            source="measured on this machine",
        )


class _Clock:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self._read = time.process_time if alone else time.perf_counter

    def __call__(self) -> float:
        synchronize(self._device)
        return self._read()

    def of(self, work: Callable[[], object], times: int = 3) -> float:
        """Seconds of the fastest of some runs, behind one that warms up."""
        work()
        marks = [self()]
        for _ in range(times):
            work()
            marks.append(self())
        return min(end - start for start, end in pairwise(marks))


@dataclass(frozen=True)
class _Steps:
    """What is measured, each on a model and rows that make a step of about `_STEP_S`."""

    config: "RunConfig"
    shape: ModelShape
    model_config: PreTrainedConfig
    data: ComparisonData
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    bf16: bool

    def head(self) -> float:
        """FLOP/s of the projection to the vocabulary, with its gradient."""
        rows, model = self._pairs(max(1, self.config.sampling.batch_size // 2)), self._frozen()
        tokens = int(rows.completion_mask.sum())
        hidden = torch.randn(tokens, self.shape.hidden, dtype=model.dtype, device=self.device, requires_grad=True)
        return self._rate(lambda: token_logps_and_entropy(hidden, lm_head(model), rows)[0].sum().backward())

    def sft(self, head_rate: float) -> tuple[float, float]:
        """FLOP/s of SFT's backbone, and the seconds that its trainer takes before it trains."""
        rows = self.data.demonstrations["train"]
        settings = self._smaller(self.config.sft, tokens=self._tokens(rows[0].prompt, rows[0].completion))
        some = (rows * _STEPS)[: _STEPS * settings.batch_size]
        model = self._model()
        written = sum(len(encode(self.tokenizer, row.prompt, row.completion)[0][1]) for row in some)
        head = 8 * self.shape.head * written / len(some) * settings.batch_size  # of a step: four products
        return self._trained(
            model, lambda c: train_sft(model, self.tokenizer, some, settings, c, epochs=1.0), head, head / head_rate
        )

    def reward(self) -> tuple[float, float]:
        pairs = self.data.preferences["train"]
        settings = self._smaller(self.config.reward, tokens=self._tokens_of_pair)
        some = (pairs * _STEPS)[: _STEPS * settings.batch_size]
        model = self._model(AutoModelForSequenceClassification)
        return self._trained(model, lambda c: train_reward_model(model, self.tokenizer, some, settings, c, epochs=1.0))

    def policy(self) -> float:
        """FLOP/s of the backbone and its gradient, as in DPO and PPO."""
        rows = self._pairs(self._smaller(self.config.dpo, tokens=self._tokens_of_pair).micro_batch_size)
        model = self._model()
        if self.bf16:
            MasterWeights(torch.optim.AdamW(model.parameters()))
        return self._rate(lambda: completion_hidden(model.base_model, rows, pairs=True).sum().backward())

    @torch.no_grad()
    def score(self) -> float:
        """FLOP/s of the backbone without a gradient."""
        rows = self._pairs(max(1, self.config.sampling.batch_size // 2), steps=3)
        model = self._frozen()
        return self._rate(torch.no_grad()(lambda: completion_hidden(model.base_model, rows)))

    def decoding(self) -> tuple[float, float]:
        """Seconds of one step of the sampler, and of each row in it."""
        model, ids = self._frozen(), self.tokenizer(self.data.eval_prompts[0].prompt).input_ids[:_PROMPT]

        def step_s(rows: int) -> float:
            def draw(tokens: int) -> Callable[[], object]:
                return lambda: sample(
                    model,
                    [ids] * rows,
                    max_new_tokens=tokens,
                    eos_token_id=-1,  # no row ends before the limit
                    pad_token_id=0,
                    temperature=1.0,
                    generator=torch.Generator(self.device).manual_seed(0),
                )

            short, long = (self.clock.of(draw(tokens)) for tokens in _DECODED)
            return max(long - short, 1e-6) / (_DECODED[1] - _DECODED[0])

        many = max(4, self.config.sampling.batch_size)
        few = many // 4
        slow, fast = step_s(many), step_s(few)
        scale = self.shape.layers / self.layers
        row_s = max(slow - fast, 0.0) / (many - few)
        return scale * max(fast - few * row_s, 0.0), scale * row_s

    @cached_property
    def stepped_s(self) -> float:
        """Seconds of the optimizer for a parameter."""
        model = self._model()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        if self.bf16:
            optimizer = MasterWeights(optimizer)

        def step() -> None:
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter, dtype=torch.float32)
            optimizer.step()

        def fill() -> None:
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter, dtype=torch.float32)

        seconds = self.clock.of(step) - self.clock.of(fill)
        return max(seconds, 0.0) / sum(parameter.numel() for parameter in model.parameters())

    def reading_s(self) -> float:
        """Seconds to tokenise a row."""
        pairs = self.data.preferences["train"][:_READ]
        seconds = self.clock.of(lambda: [encode(self.tokenizer, pair.prompt, pair.chosen) for pair in pairs])
        return seconds / len(pairs)

    # What they are measured on

    @cached_property
    def clock(self) -> _Clock:
        return _Clock(self.device)

    @cached_property
    def step_flops(self) -> float:
        """Of a step of `_STEP_S`."""
        return _STEP_S * ASSUMED_SHARE * gemm_peak(self.device, torch.bfloat16 if self.bf16 else torch.float32)

    @cached_property
    def layers(self) -> int:
        """So many that one row makes a step."""
        whole = 6 * self.shape.matrices * self._tokens_of_pair
        return min(self.shape.layers, max(_LEAST_LAYERS, round(self.shape.layers * self.step_flops / whole)))

    @property
    def _row_flops(self) -> float:
        """Of the cut model, for each token that it is trained on."""
        return 6 * self.shape.matrices * self.layers / self.shape.layers

    @cached_property
    def _tokens_of_pair(self) -> int:
        pair = self.data.preferences["train"][0]
        return self._tokens(pair.prompt, pair.chosen, pair.rejected)

    def _tokens(self, *texts: str) -> int:
        return sum(len(self.tokenizer(text).input_ids) for text in texts)

    def _smaller(self, settings: S, tokens: int) -> S:
        """The settings with a batch that makes a step."""
        rows = max(1, min(settings.batch_size, int(self.step_flops / (self._row_flops * tokens))))
        micro = min(settings.micro_batch_size, rows)
        return replace(settings, batch_size=rows - rows % micro, micro_batch_size=micro)

    def _pairs(self, count: int, steps: int = 1) -> Rows:
        pairs = (self.data.preferences["train"] * count)[: max(1, count)]
        most = max(1, int(steps * self.step_flops / (self._row_flops * self._tokens_of_pair)))
        return pair_rows([pair_tokens(self.tokenizer, p) for p in pairs[:most]], pad_id(self.tokenizer), self.device)

    def _model(self, kind: type = AutoModelForCausalLM) -> PreTrainedModel:
        """The model in fp32, of `layers` layers, its weights random."""
        self.model_config.num_hidden_layers = self.layers
        pad = pad_id(self.tokenizer)
        self.model_config.pad_token_id = pad if pad < self.shape.vocabulary else None
        self.model_config.num_labels = 1
        with self.device:
            return kind.from_config(self.model_config, dtype=torch.float32, trust_remote_code=False)

    def _frozen(self) -> PreTrainedModel:
        model = self._model().eval()
        if self.bf16:
            to_bf16_weights(model)
        return model

    def _rate(self, work: Callable[[], object]) -> float:
        with FlopCounter() as counter:
            work()
        return counter.total / self.clock.of(work)

    def _trained(
        self,
        model: PreTrainedModel,
        train: Callable[[TrainingContext], TrainingLog],
        head: float = 0.0,
        head_s: float = 0.0,
    ) -> tuple[float, float]:
        """FLOP/s of the trainer's steps behind the first, without the optimizer and the head; the seconds before it.

        Args:
            head, head_s: FLOPs and seconds of a step's projections to the vocabulary.
        """
        with FlopCounter() as counter, tempfile.TemporaryDirectory() as scratch:
            marks = [(self.clock(), 0)]
            context = TrainingContext(
                "plan",
                self.config.seed,
                self.device,
                self.bf16,
                Path(scratch),
                checkpoint_every_s=_NEVER_S,
                on_rows=lambda rows: marks.append((self.clock(), counter.total)),
            )
            train(context)
        (start, _), (first, before), (last, after) = marks[0], marks[1], marks[-1]
        steps = len(marks) - 2
        optimizer_s = steps * self.stepped_s * sum(parameter.numel() for parameter in model.parameters())
        seconds = max(last - first - optimizer_s - steps * head_s, 0.2 * (last - first))
        return (after - before - steps * head) / seconds, max(first - start - (last - first) / steps, 0.0)


def _resident_gib() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 2**30
