"""The stages and what each one needs.

base -> sft -> {preferred_ft, reward -> {best_of_n, rloo, ppo}, reference_logps -> dpo}, judge_reward, and generate for
every arm.

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
from bench.evaluate.best_of_n import Candidate, best_of_first
from bench.files import read_jsonl, write_jsonl
from bench.generation import decode, sample_all
from bench.models.loading import (
    RewardModel,
    base_model,
    load_policy,
    load_reward_model,
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
from bench.records import ComparisonData, Completion, Demonstration, PreferencePair
from bench.scoring import completion_scores, reward_scores
from bench.special_tokens import pad_id
from bench.train.dpo import PairLogps, pair_logps, train_dpo
from bench.train.log import TrainingLog
from bench.train.ppo import PPOTrainer
from bench.train.ppo_models import load_ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.reward import train_reward_model
from bench.train.rloo import train_rloo
from bench.train.settings.common import OptimizerSettings
from bench.train.settings.rloo import within_budget
from bench.train.sft import train_sft


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
        # Frozen networks have no need of the fp32 weights that training keeps.
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

    def preferred_ft(self) -> Stage:
        """The SFT model trained further on the chosen summaries, as often as DPO sees the pairs."""
        sft, pairs, config = self.sft(), self.data.preferences["train"], self.config

        def train(folder: Path, **common: Any) -> TrainingLog:
            model = load_policy(sft.folder, self.device)
            rows = [Demonstration(pair.id, pair.prompt, pair.chosen) for pair in pairs]
            log = train_sft(model, self.tokenizer, rows, config.sft, stage="preferred_ft", **common)
            self._save(model, folder)
            return log

        return self._trained("preferred_ft", {"sft": sft.key}, config.sft, config.budget.dpo_epochs, pairs, train)

    def reward(self) -> Stage:
        """The reward model that PPO, RLOO and best of n go by."""
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

    def rloo(self) -> Stage:
        """On the posts and with the episodes of PPO."""
        sft, reward, pairs, config = self.sft(), self.reward(), self.data.preferences["train"], self.config
        budget = config.budget

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=3) as cost:
                policy, log = train_rloo(
                    sft.folder,
                    load_reward_model(reward.folder, self.device, self.frozen_dtype),
                    self.tokenizer,
                    list(dict.fromkeys(pair.prompt for pair in pairs)),
                    config.rloo,
                    config.sampling,
                    episodes=budget.ppo_episodes,
                    max_new_tokens=budget.max_completion_tokens,
                    seed=config.seed,
                    device=self.device,
                    bf16=self.bf16,
                    scratch=folder / CHECKPOINT,
                    checkpoint_every_s=config.checkpoint_every_s,
                    health=config.health,
                )
                self._save(policy, folder)
            lengths = sum(row["completions/mean_length"] or 0.0 for row in log)
            batch = within_budget(config.rloo, budget.ppo_episodes, processes.count()).batch_size
            cost.tokens_generated = cost.tokens_trained = round(lengths * batch)
            return cost, log

        inputs = {
            "reward": reward.key,
            "settings": asdict(config.rloo),
            "sampling": asdict(config.sampling),
            "episodes": budget.ppo_episodes,
            "max_new_tokens": budget.max_completion_tokens,
            "rows": _rows_hash(pairs),
        }
        return self._run("rloo", inputs, build, by_all=True)

    def best_of_n(self) -> Stage:
        """The SFT model's completions of the evaluation prompts, n each, with the reward model's scores."""
        sft, reward, config, prompts = self.sft(), self.reward(), self.config, self.data.eval_prompts
        n = config.best_of_n.n

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=2) as cost:
                with StageBar("best_of_n", n * len(prompts), "samples") as bar:
                    sampled = self._sample(load_policy(sft.folder, self.device, self.frozen_dtype), n, bar)
                texts = [decode(self.tokenizer, ids) for ids, _ in sampled]
                owners = [prompt for prompt in prompts for _ in range(n)]
                scores = reward_scores(
                    load_reward_model(reward.folder, self.device, self.frozen_dtype),
                    self.tokenizer,
                    [(owner.prompt, text) for owner, text in zip(owners, texts, strict=True)],
                    config.sampling.batch_size,
                )
                candidates = [
                    Candidate(owner.id, text, len(ids), finished, score)
                    for owner, text, (ids, finished), score in zip(owners, texts, sampled, scores, strict=True)
                ]
                write_jsonl(folder / "candidates.jsonl", [asdict(candidate) for candidate in candidates])
            cost.tokens_generated = sum(candidate.n_tokens for candidate in candidates)
            return cost, []

        return self._run("best_of_n", {"reward": reward.key, "n": n, **self._sampling_inputs()}, build)

    def candidates(self) -> list[Candidate]:
        """Those of `best_of_n`, n for each evaluation prompt."""
        return [Candidate(**row) for row in read_jsonl(self.best_of_n().folder / "candidates.jsonl")]

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
                cost.models_resident = models.count
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
                    health=config.health,
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
        if arm == "best_of_n":
            return self._pick_best()
        sft, config = self.sft(), self.config
        policy_stage = getattr(self, arm)()

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=2) as cost:
                policy, ref_policy = (
                    load_policy(stage.folder, self.device, self.frozen_dtype) for stage in (policy_stage, sft)
                )
                with StageBar(f"generate {arm}", len(self.data.eval_prompts), "prompts") as bar:
                    sampled = self._sample(policy, 1, bar)
                tokens = [
                    (self.tokenizer(prompt.prompt).input_ids, ids)
                    for prompt, (ids, _) in zip(self.data.eval_prompts, sampled, strict=True)
                ]
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

        inputs = {"policy": policy_stage.key, "sft": sft.key, **self._sampling_inputs()}
        return self._run(f"generate_{arm}", inputs, build)

    def _pick_best(self) -> Stage:
        """The best of all n. Its distribution is no model's: no log-probs; `kl_bound` says how far it may be."""
        stage, n = self.best_of_n(), self.config.best_of_n.n

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device) as cost:
                completions = [
                    Completion(
                        arm="best_of_n",
                        prompt_id=best.prompt_id,
                        completion=best.completion,
                        temperature=self.config.sampling.temperature,
                        n_tokens=best.n_tokens,
                        finished=best.finished,
                    )
                    for best in best_of_first(self.candidates(), n, n)
                ]
                write_jsonl(folder / "completions.jsonl", [asdict(c) for c in completions])
            return cost, []

        return self._run("generate_best_of_n", {"best_of_n": stage.key}, build)

    def _sample(self, policy: PreTrainedModel, samples_per_prompt: int, bar: StageBar) -> list[tuple[list[int], bool]]:
        """(token ids, finished) of each sample of the evaluation prompts, a prompt's samples together."""
        return sample_all(
            policy,
            self.tokenizer,
            [self.tokenizer(prompt.prompt).input_ids for prompt in self.data.eval_prompts],
            sampling=self.config.sampling,
            max_new_tokens=self.config.budget.max_completion_tokens,
            generator=torch.Generator(self.device).manual_seed(self.config.seed),
            on_batch=bar.update,
            samples_per_prompt=samples_per_prompt,
        )

    def _sampling_inputs(self) -> dict[str, Any]:
        return {
            "sampling": asdict(self.config.sampling),
            "max_new_tokens": self.config.budget.max_completion_tokens,
            "rows": _rows_hash(self.data.eval_prompts),
            "seed": self.config.seed,
        }

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
            "health": self.config.health,
        }

        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            with metered(self.device, models_resident=1) as cost:
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
