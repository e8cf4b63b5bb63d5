"""Completions of finished arms in, metrics.json and verdicts out. Every arm goes through the same lines."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arms import REFERENCE, START, cost_stages, needs_reward
from bench.cost import StageCost, judge_cost, summed
from bench.evaluate.arm_numbers import sampled, sampling_numbers, text_numbers
from bench.evaluate.best_of_n import Candidate, best_of_first, kl_bound, kl_bound_estimate, read_candidates, sizes
from bench.evaluate.claims import verdicts_on_claims
from bench.evaluate.comparisons import Duel, Lengths, against_reference, head_to_heads, judge_habits, strengths, zero_of
from bench.evaluate.degeneration import detected
from bench.evaluate.in_training import Moment, in_training
from bench.evaluate.judge_checks import judge_checks
from bench.evaluate.judge_error import Labelled, labelled, of_labels, read_labelled
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import Judge
from bench.evaluate.judges.config import PANEL
from bench.evaluate.judges.factory import ask_ahead, asked_ahead
from bench.evaluate.judges.reward_model import RewardModelJudge
from bench.evaluate.overoptimisation import fit_over_prompts
from bench.evaluate.panel import agreement_of_judges, majority
from bench.evaluate.power import power_summary
from bench.evaluate.reward_models import Scored, reward_model_numbers
from bench.evaluate.rules import pair_scores
from bench.evaluate.statistics import bootstrap_mean, estimate
from bench.evaluate.summary_metrics import Summary, descriptions, summary_estimates
from bench.evaluate.win_rate import compare, questions, win_rate
from bench.evaluate.world import world_numbers
from bench.pipeline.instruments import Instruments
from bench.pipeline.watched import Watched, moments
from bench.progress import StageBar
from bench.records import ComparisonData, Completion, EvalPrompt, Verdict, VerdictLabel

if TYPE_CHECKING:
    from bench.config import RunConfig
    from bench.pipeline.cells import Cell

Texts = tuple[str, Mapping[str, str]]
"""Who wrote them, and prompt id -> summary."""


@dataclass
class Evaluation:
    """The evaluator of one cell of a run.

    Attributes:
        folders: stage -> folder, of the stages that the cell stands on.
        completions: arm -> its completions of the cell's prompts.
        watched: arm -> what its trainer sampled on the way.
        verdicts: judge -> every verdict, once `metrics` has been called.
    """

    cell: "Cell"
    instruments: Instruments
    folders: Mapping[str, Path]
    completions: Mapping[str, Sequence[Completion]]
    watched: Watched = field(default_factory=dict)
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)

    @property
    def config(self) -> "RunConfig":
        return self.cell.config

    @property
    def data(self) -> ComparisonData:
        return self.cell.data

    @cached_property
    def judges(self) -> list[Judge]:
        return self.instruments.judges(self.cell)

    @cached_property
    def texts(self) -> dict[str, dict[str, str]]:
        """Arm, reference or `best_of_<n>` -> prompt id -> summary."""
        arms = {**self._summaries}
        arms |= {f"best_of_{n}": rows for n, rows in self.fewer.items()}
        return {arm: {row.prompt_id: row.completion for row in rows} for arm, rows in arms.items()}

    @cached_property
    def fewer(self) -> dict[int, list[Candidate]]:
        """n -> the best of each prompt's first n candidates, for every power of two below the arm's own n."""
        if "best_of_n" not in self.completions:
            return {}
        return {n: rows for n, rows in self._best.items() if n < self._best_of}

    @cached_property
    def _best(self) -> dict[int, list[Candidate]]:
        """The same for every power of two, the arm's own n among them."""
        found, n_max = read_candidates(self.folders["best_of_n"]), self._best_of
        return {n: best_of_first(found, n_max, n) for n in sizes(n_max)}

    def metrics(self) -> dict[str, Any]:
        """All of the headline's metrics.json but the costs and the claims. Fills `verdicts` on the way."""
        judged, lengths = self._all_judged()
        zero = zero_of(judged)
        watched = {arm: in_training(moments, *self._draws) for arm, moments in self.moments.items()}
        metrics: dict[str, Any] = {
            **self._compared(judged, lengths),
            **({"in_training": watched} if watched else {}),
            "summary_metrics": descriptions(self.config.evaluation.metrics),
            "bradley_terry": strengths(judged, zero, *self._draws),
            "power": power_summary(len(self.data.eval_prompts)),
        }
        if zero != REFERENCE:
            metrics["bradley_terry_zero"] = dict.fromkeys(metrics["bradley_terry"], zero)
        if self.data.has_references:
            for judge in self.judges:
                if isinstance(judge, RewardModelJudge):  # it costs next to nothing to ask, and is no truth and no rule
                    checks = judge_checks(judge, self.data.eval_prompts, *self._draws)
                    metrics["judges"][judge.name]["checks"] = checks
        if len(self.judges) > 1:
            alone = [{name: duel[name] for name in self.config.judge.names} for duel in judged.values()]
            metrics["judge_agreement"] = agreement_of_judges(alone, *self._draws)
        if self.fewer:
            metrics["best_of_n"] = {"by_n": self._by_n(metrics["arms"]["best_of_n"]), "fits": self._best_of_n_fits()}
        metrics |= self._reward_models()
        if self.data.gold is not None and self.data.trivial_policies:
            metrics["world"] = world_numbers(
                self.data.trivial_policies, self.texts["sft"], self.data.eval_prompts, self.data.gold, *self._draws
            )
        return metrics

    @cached_property
    def moments(self) -> dict[str, list[Moment]]:
        """Arm -> its samples on the way."""
        return moments(self, self.watched)

    def cell_metrics(self) -> dict[str, Any]:
        """A row of metrics.json's grid: "set", "temperature", "n_prompts", and "arms", "head_to_head" and "judges" as
        in the headline. Fills `verdicts` on the way."""
        where = {"set": self.cell.set, "temperature": self.cell.temperature, "n_prompts": len(self.data.eval_prompts)}
        return {**where, **self._compared(*self._all_judged())}

    def _all_judged(self) -> tuple[dict[Duel, dict[str, list[Verdict]]], Lengths]:
        """Every arm against the reference summaries and every pair of arms, by judge; and all lengths in tokens."""
        pairs = list(combinations(sorted(self.completions), 2))
        references = self._against_reference(self.completions)
        self.verdicts = {name: [] for name in (*self.config.judge.names, *([PANEL] if self.config.judge.panel else []))}
        duels = [*references, *self._against_reference(f"best_of_{n}" for n in self.fewer), *pairs]
        self.ask_ahead([(self.texts[a], self.texts[b], self.data.eval_prompts) for a, b in duels])
        with StageBar(f"judge {self.cell.name}", len(references) + len(pairs), "duels") as bar:
            judged: dict[Duel, dict[str, list[Verdict]]] = {}
            for duel in (*references, *pairs):
                judged[duel] = self._judged(*duel)
                bar.update(1)
        lengths = {arm: {row.prompt_id: float(row.n_tokens) for row in rows} for arm, rows in self._summaries.items()}
        return judged, lengths

    def _against_reference(self, arms: Iterable[str]) -> list[Duel]:
        return [(arm, REFERENCE) for arm in arms] if self.data.has_references else []

    def _compared(self, judged: Mapping[Duel, dict[str, list[Verdict]]], lengths: Lengths) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        arms = self._summaries
        with StageBar(f"measure {self.cell.name}", len(arms), "arms") as bar:
            for arm, rows in arms.items():
                numbers[arm] = self._arm(arm, rows)
                bar.update(1)
        for arm, gain in self._over_sft().items():
            numbers[arm]["gain"] = gain
        characters = {arm: {p: float(len(text)) for p, text in texts.items()} for arm, texts in self.texts.items()}
        labels = {judge: rows for judge, (_, rows) in self.labels.items()}
        references = {duel: verdicts for duel, verdicts in judged.items() if duel[1] == REFERENCE}
        pairs = {duel: verdicts for duel, verdicts in judged.items() if duel[1] != REFERENCE}
        for arm, found in against_reference(references, lengths, characters, labels, *self._draws).items():
            numbers[arm] |= found
        alone = {arm: verdicts for (arm, _), verdicts in references.items()}
        return {
            "arms": numbers,
            "head_to_head": head_to_heads(pairs, alone, lengths, *self._draws),
            "judges": self._judges(judge_habits(judged, lengths, *self._draws)),
        }

    def _over_sft(self) -> dict[str, dict[str, Any]]:
        """Arm -> reward -> what its summaries have over the SFT model's, paired by prompt."""
        prompts = self.data.eval_prompts
        rewards = {arm: self.rewards(rows, prompts) for arm, rows in self.completions.items()}
        return {
            arm: {
                kind: self._mean(np.subtract(values, rewards[START][kind]).tolist()) for kind, values in of_arm.items()
            }
            for arm, of_arm in rewards.items()
            if arm != START
        }

    def _arm(self, arm: str, rows: Sequence[Completion]) -> dict[str, Any]:
        prompts = self.data.eval_prompts
        rewards = self.rewards(rows, prompts)
        evaluation = self.config.evaluation
        inputs = [
            [vars(row) for row in rows],
            [vars(prompt) for prompt in prompts],
            rewards,
            [evaluation.metrics, evaluation.embedding_model, evaluation.nli_model, evaluation.rouge_stemmer],
            [self._best_of, *self._draws],
        ]
        return self.instruments.memo("arm", inputs, lambda: self._arm_numbers(arm, rows, rewards))

    def rewards(self, rows: Sequence[Completion], prompts: Sequence[EvalPrompt]) -> dict[str, Sequence[float]]:
        """Proxy and gold, as far as the run knows them."""
        rewards: dict[str, Sequence[float]] = {}
        if needs_reward(self.config.arms):
            summaries = [(prompt.prompt, row.completion) for prompt, row in zip(prompts, rows, strict=True)]
            rewards["proxy"] = self.instruments.rewards("reward", summaries)
        if (gold := self.data.gold) is not None:
            rewards["gold"] = gold([(row.prompt_id, row.completion) for row in rows])
        return rewards

    def rows(self, arm: str) -> list[dict[str, Any]]:
        """The arm's completions as completions/<arm>.jsonl has them: with `reward` and what is `degenerate` in them."""
        prompts, rows = self.data.eval_prompts, self.completions[arm]
        rewards = self.rewards(rows, prompts)
        return [
            vars(row)
            | {
                "reward": {kind: float(values[place]) for kind, values in rewards.items()},
                "degenerate": [name for name, hit in detected(sampled(prompt, row)).items() if hit],
            }
            for place, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
        ]

    def _arm_numbers(
        self, arm: str, rows: Sequence[Completion], rewards: Mapping[str, Sequence[float]]
    ) -> dict[str, Any]:
        prompts, is_sampled = self.data.eval_prompts, arm != REFERENCE
        numbers = text_numbers(rows, prompts, rewards, is_sampled, *self._draws)
        texts = [Summary.of(prompt.prompt, row.completion) for prompt, row in zip(prompts, rows, strict=True)]
        numbers["summaries"] = summary_estimates(
            texts, self.config.evaluation.metrics, self.instruments.models, *self._draws
        )
        if is_sampled:
            seed, resamples = self._draws
            numbers |= sampling_numbers(
                rows,
                prompts,
                best_of=self._best_of if arm == "best_of_n" else None,
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
                habits[judge.name]["labels"] = of_labels(*self.labels[judge.name])
        return habits

    def _by_n(self, arm: Mapping[str, Any]) -> dict[str, Any]:
        """n -> what best of n reaches; the largest n is the arm."""
        result = {str(self._best_of): {"win_rate": {}} | {key: arm[key] for key in _OF_EVERY_N if key in arm}}
        for n, rows in self.fewer.items():
            judged = self._judged(f"best_of_{n}", REFERENCE) if self.data.has_references else {}
            reward = {"proxy": self._mean([row.score for row in rows])}
            if (gold := self.data.gold) is not None:
                reward["gold"] = self._mean(gold([(row.prompt_id, row.completion) for row in rows]))
            result[str(n)] = {
                "win_rate": {judge: win_rate(verdicts, *self._draws) for judge, verdicts in judged.items()},
                "reward": reward,
                "length_tokens": self._mean([float(row.n_tokens) for row in rows]),
                "kl_ref": kl_bound_estimate(n, len(self.data.eval_prompts)),
            }
        for place, n in enumerate(self._best):
            result[str(n)]["gain"] = {kind: self._mean(gain[place].tolist()) for kind, gain in self._gains.items()}
        return result

    @cached_property
    def _gains(self) -> dict[str, np.ndarray]:
        """Reward -> (n, prompts) what the best of every n has over one sample on the same prompt."""
        rewards = {"proxy": np.array([[row.score for row in rows] for rows in self._best.values()])}
        if (gold := self.data.gold) is not None:
            rewards["gold"] = np.array(
                [gold([(row.prompt_id, row.completion) for row in rows]) for rows in self._best.values()]
            )
        return {kind: of_kind - of_kind[0] for kind, of_kind in rewards.items()}

    def _best_of_n_fits(self) -> dict[str, Any]:
        """Reward -> the form of best of n, fitted to the gains over the bound on its KL."""
        kl = np.array([[kl_bound(n)] * len(rows) for n, rows in self._best.items()])
        return {kind: fit_over_prompts("best_of_n", kl, gain, *self._draws) for kind, gain in self._gains.items()}

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
        rewards = self.instruments.rewards
        scorers = {name: partial(rewards, _REWARD_STAGES[name]) for name, is_there in stages.items() if is_there}
        return self._of_pairs("reward models", scorers) if scorers else {}

    def _of_pairs(
        self, whose: str, scorers: Mapping[str, Callable[[list[tuple[str, str]]], list[float]]]
    ) -> dict[str, Scored]:
        """What each says of the held-out pairs' chosen summaries, and of the rejected ones: minutes on a CPU."""
        pairs = self.data.preferences["validation"]
        sides = [[(pair.prompt, getattr(pair, side)) for pair in pairs] for side in ("chosen", "rejected")]
        scores: dict[str, list[list[float]]] = {name: [] for name in scorers}
        with StageBar(f"pairs, {whose}", len(scorers) * 2 * len(pairs), "summaries") as bar:
            for (name, score), side in product(scorers.items(), sides):
                scores[name].append(score(side))
                bar.update(len(pairs))
        return {name: Scored(*both) for name, both in scores.items()}

    def _reward_models(self) -> dict[str, Any]:
        logratios = {"dpo": self.instruments.logratios}
        implicit = self._of_pairs("implicit reward", logratios)["dpo"] if "dpo" in self.config.arms else None
        return reward_model_numbers(self.data.preferences["validation"], self._scored, implicit, *self._draws)

    def ask_ahead(self, duels: Sequence[tuple[Mapping[str, str], Mapping[str, str], Sequence[EvalPrompt]]]) -> None:
        """Put all questions on these pairs of texts to the judges that can be asked many at once."""
        if not asked_ahead(self.judges):
            return
        seed, orders = self.config.seed, self.config.judge.orders
        shown = [question for a, b, prompts in duels for question in questions(a, b, prompts, seed, orders)]
        ask_ahead(self.judges, [item for _, item in shown])

    def _judged(self, a: str, b: str) -> dict[str, list[Verdict]]:
        judged = self.judged((a, self.texts[a]), (b, self.texts[b]), self.data.eval_prompts)
        for judge, verdicts in judged.items():
            self.verdicts[judge] += verdicts
        return judged

    def judged(self, a: Texts, b: Texts, prompts: Sequence[EvalPrompt]) -> dict[str, list[Verdict]]:
        """Judge, or panel -> what it says of a and b on these prompts."""
        orders, seed = self.config.judge.orders, self.config.seed
        judged = {judge.name: compare(a[0], b[0], a[1], b[1], prompts, judge, seed, orders) for judge in self.judges}
        if (members := self.config.judge.panel) is not None:
            judged[PANEL] = majority({name: judged[name] for name in members})
        return judged

    @property
    def _summaries(self) -> Mapping[str, Sequence[Completion]]:
        """Every arm's, and the reference summaries where there are some."""
        return {**self.completions, **({REFERENCE: self._reference} if self.data.has_references else {})}

    @cached_property
    def _reference(self) -> list[Completion]:
        """The human summaries as if they were an arm's."""
        prompts = self.data.eval_prompts
        return [
            Completion(
                arm=REFERENCE, prompt_id=p.id, completion=p.reference, temperature=0.0, n_tokens=n, finished=True
            )
            for p, n in zip(prompts, self.instruments.reference_lengths(prompts), strict=True)
        ]

    @property
    def _has_reward_judge(self) -> bool:
        return "reward_model" in self.config.judge.names

    @property
    def _best_of(self) -> int:
        return self.config.best_of_n.at(self.config.sampling.temperature)

    @property
    def _draws(self) -> tuple[int, int]:
        """Seed and number of the resamples of every interval."""
        return self.config.seed, self.config.evaluation.bootstrap_resamples

    def _mean(self, values: Sequence[float]) -> dict[str, Any]:
        return estimate(bootstrap_mean(values, *self._draws))


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

    A policy that was trained elsewhere has the cost that its config declares, or none.
    """
    for arm in config.arms:
        if arm not in config.policies:
            metrics["arms"][arm]["cost"] = summed({name: costs[name] for name in cost_stages(arm)}, config.cost)
        elif (hours := config.policies[arm].device_hours) is not None:
            metrics["arms"][arm]["cost"] = {"declared": True, "device_hours": hours}
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
