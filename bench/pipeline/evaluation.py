"""Completions of finished arms in, metrics.json and verdicts out. Every arm goes through the same lines."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.cost import StageCost, judge_cost, summed
from bench.evaluate.best_of_n import Candidate, best_of_first, kl_bound, sizes
from bench.evaluate.claims import verdicts_on_claims
from bench.evaluate.comparisons import against_reference, head_to_heads, judge_habits, strengths
from bench.evaluate.degeneration import Sampled, degeneration
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.factory import ask_ahead, build_judges
from bench.evaluate.judges.gold import GoldJudge
from bench.evaluate.power import power_summary
from bench.evaluate.rouge import rouge_estimates
from bench.evaluate.rules import accuracy, agreement, longer_wins, pair_scores, title_overlap_wins
from bench.evaluate.statistics import bootstrap_mean, decide, estimate, paired_difference, proportion_interval
from bench.evaluate.win_rate import compare, questions, win_rate
from bench.models.loading import RewardModel, load_policy, load_reward_model
from bench.pipeline.config import NEED_REWARD, RunConfig
from bench.pipeline.stages import Stages
from bench.progress import StageBar
from bench.records import ComparisonData, Completion, Verdict
from bench.scoring import reward_scores, summed_logps

REFERENCE = "reference"
_COST_STAGES = {
    "base": (),
    "sft": ("sft",),
    "preferred_ft": ("preferred_ft",),
    "best_of_n": ("reward", "best_of_n"),
    "rloo": ("reward", "rloo"),
    "ppo": ("reward", "ppo"),
    "dpo": ("reference_logps", "dpo"),
}
"""What an arm costs. The SFT model is shared, so it counts only for the arm that is nothing else."""


class Evaluation:
    """The evaluator of one run: its judges and scorers, loaded once."""

    def __init__(self, config: RunConfig, data: ComparisonData, stages: Stages) -> None:
        self.config, self.data, self.stages = config, data, stages
        self.seed, self.resamples = config.seed, config.evaluation.bootstrap_resamples
        self.proxy = self._reward_model("reward") if NEED_REWARD & set(config.arms) else None
        self.judge_reward = self._reward_model("judge_reward") if "reward_model" in config.judge.names else None
        reward = self.judge_reward
        self.judges = build_judges(
            config.judge,
            gold=data.gold,
            reward_score=None if reward is None else lambda rows: self._score(reward, rows),
            cache_dir=Path(config.results_dir) / ".cache",
            seed=self.seed,
        )
        self.verdicts: dict[str, list[Verdict]] = {judge.name: [] for judge in self.judges}

    def metrics(self, completions: Mapping[str, Sequence[Completion]]) -> dict[str, Any]:
        """All of metrics.json but the costs and the claims. Fills `verdicts` on the way."""
        arms = {**completions, REFERENCE: self._reference()}
        texts = {arm: {c.prompt_id: c.completion for c in rows} for arm, rows in arms.items()}
        lengths = {arm: {c.prompt_id: float(c.n_tokens) for c in rows} for arm, rows in arms.items()}
        pairs = list(combinations(sorted(completions), 2))
        trivial = self.data.trivial_policies if self.data.gold is not None else {}
        fewer = self._best_of_fewer() if "best_of_n" in completions else {}
        texts |= {f"best_of_{n}": {c.prompt_id: c.completion for c in rows} for n, rows in fewer.items()}
        against = [*completions, *(f"best_of_{n}" for n in fewer)]
        self._ask_ahead([*((arm, REFERENCE) for arm in against), *pairs], texts)
        with StageBar("evaluate", 2 * len(arms) + len(pairs) + len(trivial) - 1, "steps") as bar:
            metrics: dict[str, Any] = {"arms": {}}
            judged: dict[tuple[str, str], dict[str, list[Verdict]]] = {}
            for arm, rows in arms.items():
                metrics["arms"][arm] = self._arm(rows, is_sampled=arm != REFERENCE)
                bar.update(1)
                if arm != REFERENCE:
                    duel = (arm, REFERENCE)
                    judged[duel] = self._judged(*duel, texts)
                    metrics["arms"][arm] |= against_reference(duel, judged[duel], lengths, self.seed, self.resamples)
                    bar.update(1)
            for duel in pairs:
                judged[duel] = self._judged(*duel, texts)
                bar.update(1)
            metrics["head_to_head"] = head_to_heads(
                {duel: judged[duel] for duel in pairs},
                {arm: judged[arm, REFERENCE] for arm in completions},
                lengths,
                self.seed,
                self.resamples,
            )
            metrics["bradley_terry"] = strengths(judged, REFERENCE, self.seed, self.resamples)
            metrics["judges"] = judge_habits(judged, lengths, self.seed, self.resamples)
            for judge in self.judges:
                metrics["judges"][judge.name]["prompt_hash"] = judge.prompt_hash
                if isinstance(judge, AskingJudge):
                    metrics["judges"][judge.name]["usage"] = judge.usage.to_dict()
            metrics["power"] = power_summary(len(self.data.eval_prompts))
            if "best_of_n" in completions:
                metrics["best_of_n"] = {"by_n": self._by_n(fewer, metrics["arms"]["best_of_n"], texts)}
            metrics |= self._reward_models()
            if trivial:
                metrics["world"] = self._world(texts["sft"], bar)
        return metrics

    def _best_of_fewer(self) -> dict[int, list[Candidate]]:
        """n -> the best of each prompt's first n candidates, for every power of two below the arm's own n."""
        candidates, n_max = self.stages.candidates(), self.config.best_of_n.n
        return {n: best_of_first(candidates, n_max, n) for n in sizes(n_max)[:-1]}

    def _by_n(
        self,
        fewer: Mapping[int, Sequence[Candidate]],
        arm: Mapping[str, Any],
        texts: Mapping[str, Mapping[str, str]],
    ) -> dict[str, Any]:
        """n -> what best of n reaches; the largest n is the arm."""
        shared = ("win_rate", "reward", "length_tokens", "kl_ref")
        result = {str(self.config.best_of_n.n): {key: arm[key] for key in shared}}
        for n, rows in fewer.items():
            judged = self._judged(f"best_of_{n}", REFERENCE, texts)
            reward = {"proxy": self._mean([row.score for row in rows])}
            if self.data.gold is not None:
                reward["gold"] = self._mean([self.data.gold(row.prompt_id, row.completion) for row in rows])
            result[str(n)] = {
                "win_rate": {judge: win_rate(v, self.seed, self.resamples) for judge, v in judged.items()},
                "reward": reward,
                "length_tokens": self._mean([float(row.n_tokens) for row in rows]),
                "kl_ref": self._kl_bound(n),
            }
        return result

    def _kl_bound(self, n: int) -> dict[str, Any]:
        return {"value": kl_bound(n), "ci95": None, "n": len(self.data.eval_prompts), "estimator": "bound"}

    def _arm(self, rows: Sequence[Completion], is_sampled: bool) -> dict[str, Any]:
        """One arm's numbers that need no other arm."""
        summaries = [(prompt.prompt, row.completion) for prompt, row in zip(self.data.eval_prompts, rows, strict=True)]
        sampled = [
            Sampled(prompt, text, row.finished if is_sampled else None)
            for (prompt, text), row in zip(summaries, rows, strict=True)
        ]
        numbers: dict[str, Any] = {
            "degeneration": degeneration(sampled, self.seed),
            "length_tokens": self._mean([float(row.n_tokens) for row in rows]),
            "reward": {},
        }
        if self.proxy is not None:
            numbers["reward"]["proxy"] = self._mean(self._score(self.proxy, summaries))
        if self.data.gold is not None:
            numbers["reward"]["gold"] = self._mean([self.data.gold(row.prompt_id, row.completion) for row in rows])
        if is_sampled:
            references = [prompt.reference for prompt in self.data.eval_prompts]
            numbers["rouge"] = rouge_estimates(
                [row.completion for row in rows],
                references,
                self.seed,
                self.resamples,
                self.config.evaluation.rouge_stemmer,
            )
            finished = proportion_interval([float(row.finished) for row in rows], self.seed, self.resamples)
            numbers["finished"] = estimate(finished)
            if rows[0].arm == "best_of_n":
                return numbers | {"kl_ref": self._kl_bound(self.config.best_of_n.n)}
            k1 = [row.logp - row.ref_logp for row in rows if row.logp is not None and row.ref_logp is not None]
            numbers["kl_ref_k1"] = {**self._mean(k1), "estimator": "k1"}
            numbers["kl_ref"] = numbers["kl_ref_k1"]
            if exact := [row.kl for row in rows if row.kl is not None]:
                numbers["kl_ref"] = {**self._mean(exact), "estimator": "exact"}
                # Both estimate one quantity from the same samples, so this is 0 but for chance.
                difference = paired_difference(k1, exact, self.seed, self.resamples)
                numbers["kl_ref_k1"]["minus_exact"] = estimate(difference)
        return numbers

    def _ask_ahead(self, duels: Sequence[tuple[str, str]], texts: Mapping[str, Mapping[str, str]]) -> None:
        prompts, orders = self.data.eval_prompts, self.config.judge.orders
        shown = [pair for a, b in duels for pair in questions(texts[a], texts[b], prompts, self.seed, orders)]
        ask_ahead(self.judges, [item for _, item in shown])

    def _judged(self, a: str, b: str, texts: Mapping[str, Mapping[str, str]]) -> dict[str, list[Verdict]]:
        judged = {}
        for judge in self.judges:
            judged[judge.name] = compare(
                a, b, texts[a], texts[b], self.data.eval_prompts, judge, self.seed, self.config.judge.orders
            )
            self.verdicts[judge.name] += judged[judge.name]
        return judged

    def _reward_models(self) -> dict[str, Any]:
        """How well each reward model, and DPO's implicit reward, tells chosen from rejected on held-out pairs."""
        pairs = self.data.preferences["validation"]
        longer = longer_wins(pairs)
        result: dict[str, Any] = {}
        scores: dict[str, list[float]] = {}
        for name, model in (("reward_model", self.proxy), ("judge_reward_model", self.judge_reward)):
            if model is None:
                continue
            chosen = self._score(model, [(p.prompt, p.chosen) for p in pairs])
            rejected = self._score(model, [(p.prompt, p.rejected) for p in pairs])
            scores[name] = pair_scores(chosen, rejected)
            lead = paired_difference(scores[name], longer, self.seed, self.resamples, bounds=(-1, 1))
            agreed = agreement(scores[name], longer)
            result[name] = {
                "accuracy": accuracy(scores[name], self.seed, self.resamples),
                "longer_wins": accuracy(longer, self.seed, self.resamples),
                "title_overlap_wins": accuracy(title_overlap_wins(pairs), self.seed, self.resamples),
                "agrees_with_longer": sum(agreed) / len(agreed),
                "beats_longer_wins": decide(lead, 0),
            }
        if "dpo" in self.config.arms:
            implicit = self._implicit_scores()
            result["implicit_reward"] = {"accuracy": accuracy(implicit, self.seed, self.resamples)}
            if "reward_model" in scores:
                lead = paired_difference(implicit, scores["reward_model"], self.seed, self.resamples, bounds=(-1, 1))
                result["implicit_reward"]["minus_reward_model"] = estimate(lead)
        return result

    def _implicit_scores(self) -> list[float]:
        """1, 1/2 or 0 per held-out pair: does log pi_DPO - log pi_SFT put the chosen summary first?"""
        pairs = self.data.preferences["validation"]
        logratios = []
        models = [
            load_policy(self.stages.done[arm].folder, self.stages.device, self.stages.frozen_dtype)
            for arm in ("dpo", "sft")
        ]
        for side in ("chosen", "rejected"):
            rows = [(p.prompt, getattr(p, side)) for p in pairs]
            policy, ref = (summed_logps(m, self.stages.tokenizer, rows, self._batch_size) for m in models)
            logratios.append([x - y for x, y in zip(policy, ref, strict=True)])
        return pair_scores(*logratios)

    def _world(self, sft: Mapping[str, str], bar: StageBar) -> dict[str, Any]:
        """The built-in world's own checks: no trivial policy may beat SFT, and there must be room above it."""
        gold = self.data.gold
        assert gold is not None
        policies = dict(self.data.trivial_policies)
        means = {
            name: self._mean([gold(p, text) for p, text in summaries.items()]) for name, summaries in policies.items()
        }
        trivial = {}
        for name, summaries in policies.items():
            verdicts = compare(name, "sft", summaries, sft, self.data.eval_prompts, GoldJudge(gold), self.seed)
            trivial[name] = {"gold": means[name], "win_rate_vs_sft": win_rate(verdicts, self.seed, self.resamples)}
            bar.update(1)
        best = trivial.pop("best")["gold"]["value"]
        worst = min(entry["gold"]["value"] for entry in trivial.values())
        sft_gold = sum(gold(p, text) for p, text in sft.items()) / len(sft)
        return {
            "trivial": trivial,
            "best_attainable": best,
            "headroom": (best - sft_gold) / (best - worst),
            "headroom_from_empty": (best - sft_gold) / (best - trivial["empty"]["gold"]["value"]),
        }

    def _reference(self) -> list[Completion]:
        """The human summaries as if they were an arm's."""
        tokenizer = self.stages.tokenizer
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

    def _reward_model(self, stage: str) -> RewardModel:
        folder = getattr(self.stages, stage)().folder
        return load_reward_model(folder, self.stages.device, self.stages.frozen_dtype)

    def _score(self, model: RewardModel, rows: Sequence[tuple[str, str]]) -> list[float]:
        return reward_scores(model, self.stages.tokenizer, rows, self._batch_size)

    @property
    def _batch_size(self) -> int:
        return self.config.sampling.batch_size

    def _mean(self, values: Sequence[float]) -> dict[str, Any]:
        return estimate(bootstrap_mean(values, self.seed, self.resamples))


def add_costs(
    metrics: dict[str, Any], config: RunConfig, stages: Stages, evaluation: StageCost, run_wall_s: float
) -> None:
    """Put every stage's cost, each arm's sum and the verdicts on the claims into `metrics`.

    Args:
        evaluation: what the evaluator cost, the same for every arm and so no arm's.
        run_wall_s: seconds since the run began; what neither its stages nor the evaluation took is `other`.
    """
    costs = {name: stage.cost for name, stage in stages.done.items()}
    for arm in config.arms:
        metrics["arms"][arm]["cost"] = summed({name: costs[name] for name in _COST_STAGES[arm]}, config.cost)
    run_now = sum(stage.cost.wall_s for stage in stages.done.values() if not stage.reused) + evaluation.wall_s
    metrics["cost"] = {
        **summed(costs, config.cost),
        "evaluation": evaluation.to_dict(),
        "judge": judge_cost({name: judge["usage"] for name, judge in metrics["judges"].items() if "usage" in judge}),
        "other": {"wall_s": run_wall_s - run_now},
        "run_wall_s": run_wall_s,
    }
    metrics["verdicts_on_claims"] = verdicts_on_claims(
        metrics, config.evaluation.noninferiority_margin, config.evaluation.cost_tolerance
    )
