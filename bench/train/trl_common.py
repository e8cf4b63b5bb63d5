"""What the TRL trainers share: their arguments, their log, their progress, and going on after a kill.

Of TRL's insides this project uses, here and nowhere else, what `make test-trl` runs with the oldest and the newest
release that pyproject.toml allows:
  - every trainer: `_metrics["train"]`, of whose lists its `log` takes the means (`micro_batched`, `pairs`), and
    `_total_train_tokens`, the count behind num_tokens (`pairs`, `train` below)
  - DPO and the reward model: `_prepare_dataset` and `_precompute_ref_logps` are told that nothing is to be done
    (`pairs`, `dpo`); tokens, batches, forward pass and loss are this project's
  - SFT: the loss and the tokens are TRL's; `trl.trainer.utils._use_triton` decides in TRL 1.16 which positions reach
    the LM head (`sft`)
  - RLOO: `_get_train_sampler` with its RepeatSampler, `_generate_single_turn`, and the names in its log (`rloo`,
    `health.rloo`)
  - vLLM: `trl.generation.vllm_generation.VLLMGeneration` (`vllm_rollouts`)
"""

import time
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils import logging as transformers_logging

from bench import processes
from bench.models.attention import attention_of
from bench.progress import StageBar, say_resumed
from bench.train.checkpoints import CheckpointCallback, newest_checkpoint
from bench.train.context import TrainingContext
from bench.train.health.callback import HealthCallback
from bench.train.health.check import Checklist
from bench.train.log import TrainingLog, log_row
from bench.train.lora import adapted
from bench.train.master_weights import MasterWeights
from bench.train.recompute import keep, recompute
from bench.train.settings.common import BudgetedSettings, OptimizerSettings, share_of_batch

datasets.disable_progress_bars()
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()  # a new reward head is reported as missing from the checkpoint

WHOLE_ROWS: dict[str, Any] = {"max_length": None}
"""For the configs that cut rows: the data room has cut the posts, and cutting here would lose the EOS."""
OWN_ROWS: dict[str, Any] = {**WHOLE_ROWS, "remove_unused_columns": False}
"""For trainers whose batches this project makes."""


def training_arguments(settings: OptimizerSettings, context: TrainingContext, epochs: float) -> dict[str, Any]:
    """Keyword arguments of TRL's configs."""
    rows, steps = share_of_batch(settings, processes.count())
    return dict(
        output_dir=str(context.scratch),
        num_train_epochs=epochs,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        optim="adamw_torch_fused" if settings.optimizer == "adamw" else "rmsprop",
        adam_epsilon=settings.eps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.largest_norm,
        use_cpu=context.device.type == "cpu",
        bf16=context.bf16 and not trains_bf16_weights(settings),
        gradient_checkpointing=False,  # ours instead (`recompute`), which PPO has too
        logging_steps=1,
        logging_nan_inf_filter=False,  # it logs the mean of the steps before for a NaN
        save_strategy="no",  # by the clock instead: CheckpointCallback
        save_total_limit=2,  # the one before stays until the new one is whole
        report_to="none",
        disable_tqdm=True,
        seed=context.seed,
        data_seed=context.seed,
        dataloader_pin_memory=context.device.type == "cuda",
    )


def trains_bf16_weights(settings: OptimizerSettings) -> bool:
    """Whether bf16 means bf16 weights over an fp32 master copy for this trainer, and not autocast.

    A sharded model keeps to autocast, and so do adapters, and RLOO, whose trainer samples between its steps.
    """
    return isinstance(settings, BudgetedSettings) and not (processes.shard_weights() or settings.lora_rank)


def train(
    trainer: Trainer,
    log: "LogCallback",
    checklist: Checklist,
    settings: OptimizerSettings,
    context: TrainingContext,
    save_every: int = 1,
) -> None:
    """Train, from the newest whole checkpoint that a killed run left in the trainer's output folder if there is one.

    With `lora_rank`, adapters are trained, and in the weights at the end.
    Where bf16 is asked for and not left to autocast, the model computes in bf16 weights and ends with the fp32 ones
    that the optimizer kept.
    The trainer prints nothing of its own: the stage's bar shows what there is to see.

    Args:
        save_every: steps between which alone there may be a checkpoint.
    """
    if getattr(trainer.args, "disable_dropout", False):
        _without_dropout_rates(model_of(trainer))
    trainer.remove_callback(PrinterCallback)
    samples = [] if context.samples is None else context.samples.rows
    trainer.add_callback(CheckpointCallback(log.rows, context.checkpoint_every_s, samples, save_every))
    trainer.add_callback(HealthCallback(context.watch(checklist), log.rows))
    resumed = newest_checkpoint(Path(str(trainer.args.output_dir)))
    if resumed is not None:
        say_resumed(context.stage, int(resumed.folder.name.rpartition("-")[2]), "steps")
        log.rows += resumed.rows
        samples += resumed.samples
        if resumed.rows:
            # TRL logs this count as num_tokens and forgets it; where the trainer has another, this one is not read.
            vars(trainer)["_total_train_tokens"] = resumed.rows[-1].get("num_tokens")
    kind = type(model_of(trainer))
    # What lies in shares has one type before it is gathered.
    with adapted(model_of(trainer), settings, context.seed, context.bf16 and not is_sharded(trainer)):
        if settings.activation_checkpointing:
            recompute(model_of(trainer))
        masters = None
        if context.bf16 and not trainer.args.bf16:
            masters = MasterWeights(trainer.create_optimizer(), fp32_gradients=trainer.accelerator.num_processes == 1)
        trainer.optimizer = masters or trainer.optimizer
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed.folder))
        if masters is not None:
            masters.restore()
        keep(model_of(trainer))
    if is_sharded(trainer):
        gather(trainer, kind)


def _without_dropout_rates(model: PreTrainedModel) -> None:
    """TRL turns dropout modules off; attention keeps its rate as a number, and some architectures all of theirs (OPT).

    Of those for whom it is to be off: DPO, the reward model, RLOO. SFT is TRL's, with the rates of the model's config;
    PPO's networks stay in eval mode.
    """
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def is_sharded(trainer: Trainer) -> bool:
    """Whether each process holds a share of the weights (FSDP, DeepSpeed), as `accelerate launch` was told."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def gather(trainer: Trainer, kind: type[PreTrainedModel]) -> None:
    """Make the trained model a whole, plain one of class `kind` again, in place, on rank 0. All processes call it."""
    folder = Path(str(trainer.args.output_dir)) / "gathered"
    trainer.save_model(str(folder))
    unset_hf_deepspeed_config()  # under ZeRO-3 whatever is loaded would be sharded, by all processes together
    processes.wait()
    if processes.is_main():
        model = model_of(trainer)
        whole = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **attention_of(folder)
        )
        nn.Module.to(whole, trainer.args.device)
        model.__class__, model.__dict__ = kind, whole.__dict__


def model_of(trainer: Trainer) -> PreTrainedModel:
    """The network that the trainer trains."""
    assert isinstance(trainer.model, PreTrainedModel)
    return trainer.model


class LogCallback(TrainerCallback):
    """Collects the trainer's log rows and moves the stage's bar; `shown` is the number beside it.

    After a kill the rows and their wall time go on from those of the checkpoint.
    """

    def __init__(self, context: TrainingContext, shown: str) -> None:
        self.context, self.shown = context, shown
        self.rows: TrainingLog = []
        self._bar: StageBar | None = None
        self._start = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._bar = StageBar(self.context.stage, state.max_steps, "steps")
        self._bar.update(state.global_step)
        if state.global_step == 0:
            self.context.sample(0, state.max_steps, kwargs["model"])
        earlier = self.rows[-1]["wall_s"] if self.rows else None
        self._start = time.perf_counter() - (earlier or 0.0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._start += self.context.sample(state.global_step, state.max_steps, kwargs["model"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs or self._bar is None:
            return  # the closing summary of the run
        wall_s = time.perf_counter() - self._start
        self.rows.append({"step": state.global_step, "wall_s": wall_s, **log_row(logs)})
        self._bar.update(1, **({self.shown: logs[self.shown]} if self.shown in logs else {}))
        self.context.on_rows(self.rows)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.close()
