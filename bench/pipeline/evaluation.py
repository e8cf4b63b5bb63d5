"""Completions of finished arms in, metrics.json and verdicts out. Every arm goes through the same lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from bench.arms import REFERENCE, cost_stages, needs_reward
from bench.cost import StageCost, judge_cost, summed
from bench.evaluate.arm_numbers import sampling_numbers, text_numbers
from bench.evaluate.best_of_n import Candidate, best_of_first, kl_bound_estimate, read_candidates, sizes
from bench.evaluate.claims import verdicts_on_claims
from bench.evaluate.comparisons import against_reference, head_to_heads, judge_habits, strengths
from bench.evaluate.judge_error import Labelled, error_rates, labelled, read_labelled
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import Judge
from bench.evaluate.judges.config import PANEL
from bench.evaluate.judges.factory import ask_ahead, build_judges
from bench.evaluate.panel import agreement_of_judges, majority
from bench.evaluate.power import power_summary
from bench.evaluate.reward_models import Scored, reward_model_numbers
from bench.evaluate.rules import pair_scores
from bench.evaluate.statistics import bootstrap_mean, estimate
from bench.evaluate.summary_metrics import Summary, descriptions, summary_estimates
from bench.evaluate.text_models import TextModels
from bench.evaluate.win_rate import compare, questions, win_rate
from bench.evaluate.world import world_numbers
from bench.models.loading import load_policy, load_reward_model
from bench.progress import StageBar
from bench.records import ComparisonData, Completion, Verdict, VerdictLabel
from bench.scoring import reward_scores, summed_logps

if TYPE_CHECKING:
    from bench.config import RunConfig

Duel = tuple[str, str]
"""(arm, opponent)."""


@dataclass(frozen=True)
class Trained:
    """What the stages left: the folders that the evaluator reads, and how it runs their models."""

    folders: Mapping[str, Path]
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    cache_dir: Path


@dataclass
class Evaluation:
    """The evaluator of one run; judges and scorers are loaded once, when they are first asked."""

    config: "RunConfig"
    data: ComparisonData
    trained: Trained
    completions: Mapping[str, Sequence[Completion]]
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)

    @cached_property
    def judges(self) -> list[Judge]:
        return build_judges(
            self.config.judge,
            gold=self.data.gold,
            reward_score=None if "reward_model" not in self.config.judge.names else self._judge_score,
            cache_dir=self.trained.cache_dir,
            seed=self.config.seed,
        )

    @cached_property
    def texts(self) -> dict[str, dict[str, str]]:
        """Arm, reference or `best_of_<n>` -> prompt id -> summary."""
        arms = {**self.completions, REFERENCE: self._reference()}
        arms |= {f"best_of_{n}": rows for n, rows in self.fewer.items()}
        return {arm: {row.prompt_id: row.completion for row in rows} for arm, rows in arms.items()}

    @cached_property
    def fewer(self) -> dict[int, list[Candidate]]:
        """n -> the best of each prompt's first n candidates, for every power of two below the arm's own n."""
        if "best_of_n" not in self.completions:
            return {}
        found, n_max = read_candidates(self.trained.folders["best_of_n"]), self.config.best_of_n.n
        return {n: best_of_first(found, n_max, n) for n in sizes(n_max)[:-1]}

    def metrics(self) -> dict[str, Any]:
        """All of metrics.json but the costs and the claims. Fills `verdicts` on the way."""
        arms = {**self.completions, REFERENCE: self._reference()}
        lengths = {arm: {c.prompt_id: float(c.n_tokens) for c in rows} for arm, rows in arms.items()}
        pairs = list(combinations(sorted(self.completions), 2))
        references = [(arm, REFERENCE) for arm in self.completions]
        self.verdicts = {name: [] for name in (*self.config.judge.names, *([PANEL] if self.config.judge.panel else []))}
        self._ask_ahead([*references, *((f"best_of_{n}", REFERENCE) for n in self.fewer), *pairs])
        with StageBar("evaluate", len(arms) + len(references) + len(pairs), "steps") as bar:
            numbers: dict[str, Any] = {}
            for arm, rows in arms.items():
                numbers[arm] = self._arm(arm, rows)
                bar.update(1)
            judged: dict[Duel, dict[str, list[Verdict]]] = {}
            for duel in (*references, *pairs):
                judged[duel] = self._judged(*duel)
                bar.update(1)
        characters = {arm: {p: float(len(text)) for p, text in texts.items()} for arm, texts in self.texts.items()}
        labels = {judge: rows for judge, (_, rows) in self.labels.items()}
        compared = against_reference(
            {duel: judged[duel] for duel in references}, lengths, characters, labels, *self._draws
        )
        for arm, found in compared.items():
            numbers[arm] |= found
        metrics: dict[str, Any] = {
            "arms": numbers,
            "summary_metrics": descriptions(self.config.evaluation.metrics),
            "head_to_head": head_to_heads(
                {duel: judged[duel] for duel in pairs},
                {arm: judged[arm, REFERENCE] for arm in self.completions},
                lengths,
                *self._draws,
            ),
            "bradley_terry": strengths(judged, REFERENCE, *self._draws),
            "judges": self._judges(judge_habits(judged, lengths, *self._draws)),
            "power": power_summary(len(self.data.eval_prompts)),
        }
        if len(self.judges) > 1:
            alone = [{name: duel[name] for name in self.config.judge.names} for duel in judged.values()]
            metrics["judge_agreement"] = agreement_of_judges(alone, *self._draws)
        if self.fewer:
            metrics["best_of_n"] = {"by_n": self._by_n(numbers["best_of_n"])}
        metrics |= self._reward_models()
        if self.data.gold is not None and self.data.trivial_policies:
            metrics["world"] = world_numbers(
                self.data.trivial_policies, self.texts["sft"], self.data.eval_prompts, self.data.gold, *self._draws
            )
        return metrics

    def _arm(self, arm: str, rows: Sequence[Completion]) -> dict[str, Any]:
        prompts, is_sampled = self.data.eval_prompts, arm != REFERENCE
        rewards: dict[str, Sequence[float]] = {}
        if needs_reward(self.config.arms):
            summaries = [(prompt.prompt, row.completion) for prompt, row in zip(prompts, rows, strict=True)]
            rewards["proxy"] = self._score("reward", summaries)
        if (gold := self.data.gold) is not None:
            rewards["gold"] = [gold(row.prompt_id, row.completion) for row in rows]
        numbers = text_numbers(rows, prompts, rewards, is_sampled, *self._draws)
        texts = [Summary.of(prompt.prompt, row.completion) for prompt, row in zip(prompts, rows, strict=True)]
        numbers["summaries"] = summary_estimates(texts, self.config.evaluation.metrics, self._models, *self._draws)
        if is_sampled:
            seed, resamples = self._draws
            numbers |= sampling_numbers(
                rows,
                prompts,
                best_of=self.config.best_of_n.n if arm == "best_of_n" else None,
                rouge_stemmer=self.config.evaluation.rouge_stemmer,
                seed=seed,
                resamples=resamples,
            )
        return numbers

    def _judges(self, habits: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """`judge_habits` with each judge's kind and prompt, what was asked and bought, and how often it errs."""
        for spec in self.config.judge.specs:
            habits[spec.name]["kind"] = spec.kind
        if (members := self.config.judge.panel) is not None:
            habits[PANEL] |= {"kind": PANEL, "members": list(members), "prompt_hash": ""}
        for judge in self.judges:
            habits[judge.name]["prompt_hash"] = judge.prompt_hash
            if isinstance(judge, AskingJudge):
                habits[judge.name]["usage"] = judge.usage.to_dict()
            if judge.name in self.labels:
                source, rows = self.labels[judge.name]
                pairs = round(sum(row.weight for row in rows))
                habits[judge.name]["labels"] = {"source": source, "pairs": pairs, **error_rates(rows)}
        return habits

    def _by_n(self, arm: Mapping[str, Any]) -> dict[str, Any]:
        """n -> what best of n reaches; the largest n is the arm."""
        result = {str(self.config.best_of_n.n): {key: arm[key] for key in _OF_EVERY_N}}
        for n, rows in self.fewer.items():
            judged = self._judged(f"best_of_{n}", REFERENCE)
            reward = {"proxy": self._mean([row.score for row in rows])}
            if self.data.gold is not None:
                reward["gold"] = self._mean([self.data.gold(row.prompt_id, row.completion) for row in rows])
            result[str(n)] = {
                "win_rate": {judge: win_rate(verdicts, *self._draws) for judge, verdicts in judged.items()},
                "reward": reward,
                "length_tokens": self._mean([float(row.n_tokens) for row in rows]),
                "kl_ref": kl_bound_estimate(n, len(self.data.eval_prompts)),
            }
        return result

    @cached_property
    def labels(self) -> dict[str, tuple[str, list[Labelled]]]:
        """Judge -> where its labelled pairs are from, and the pairs: audits, or the run's own held-out pairs for the
        judge that is a reward model."""
        found: dict[str, tuple[str, list[Labelled]]] = {}
        if self._has_reward_judge:
            pairs = self.data.preferences["validation"]
            scores = pair_scores(*self._scored["judge_reward_model"])
            chosen: list[VerdictLabel] = ["a"]
            found["reward_model"] = (
                "validation",
                labelled(
                    [pair.prompt for pair in pairs],
                    [_VERDICTS[score] for score in scores],
                    [chosen] * len(pairs),
                    [(len(pair.chosen), len(pair.rejected)) for pair in pairs],
                ),
            )
        hashes = {judge.name: judge.prompt_hash for judge in self.judges}
        for folder in self.config.evaluation.judge_labels:
            for judge, (prompt_hash, rows) in read_labelled(Path(folder)).items():
                if hashes.get(judge) == prompt_hash:
                    found[judge] = folder, rows
        return found

    @cached_property
    def _scored(self) -> dict[str, Scored]:
        """Name in metrics.json -> a reward model's scores of the held-out pairs."""
        stages = {"reward_model": needs_reward(self.config.arms), "judge_reward_model": self._has_reward_judge}
        return {
            name: Scored(*(self._score(_REWARD_STAGES[name], side) for side in self._sides))
            for name, is_there in stages.items()
            if is_there
        }

    @property
    def _sides(self) -> list[list[tuple[str, str]]]:
        """The held-out pairs' chosen summaries, and the rejected ones, each with its prompt."""
        pairs = self.data.preferences["validation"]
        return [[(pair.prompt, getattr(pair, side)) for pair in pairs] for side in ("chosen", "rejected")]

    def _reward_models(self) -> dict[str, Any]:
        implicit = Scored(*map(self._logratios, self._sides)) if "dpo" in self.config.arms else None
        return reward_model_numbers(self.data.preferences["validation"], self._scored, implicit, *self._draws)

    def _logratios(self, summaries: Sequence[tuple[str, str]]) -> list[float]:
        """log pi_DPO - log pi_SFT of each summary, in nats."""
        policy, ref = (
            summed_logps(model, self.trained.tokenizer, summaries, self._batch_size) for model in self._dpo_and_sft
        )
        return [x - y for x, y in zip(policy, ref, strict=True)]

    @cached_property
    def _dpo_and_sft(self) -> list[Any]:
        trained = self.trained
        return [load_policy(trained.folders[arm], trained.device, trained.dtype) for arm in ("dpo", "sft")]

    def _ask_ahead(self, duels: Sequence[Duel]) -> None:
        prompts, orders, texts = self.data.eval_prompts, self.config.judge.orders, self.texts
        seed = self.config.seed
        shown = [question for a, b in duels for question in questions(texts[a], texts[b], prompts, seed, orders)]
        ask_ahead(self.judges, [item for _, item in shown])

    def _judged(self, a: str, b: str) -> dict[str, list[Verdict]]:
        prompts, orders = self.data.eval_prompts, self.config.judge.orders
        judged = {
            judge.name: compare(a, b, self.texts[a], self.texts[b], prompts, judge, self.config.seed, orders)
            for judge in self.judges
        }
        if (members := self.config.judge.panel) is not None:
            judged[PANEL] = majority({name: judged[name] for name in members})
        for judge, verdicts in judged.items():
            self.verdicts[judge] += verdicts
        return judged

    def _reference(self) -> list[Completion]:
        """The human summaries as if they were an arm's."""
        tokenizer = self.trained.tokenizer
        return [
            Completion(
                arm=REFERENCE,
                prompt_id=p.id,
                completion=p.reference,
                temperature=0.0,
                n_tokens=len(tokenizer(f" {p.reference}").input_ids) + 1,
                finished=True,
            )
            for p in self.data.eval_prompts
        ]

    def _judge_score(self, summaries: Sequence[tuple[str, str]]) -> list[float]:
        return self._score("judge_reward", summaries)

    def _score(self, stage: str, summaries: Sequence[tuple[str, str]]) -> list[float]:
        if stage not in self._scorers:
            trained = self.trained
            self._scorers[stage] = load_reward_model(trained.folders[stage], trained.device, trained.dtype)
        return reward_scores(self._scorers[stage], self.trained.tokenizer, summaries, self._batch_size)

    @cached_property
    def _scorers(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _models(self) -> TextModels:
        return text_models(self.config, self.trained.device, self.trained.cache_dir)

    @property
    def _has_reward_judge(self) -> bool:
        return "reward_model" in self.config.judge.names

    @property
    def _batch_size(self) -> int:
        return self.config.sampling.batch_size

    @property
    def _draws(self) -> tuple[int, int]:
        """Seed and number of the resamples of every interval."""
        return self.config.seed, self.config.evaluation.bootstrap_resamples

    def _mean(self, values: Sequence[float]) -> dict[str, Any]:
        return estimate(bootstrap_mean(values, *self._draws))


def text_models(config: "RunConfig", device: torch.device, cache_dir: Path) -> TextModels:
    """The models that metrics of summaries need, none of them loaded yet."""
    evaluation = config.evaluation
    return TextModels(
        {"embedding_model": evaluation.embedding_model, "nli_model": evaluation.nli_model}, device, cache_dir
    )


_OF_EVERY_N = ("win_rate", "reward", "length_tokens", "kl_ref")
_VERDICTS: dict[float, VerdictLabel] = {1.0: "a", 0.5: "tie", 0.0: "b"}
_REWARD_STAGES = {"reward_model": "reward", "judge_reward_model": "judge_reward"}


def add_costs(
    metrics: dict[str, Any],
    config: "RunConfig",
    costs: Mapping[str, StageCost],
    evaluation: StageCost,
    run_wall_s: float,
    stages_wall_s: float,
) -> None:
    """Put every stage's cost, each arm's sum and the verdicts on the claims into `metrics`.

    Args:
        costs: stage -> what it cost when it ran.
        evaluation: what the evaluator cost, the same for every arm and so no arm's.
        run_wall_s: seconds since the run began; what neither its stages nor the evaluation took is `other`.
        stages_wall_s: seconds that this run itself spent in its stages.
    """
    for arm in config.arms:
        metrics["arms"][arm]["cost"] = summed({name: costs[name] for name in cost_stages(arm)}, config.cost)
    metrics["cost"] = {
        **summed(costs, config.cost),
        "evaluation": evaluation.to_dict(),
        "judge": judge_cost({name: judge["usage"] for name, judge in metrics["judges"].items() if "usage" in judge}),
        "other": {"wall_s": run_wall_s - stages_wall_s - evaluation.wall_s},
        "run_wall_s": run_wall_s,
    }
    metrics["verdicts_on_claims"] = verdicts_on_claims(
        metrics, config.evaluation.noninferiority_margin, config.evaluation.cost_tolerance
    )
