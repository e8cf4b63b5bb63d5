"""DPO: the policy trained on preference pairs directly, against the SFT model as reference."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from bench.models.shared_prefix import shared_prefix
from bench.records import PreferencePair
from bench.train.config import DPOSettings
from bench.train.trl_common import LogCallback, TrainingLog, model_of, run_quietly, training_arguments


class _PackedDPOTrainer(DPOTrainer):
    """TRL's trainer, its reference pass packed too: that pass runs inside `__init__`, with a bar of its own."""

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        with shared_prefix(model_of(self).base_model), mock.patch.dict(os.environ, TQDM_DISABLE="1"):
            return super()._precompute_ref_logps(dataset, *args, **kwargs)


def train_dpo(
    sft_folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    settings: DPOSettings,
    *,
    epochs: float,
    seed: int,
    device: torch.device,
    bf16: bool,
    scratch: Path,
) -> tuple[PreTrainedModel, TrainingLog]:
    """The trained policy and the log's rows.

    The reference log-probs are computed once, by the SFT model before its first step, so one model is resident.
    """
    callback = LogCallback("dpo", "loss")
    rows = [{"prompt": p.prompt, "chosen": f" {p.chosen}", "rejected": f" {p.rejected}"} for p in pairs]
    arguments = training_arguments(settings, epochs=epochs, scratch=scratch, seed=seed, device=device, bf16=bf16)
    trainer = _PackedDPOTrainer(
        model=str(sft_folder),
        args=DPOConfig(
            **arguments,
            beta=settings.beta,
            loss_type=[settings.loss_type],
            label_smoothing=settings.label_smoothing,
            precompute_ref_log_probs=True,
            model_init_kwargs={"dtype": torch.float32, "use_safetensors": True},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    with shared_prefix(model_of(trainer).base_model):
        run_quietly(trainer)
    return model_of(trainer), callback.rows
