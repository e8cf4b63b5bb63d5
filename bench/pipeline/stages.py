"""The stages and what each one needs.

base -> sft -> {reward -> ppo, reference_logps -> dpo}, judge_reward, and generate for every arm.

Every stage is a pure function of its inputs' hash (see `cache`); its cost is metered here, once, and travels with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import processes
from bench.cost import StageCost, metered
from bench.evaluate.score import completion_scores, reward_scores
from bench.files import read_jsonl, write_jsonl
from bench.generation import decode, sample_all
from bench.models.loading import (
    RewardModel,
    base_model,
    load_policy,
    new_reward_model,
    pick_device,
    save_policy,
    save_reward_model,
    use_bf16,
)
from bench.pipeline.cache import CHECKPOINT, Stage, StageCache
from bench.pipeline.config import RunConfig
from bench.progress import StageBar
from bench.provenance import stable_hash
from bench.records import ComparisonData, Completion, PreferencePair
from bench.special_tokens import pad_id
from bench.train.config import OptimizerSettings
from bench.train.dpo import PairLogps, pair_logps, train_dpo
from bench.train.ppo import PPOTrainer, PromptIds
from bench.train.ppo_models import load_ppo_models
from bench.train.reward import train_reward_model
from bench.train.sft import train_sft
from bench.train.trl_common import TrainingLog


class Stages:
    """Runs stages of one config on one data set, each at most once per cache."""

    def __init__(
        self,
        config: RunConfig,
        data: ComparisonData,
        tokenizer: PreTrainedTokenizerBase,
        cache: StageCache,
        cache_dir: Path,
    ) -> None:
        """`cache_dir` is where models that come in a package are kept."""
        self.config, self.data, self.tokenizer, self.cache, self.cache_dir = config, data, tokenizer, cache, cache_dir
        self.device = pick_device(config.model.device)
        self.bf16 = use_bf16(config.model.precision, self.device)
        # Frozen networks run in plain bf16 weights; trained ones keep fp32 weights under autocast.
        self.frozen_dtype = torch.bfloat16 if self.bf16 else torch.float32
        self.done: dict[str, Stage] = {}

    def base(self) -> Stage:
        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=1) as cost:
                model = base_model(self.config.model, self.tokenizer, self.config.seed, self.cache_dir)
                save_policy(model, self.tokenizer, folder)
            return cost, []

        # A tiny model's tokenizer comes from the demonstrations, so they are part of what it is.
        texts = _rows_hash(self.data.demonstrations["train"]) if self.config.model.kind == "tiny" else ""
        return self._run("base", {"model": asdict(self.config.model), "seed": self.config.seed, "texts": texts}, build)

    def sft(self) -> Stage:
        base, rows, config = self.base(), self.data.demonstrations["train"], self.config

        def train(folder: Path, **common: Any) -> TrainingLog:
            model = load_policy(base.folder, self.device)
            log = train_sft(model, self.tokenizer, rows, config.sft, **common)
            self._save(model, folder)
            return log

        return self._trained("sft", {"base": base.key}, config.sft, config.budget.sft_epochs, rows, train)

    def reward(self) -> Stage:
        """The reward model that PPO is trained against."""
        return self._reward_model("reward", self.data.preferences["train"], self.config.seed)

    def judge_reward(self) -> Stage:
        """The judge's: the same recipe, but other pairs and another seed."""
        return self._reward_model("judge_reward", self.data.preferences["judge"], self.config.seed + 1)

    def _reward_model(self, name: str, pairs: Sequence[PreferencePair], seed: int) -> Stage:
        sft, config = self.sft(), self.config

        def train(folder: Path, **common: Any) -> TrainingLog:
            model = new_reward_model(sft.folder, pad_id(self.tokenizer), seed, self.device)
            log = train_reward_model(model, self.tokenizer, pairs, config.reward, stage=name, **common)
            if processes.is_main():
                reward = RewardModel(model.eval())
                with self._autocast():
                    reward.shift = self._mean_reference_score(reward)
                save_reward_model(reward, self.tokenizer, folder)
            return log

        inputs = {"sft": sft.key, "seed": seed}
        return self._trained(name, inputs, config.reward, config.budget.reward_epochs, pairs, train, seed)

    def _mean_reference_score(self, reward: RewardModel) -> float:
        """Mean raw score of the summaries of (at most 256) training demonstrations (N+ shift by it)."""
        rows = self.data.demonstrations["train"][:256]
        scores = reward_scores(
            reward, self.tokenizer, [(d.prompt, d.completion) for d in rows], self.config.sampling.batch_size
        )
        return sum(scores) / len(scores)

    def reference_logps(self) -> Stage:
        """What DPO needs of the SFT model: a sweep over DPO's settings computes it once."""
        sft, pairs = self.sft(), self.data.preferences["train"]

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=1) as cost:
                model = load_policy(sft.folder, self.device)
                with self._autocast(), StageBar("reference_logps", len(pairs), "pairs") as bar:
                    logps = pair_logps(model, self.tokenizer, pairs, self.config.sampling.batch_size, bar.update)
                write_jsonl(folder / "logps.jsonl", [pair._asdict() for pair in logps])
            return cost, []

        return self._run("reference_logps", {"sft": sft.key, "rows": _rows_hash(pairs)}, build)

    def dpo(self) -> Stage:
        sft, reference, pairs = self.sft(), self.reference_logps(), self.data.preferences["train"]

        def train(folder: Path, **common: Any) -> TrainingLog:
            logps = [PairLogps(**row) for row in read_jsonl(reference.folder / "logps.jsonl")]
            policy, log = train_dpo(sft.folder, self.tokenizer, pairs, logps, self.config.dpo, **common)
            self._save(policy, folder)
            return log

        epochs = self.config.budget.dpo_epochs
        return self._trained("dpo", {"reference_logps": reference.key}, self.config.dpo, epochs, pairs, train)

    def ppo(self) -> Stage:
        """Rollouts are on the posts of the preference pairs: neither arm sees a post that the other does not."""
        sft, reward, pairs, config = self.sft(), self.reward(), self.data.preferences["train"], self.config

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            prompts = {p.prompt: p.id for p in pairs}  # a post may have several pairs
            with metered(self.device, models_resident=4) as cost:
                models = load_ppo_models(
                    sft.folder,
                    reward.folder,
                    config.ppo,
                    device=self.device,
                    frozen_dtype=self.frozen_dtype,
                    seed=config.seed,
                )
                cost.devices, cost.models_resident = processes.count(), models.count
                trainer = PPOTrainer(
                    models,
                    self.tokenizer,
                    config.ppo,
                    config.sampling,
                    episodes=config.budget.ppo_episodes,
                    max_new_tokens=config.budget.max_completion_tokens,
                    seed=config.seed,
                    bf16=self.bf16,
                )
                token_ids = [PromptIds(name, self.tokenizer(text).input_ids) for text, name in prompts.items()]
                log = trainer.train(
                    token_ids,
                    self.data.gold,
                    checkpoint_dir=folder / CHECKPOINT,
                    checkpoint_every_s=config.checkpoint_every_s,
                )
                self._save(models.trained_policy(), folder)
            sampled = sum(row["length_tokens"] or 0.0 for row in log) * trainer.batch_size
            cost.tokens_generated = round(sampled)
            cost.tokens_trained = round(sampled * config.ppo.ppo_epochs)
            return cost, log

        inputs = {
            "sft": sft.key,
            "reward": reward.key,
            "settings": asdict(config.ppo),
            "sampling": asdict(config.sampling),
            "episodes": config.budget.ppo_episodes,
            "max_new_tokens": config.budget.max_completion_tokens,
            "rows": _rows_hash(pairs),
        }
        return self._run("ppo", inputs, build, by_all=True)

    def generate(self, arm: str) -> Stage:
        """One completion per evaluation prompt, with its log-probs and KL against the SFT model."""
        sft, config = self.sft(), self.config
        policy_stage = getattr(self, arm)()

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=2) as cost:
                policy = load_policy(policy_stage.folder, self.device, self.frozen_dtype)
                ref_policy = load_policy(sft.folder, self.device, self.frozen_dtype)
                prompts = [self.tokenizer(p.prompt).input_ids for p in self.data.eval_prompts]
                with StageBar(f"generate {arm}", len(prompts), "prompts") as bar:
                    sampled = sample_all(
                        policy,
                        self.tokenizer,
                        prompts,
                        sampling=config.sampling,
                        max_new_tokens=config.budget.max_completion_tokens,
                        generator=torch.Generator(self.device).manual_seed(config.seed),
                        on_batch=bar.update,
                    )
                tokens = [(prompt, ids) for prompt, (ids, _) in zip(prompts, sampled, strict=True)]
                scores = completion_scores(
                    policy, ref_policy, self.tokenizer, tokens, config.sampling.temperature, config.sampling.batch_size
                )
                completions = [
                    Completion(
                        arm=arm,
                        prompt_id=prompt.id,
                        completion=decode(self.tokenizer, ids),
                        temperature=config.sampling.temperature,
                        n_tokens=len(ids),
                        finished=finished,
                        **score._asdict(),
                    )
                    for prompt, (ids, finished), score in zip(self.data.eval_prompts, sampled, scores, strict=True)
                ]
                write_jsonl(folder / "completions.jsonl", [asdict(c) for c in completions])
            cost.tokens_generated = sum(c.n_tokens for c in completions)
            return cost, []

        inputs = {
            "policy": policy_stage.key,
            "sft": sft.key,
            "sampling": asdict(config.sampling),
            "max_new_tokens": config.budget.max_completion_tokens,
            "rows": _rows_hash(self.data.eval_prompts),
            "seed": config.seed,
        }
        return self._run(f"generate_{arm}", inputs, build)

    def _trained(
        self,
        name: str,
        inputs: dict[str, Any],
        settings: OptimizerSettings,
        epochs: float,
        rows: Sequence[Any],
        train: Callable[..., TrainingLog],
        seed: int | None = None,
    ) -> Stage:
        """The stage of a TRL trainer: `train(folder, **common)` trains on the rows, saves into the folder, and logs."""
        common = {
            "epochs": epochs,
            "seed": self.config.seed if seed is None else seed,
            "device": self.device,
            "bf16": self.bf16,
            "checkpoint_every_s": self.config.checkpoint_every_s,
        }

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=1) as cost:
                cost.devices = processes.count()
                log = train(folder, **common, scratch=folder / CHECKPOINT)
            cost.tokens_trained = round(max((row.get("num_tokens") or 0.0 for row in log), default=0.0))
            return cost, log

        inputs = {**inputs, "settings": asdict(settings), "epochs": epochs, "rows": _rows_hash(rows)}
        return self._run(name, inputs, build, by_all=True)

    def _run(self, name: str, inputs: dict[str, Any], build: Any, *, by_all: bool = False) -> Stage:
        if name not in self.done:
            shared = {"device": self.device.type, "bf16": self.bf16, "seed": self.config.seed}
            self.done[name] = self.cache.run(name, {**shared, **inputs}, build, by_all=by_all)
        return self.done[name]

    def _save(self, policy: PreTrainedModel, folder: Path) -> None:
        if processes.is_main():
            save_policy(policy, self.tokenizer, folder)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def _rows_hash(rows: Sequence[Any]) -> str:
    return stable_hash([asdict(row) for row in rows])
