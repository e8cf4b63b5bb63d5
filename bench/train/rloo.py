"""RLOO (Ahmadian et al. 2024) through TRL: REINFORCE whose baseline is the mean reward of a prompt's other samples.

The same reward model, prompts, completion length, temperature and per-completion KL penalty as PPO; no value model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RLOOConfig, RLOOTrainer
from trl.trainer.utils import RepeatSampler

from bench import processes
from bench.encoding import rows_of
from bench.forward import last_token_scores
from bench.generation import sample
from bench.models.attention import attention_of
from bench.models.loading import RewardModel
from bench.provenance import stable_hash
from bench.special_tokens import eos_id, pad_id
from bench.train.context import RolloutBudget, TrainingContext
from bench.train.health.rloo import RLOO
from bench.train.log import TrainingLog
from bench.train.settings.rloo import RLOOSettings, within_budget
from bench.train.trl_common import LogCallback, model_of, train, training_arguments
from bench.train.warmup import CutWarmup


class _PromptOrder(RepeatSampler):
    """TRL's order of prompts, each epoch's a function of the seed and the epoch, so that a resumed run finds its place.

    TRL's own generator goes on from epoch to epoch, and a resumed run would begin with the first epoch's order.
    """

    trainer: RLOOTrainer

    def __iter__(self) -> Iterator[int]:
        steps_per_epoch = self.num_samples // self.batch_size * self.trainer.num_iterations
        epoch = self.trainer.state.global_step // steps_per_epoch
        self.generator.manual_seed(int(stable_hash([self.seed, epoch])[:15], 16))
        yield from super().__iter__()


class _Trainer(CutWarmup, RLOOTrainer):
    """TRL's trainer with this project's sampler in the place of `generate`: all arms sample through the same lines.

    The draws of a step depend on the seed, the step and the rank alone, so a resumed run repeats them.
    """

    draw: Callable[[PreTrainedModel, list[list[int]], torch.Generator], list[list[int]]]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> _PromptOrder:
        stock = super()._get_train_sampler(dataset)
        assert isinstance(stock, RepeatSampler)
        order = _PromptOrder(
            stock.data_source, stock.mini_repeat_count, stock.batch_size, stock.repeat_count, stock.shuffle, stock.seed
        )
        order.trainer = self
        return order

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> list[list[int]]:
        model = self.accelerator.unwrap_model(self.model)
        place = [self.args.seed, self.state.global_step, self.accelerator.process_index]
        generator = torch.Generator(model.device).manual_seed(int(stable_hash(place)[:15], 16))
        with self.accelerator.autocast():
            return self.draw(model, prompt_ids, generator)


def train_rloo(
    sft_folder: Path,
    reward: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: RLOOSettings,
    rollouts: RolloutBudget,
    context: TrainingContext,
) -> tuple[PreTrainedModel, TrainingLog]:
    """The trained policy and the log's rows, one per optimizer step; a batch of `batch_size` completions has
    `num_iterations`, of which the first has the numbers of the completions.

    Raises:
        ConfigError: the episodes do not make one batch of whole groups.
    """
    settings = within_budget(settings, rollouts.episodes, processes.count())
    groups = settings.batch_size // settings.num_generations
    rows = [{"prompt": prompt} for prompt in prompts] * math.ceil(groups / len(prompts))  # TRL wants one full batch
    log = LogCallback(context, "reward")
    arguments = training_arguments(settings, context, epochs=1)
    trainer = _Trainer(
        model=str(sft_folder),
        reward_funcs=reward_function(reward, tokenizer, settings, context.bf16),
        args=RLOOConfig(
            **arguments,
            max_steps=rollouts.episodes // settings.batch_size * settings.num_iterations,
            num_iterations=settings.num_iterations,
            beta=settings.beta,
            num_generations=settings.num_generations,
            max_completion_length=rollouts.max_new_tokens,
            temperature=rollouts.temperature,
            disable_dropout=True,
            model_init_kwargs={
                "dtype": torch.float32,
                "use_safetensors": True,
                "trust_remote_code": False,
                **attention_of(sft_folder),
            },
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[log],
    )

    def draw(model: PreTrainedModel, prompt_ids: list[list[int]], generator: torch.Generator) -> list[list[int]]:
        rollout = sample(
            model,
            prompt_ids[:: settings.num_generations],  # a prompt's samples stand together
            max_new_tokens=rollouts.max_new_tokens,
            eos_token_id=eos_id(tokenizer),
            pad_token_id=pad_id(tokenizer),
            temperature=rollouts.temperature,
            generator=generator,
            samples_per_prompt=settings.num_generations,
            at_once=rollouts.at_once,
        )
        return [ids[mask].tolist() for ids, mask in zip(rollout.completion_ids, rollout.completion_mask, strict=True)]

    trainer.draw = draw
    # Rollouts are in no checkpoint: one between two steps on the same rollouts would go on with others.
    train(trainer, log, RLOO, settings, context, save_every=settings.num_iterations)
    return model_of(trainer), log.rows


def reward_function(
    reward: RewardModel, tokenizer: PreTrainedTokenizerBase, settings: RLOOSettings, bf16: bool
) -> Callable[..., list[float | None]]:
    """What TRL asks for the rewards: the score at the last token; a completion without EOS gets `missing_eos_score`."""
    device = reward.model.device

    @torch.no_grad()
    def score(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        items = [(tokenizer(prompt).input_ids, ids) for prompt, ids in zip(prompts, completion_ids, strict=True)]
        scores: list[float | None] = []
        for start in range(0, len(items), settings.micro_batch_size):
            rows = rows_of(items[start : start + settings.micro_batch_size], pad_id(tokenizer), device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                scores += (last_token_scores(reward.model, rows.input_ids, rows.lengths) - reward.shift).tolist()
        if settings.missing_eos_score is None:
            return scores
        finished = [ids[-1] == eos_id(tokenizer) for ids in completion_ids]
        return [s if done else settings.missing_eos_score for s, done in zip(scores, finished, strict=True)]

    return score
