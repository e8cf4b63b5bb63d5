"""TRL 1.12.0's PPOTrainer, the last release that had one, as a peer: run with its folder first on PYTHONPATH.

Imports nothing of this project that imports TRL, because another release is loaded here.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer  # pyright: ignore[reportMissingImports]

from bench.perf.measure import Measurement, Spec, StepClock, worker_main
from bench.perf.workload import read_pairs


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.clock = StepClock()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.clock.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.lap()


def measure(spec: Spec) -> Measurement:
    torch.set_num_threads(spec.threads)
    tokenizer = AutoTokenizer.from_pretrained(spec.model, padding_side="left", trust_remote_code=False)
    pairs = read_pairs(Path(spec.pairs))
    dataset = Dataset.from_list([{"input_ids": tokenizer(p.prompt).input_ids} for p in pairs])
    clock = _Clock()

    def policy() -> Any:
        return AutoModelForCausalLM.from_pretrained(spec.model, dtype=torch.float32, trust_remote_code=False)

    def classifier() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            spec.reward_model, dtype=torch.float32, num_labels=1, trust_remote_code=False
        )

    with tempfile.TemporaryDirectory() as scratch:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=scratch, per_device_train_batch_size=spec.batch_size, gradient_accumulation_steps=1,
                total_episodes=spec.batch_size * spec.steps, num_ppo_epochs=1, num_mini_batches=1,
                response_length=spec.max_new_tokens, temperature=0.7, local_rollout_forward_batch_size=spec.batch_size,
                num_sample_generations=0, learning_rate=1e-6, use_cpu=True, bf16=spec.dtype == "bf16",
                gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
            ),
            processing_class=tokenizer, model=policy(), ref_model=policy(), reward_model=classifier(),
            value_model=classifier(), train_dataset=dataset, eval_dataset=dataset.select(range(1)), callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    return Measurement(step_s=clock.clock.seconds, units=[float(spec.batch_size)] * spec.steps)


if __name__ == "__main__":
    worker_main(measure)
