"""One measurement in a process of its own: `python -m bench.perf.worker SPEC.json RESULT.json`."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers import TrainerCallback as Callback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from bench.cost.flops import FlopCounter
from bench.generation import SamplingConfig, sample
from bench.models.loading import RewardModel, load_policy
from bench.perf.measure import DTYPES, Measurement, Spec, StepClock, worker_main
from bench.perf.workload import read_pairs
from bench.records import Demonstration, PreferencePair
from bench.special_tokens import pad_id
from bench.train.context import RolloutBudget, TrainingContext
from bench.train.log import TrainingLog
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings

CPU = torch.device("cpu")
_SEED = 0
_RATE = 1e-6
_NEVER_S = 1e9  # no checkpoint falls into a measurement


def measure(spec: Spec) -> Measurement:
    torch.set_num_threads(spec.threads)
    if not spec.profile:
        return _measure(spec)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        result = _measure(spec)
    result.operators = [(event.key, event.self_cpu_time_total / 1e6) for event in profile.key_averages()]
    return result


def _measure(spec: Spec) -> Measurement:
    tokenizer = AutoTokenizer.from_pretrained(spec.model, trust_remote_code=False)
    pairs = read_pairs(Path(spec.pairs))
    ours = spec.contender.startswith("ours")
    with tempfile.TemporaryDirectory() as scratch:
        match spec.task:
            case "dpo":
                return (_our_dpo if ours else _stock_dpo)(spec, tokenizer, pairs, Path(scratch))
            case "reward":
                return (_our_reward if ours else _stock_reward)(spec, tokenizer, pairs, Path(scratch))
            case "sft":
                return (_our_sft if ours else _stock_sft)(spec, tokenizer, pairs, Path(scratch))
            case "ppo":
                return _our_ppo(spec, tokenizer, pairs, Path(scratch))
            case _:
                return _sampling(spec, tokenizer, pairs, ours)


def _our_dpo(spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path) -> Measurement:
    from bench.train.dpo import needs_ref_logps, pair_logps, train_dpo

    result = Measurement()
    start = time.perf_counter()
    with FlopCounter() as flops:
        ref_logps = None
        if needs_ref_logps(bf16=spec.dtype == "bf16"):
            ref_logps = pair_logps(load_policy(Path(spec.model), CPU), tokenizer, pairs, spec.batch_size)
        result.reference_s = time.perf_counter() - start
        _, log = train_dpo(
            Path(spec.model), tokenizer, pairs, ref_logps, DPOSettings(**_settings(spec)), _context(spec, scratch),
            epochs=1.0,
        )  # fmt: skip
    return _read_log(result, log, [spec.batch_size] * spec.steps, flops)


def _our_reward(
    spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path
) -> Measurement:
    from bench.train.reward import train_reward_model

    model = _classifier(spec)
    with FlopCounter() as flops:
        log = train_reward_model(
            model, tokenizer, pairs, RewardSettings(**_settings(spec)), _context(spec, scratch), epochs=1.0
        )
    return _read_log(Measurement(), log, [spec.batch_size] * spec.steps, flops)


def _our_sft(spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path) -> Measurement:
    from bench.train.sft import train_sft

    model = load_policy(Path(spec.model), CPU)
    rows = [Demonstration(p.id, p.prompt, p.chosen) for p in pairs]
    with FlopCounter() as flops:
        log = train_sft(model, tokenizer, rows, SFTSettings(**_settings(spec)), _context(spec, scratch), epochs=1.0)
    return _read_log(Measurement(), log, _token_steps([row["num_tokens"] or 0.0 for row in log]), flops)


def _our_ppo(spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path) -> Measurement:
    from bench.train.ppo import PPOTrainer, PromptIds
    from bench.train.ppo_models import PPOModels

    settings = PPOSettings(**_settings(spec), ppo_epochs=1, missing_eos_score=None)
    models = PPOModels(
        policy=load_policy(Path(spec.model), CPU),
        ref_policy=load_policy(Path(spec.model), CPU, _frozen(spec)),
        reward=RewardModel(_classifier(spec, _frozen(spec)).eval()),
        value=_classifier(spec),
    )
    with FlopCounter() as flops:
        rollouts = RolloutBudget(SamplingConfig().temperature, spec.batch_size * spec.steps, spec.max_new_tokens)
        trainer = PPOTrainer(models, tokenizer, settings, rollouts, _context(spec, scratch))
        log = trainer.train([PromptIds(p.id, tokenizer(p.prompt).input_ids) for p in pairs])
    return _read_log(Measurement(), log, [spec.batch_size] * spec.steps, flops)


def _sampling(spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], ours: bool) -> Measurement:
    """`steps` times a batch of completions of exactly `max_new_tokens` tokens, no EOS, at temperature 0.7."""
    model = load_policy(Path(spec.model), CPU, DTYPES[spec.dtype])
    prompts = [tokenizer(p.prompt).input_ids for p in pairs[: spec.batch_size]]
    result, clock = Measurement(), StepClock()
    torch.manual_seed(_SEED)
    with FlopCounter() as flops:
        for _ in range(spec.steps):
            clock.start()
            (_sample if ours else _generate)(model, prompts, spec.max_new_tokens, pad_id(tokenizer))
            clock.lap()
    result.step_s, result.units = clock.seconds, [float(len(prompts) * spec.max_new_tokens)] * spec.steps
    if ours:
        result.flops = _by_dtype(flops)
    return result


def _sample(model: PreTrainedModel, prompts: list[list[int]], tokens: int, pad: int) -> None:
    generator = torch.Generator().manual_seed(_SEED)
    sample(
        model, prompts, max_new_tokens=tokens, eos_token_id=-1, pad_token_id=pad, temperature=0.7, generator=generator
    )


def _generate(model: PreTrainedModel, prompts: list[list[int]], tokens: int, pad: int) -> None:
    width = max(map(len, prompts))
    model.generate(  # pyright: ignore[reportCallIssue]
        input_ids=torch.tensor([[pad] * (width - len(p)) + p for p in prompts]),
        attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
        do_sample=True,
        temperature=0.7,
        top_k=0,
        top_p=1.0,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        pad_token_id=pad,
    )


class _Clock(Callback):
    """Step times and losses of a stock trainer."""

    def __init__(self) -> None:
        self.clock, self.losses, self.tokens = StepClock(), [], []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.clock.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.lap()

    def on_log(self, *args: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.tokens.append(float(logs.get("num_tokens", 0.0)))


def _stock_dpo(
    spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path
) -> Measurement:
    rows = [{"prompt": p.prompt, "chosen": f" {p.chosen}", "rejected": f" {p.rejected}"} for p in pairs]
    best = spec.contender.startswith("trl_best")
    start = time.perf_counter()
    clock = _Clock()
    trainer = DPOTrainer(
        model=spec.model,
        args=DPOConfig(
            **_stock_arguments(spec, scratch), precompute_ref_log_probs=best,
            model_init_kwargs={"dtype": torch.float32},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )  # fmt: skip
    result = Measurement(reference_s=time.perf_counter() - start if best else 0.0)
    trainer.train()
    return _read_clock(result, clock, [spec.batch_size] * spec.steps)


def _stock_reward(
    spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path
) -> Measurement:
    rows = [{"chosen": f"{p.prompt} {p.chosen}", "rejected": f"{p.prompt} {p.rejected}"} for p in pairs]
    clock = _Clock()
    trainer = RewardTrainer(
        model=_classifier(spec),
        args=RewardConfig(**_stock_arguments(spec, scratch)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    return _read_clock(Measurement(), clock, [spec.batch_size] * spec.steps)


def _stock_sft(
    spec: Spec, tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], scratch: Path
) -> Measurement:
    clock = _Clock()
    trainer = SFTTrainer(
        model=load_policy(Path(spec.model), CPU),
        args=SFTConfig(**_stock_arguments(spec, scratch), completion_only_loss=True),
        train_dataset=Dataset.from_list([{"prompt": p.prompt, "completion": f" {p.chosen}"} for p in pairs]),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    return _read_clock(Measurement(), clock, _token_steps(clock.tokens))


def _stock_arguments(spec: Spec, scratch: Path) -> dict[str, Any]:
    """TRL's defaults but for what the measurement fixes; `trl_best*` change precision and checkpointing too."""
    arguments: dict[str, Any] = dict(
        output_dir=str(scratch), per_device_train_batch_size=spec.batch_size, max_steps=spec.steps, max_length=None,
        learning_rate=_RATE, lr_scheduler_type="constant", weight_decay=0.0, adam_epsilon=1e-5, max_grad_norm=1.0,
        use_cpu=True, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True,
        seed=_SEED, data_seed=_SEED,
    )  # fmt: skip
    if spec.contender.startswith("trl_best"):
        arguments |= dict(bf16=spec.dtype == "bf16", gradient_checkpointing=False, optim="adamw_torch_fused")
    return arguments


def _settings(spec: Spec) -> dict[str, Any]:
    return dict(
        learning_rate=_RATE, batch_size=spec.batch_size, micro_batch_size=spec.batch_size,
        micro_batch_tokens=spec.micro_batch_tokens, schedule="constant",
    )  # fmt: skip


def _context(spec: Spec, scratch: Path) -> TrainingContext:
    return TrainingContext(spec.task, _SEED, CPU, spec.dtype == "bf16", scratch, checkpoint_every_s=_NEVER_S)


def _frozen(spec: Spec) -> torch.dtype:
    """Networks that are not trained hold plain weights of the contender's dtype."""
    return DTYPES[spec.dtype]


def _classifier(spec: Spec, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return AutoModelForSequenceClassification.from_pretrained(
        spec.reward_model, dtype=dtype, use_safetensors=True, num_labels=1, trust_remote_code=False
    )


def _token_steps(totals: list[float]) -> list[float]:
    """TRL logs the tokens seen so far."""
    return [after - before for before, after in zip([0.0, *totals], totals, strict=False)]


def _read_log(result: Measurement, log: TrainingLog, units: list[float] | list[int], flops: FlopCounter) -> Measurement:
    result.flops = _by_dtype(flops)
    walls = [row["wall_s"] or 0.0 for row in log]
    result.step_s = [after - before for before, after in zip([0.0, *walls], walls, strict=False)]
    result.units = [float(u) for u in units]
    result.losses = [row["loss"] or 0.0 for row in log if "loss" in row]
    return result


def _by_dtype(flops: FlopCounter) -> dict[str, int]:
    return {name: flops.by_dtype[dtype] for name, dtype in DTYPES.items() if flops.by_dtype.get(dtype)}


def _read_clock(result: Measurement, clock: _Clock, units: list[float] | list[int]) -> Measurement:
    result.step_s, result.losses = clock.clock.seconds, clock.losses
    result.units = [float(u) for u in units]
    return result


if __name__ == "__main__":
    worker_main(measure)
