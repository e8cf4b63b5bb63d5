"""A finished run folder, made up by a seeded generator: consistent in itself, the result of no training."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ARMS = ("base", "sft", "ppo", "dpo", "reference")
N_PROMPTS = 60
_TOKENS = {"best_of_n": 26, "base": 30, "sft": 24, "ppo": 31, "dpo": 33, "reference": 25}
_KL = {"base": 9.0, "sft": 0.0, "ppo": 6.0, "dpo": 4.0}


class Fixture:
    """Writes one finished run. `beta` moves the arms' numbers, so that runs of a sweep differ.

    Without `evaluator` it is a run of before the evaluator measured length, strengths, degeneration and judges,
    the meter counted FLOPs and the trainers watched themselves.
    """

    def __init__(
        self,
        seed: int,
        arms: tuple[str, ...],
        gold: bool,
        dpo_beta: float,
        ppo_beta: float,
        temperature: float,
        evaluator: bool,
        collapsed: bool,
    ):
        self.seed, self.arms, self.gold = seed, arms, gold
        self.beta = {"dpo": dpo_beta, "ppo": ppo_beta}
        self.temperature = temperature
        self.evaluator, self.collapsed = evaluator, collapsed
        self.judges = ("gold", "reward_model") if gold else ("reward_model",)

    def rng(self, *key: object) -> random.Random:
        """A generator of its own for every number, so that leaving one out changes no other."""
        return random.Random(repr((self.seed, *key)))

    def policy(self, arm: str) -> tuple[object, ...]:
        return (arm, self.beta.get(arm))

    def estimate(self, centre: float, width: float, *key: object) -> dict[str, Any]:
        value = self.rng(*key).gauss(centre, width / 4)
        return {"value": value, "ci95": [value - width, value + width], "n": N_PROMPTS}

    def judged(self, share: float, *key: object) -> dict[str, Any]:
        ties, unparsed = 4, 2
        n = N_PROMPTS - unparsed
        wins = round(share * (n - ties))
        value = (wins + ties / 2) / n
        half = 1.96 * (value * (1 - value) / n) ** 0.5
        return {
            "value": value,
            "ci95": [value - half, value + half],
            "n": n,
            "ties": ties,
            "unparsed": unparsed,
        }

    def cost(self, wall_s: float, memory: float, models: int) -> dict[str, Any]:
        return {
            "wall_s": wall_s,
            "device_hours": wall_s / 3600,
            "gpu_hours": 0.0,
            "peak_memory_gib": memory,
            "peak_rss_gib": memory,
            "devices": 1,
            "tokens_trained": int(1000 * wall_s),
            "tokens_generated": int(100 * wall_s),
            "models_resident": models,
        } | (
            {
                "flops": int(1e9 * wall_s),
                "mfu": wall_s / 1000,
                "energy_kwh": None,
                "energy_source": "none: no counter was made up",
                "co2_kg": None,
            }
            if self.evaluator
            else {}
        )

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        stages = {"sft": self.cost(40, 0.9, 1)}
        if "ppo" in self.arms:
            stages |= {"reward": self.cost(30, 1.0, 1), "ppo": self.cost(90, 1.6, 4)}
        if "dpo" in self.arms:
            stages |= {"dpo": self.cost(45, 1.2, 2)}
        return stages | {"evaluate": self.cost(20, 0.8, 2)}

    def arm_cost(self, arm: str) -> dict[str, Any]:
        needs = {"ppo": ("reward", "ppo"), "dpo": ("dpo",)}.get(arm, ())
        stages = {stage: self.stages[stage] for stage in needs}
        sums = {field: sum(cost[field] for cost in stages.values()) for field in ("device_hours", "gpu_hours")}
        peaks = {
            field: max((cost[field] for cost in stages.values()), default=0)
            for field in ("peak_memory_gib", "models_resident")
        }
        return {"stages": stages, **sums, **peaks} | (self.projected(stages) if self.evaluator else {})

    def projected(self, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
        flops = sum(cost["flops"] for cost in stages.values())
        assumed = {"assumed_mfu": 0.25, "peak_bf16_tflops": 100.0, "peak_source": "made up", "projected": True}
        return {"flops": flops, "projected": [{"accelerator": "l4", "gpu_hours": flops / 25e12 / 3600, **assumed}]}

    def arm(self, arm: str) -> dict[str, Any]:
        key = self.policy(arm)
        skill = {"base": 0.15, "sft": 0.4, "ppo": 0.6, "dpo": 0.62}.get(arm, 0.5)
        kl = _KL.get(arm, 0.0) / (20 * self.beta[arm]) ** 0.5 if arm in self.beta else _KL.get(arm, 0.0)
        measured: dict[str, Any] = {
            "rouge": {
                name: self.estimate(0.3, 0.03, key, name) for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")
            },
            "reward": {"proxy": self.estimate(2 * skill - 1, 0.2, key, "proxy")},
            "length_tokens": self.estimate(_TOKENS[arm], 1.5, key, "length"),
            "finished": {"value": 0.95, "ci95": [0.9, 0.99], "n": N_PROMPTS},
            "cost": self.arm_cost(arm),
        }
        if self.evaluator:
            shares = {"empty": 0.0, "title_copy": 0.02, "post_copy": 0.1, "repetition": 0.05, "prompt_echo": 0.01}
            shares |= {"no_eos": None if arm == "reference" else 0.05, "any": 0.2}
            measured["degeneration"] = {
                name: {"value": None, "ci95": None, "n": 0} if share is None else self.estimate(share, 0.02, key, name)
                for name, share in shares.items()
            }
        if self.gold:
            measured["reward"]["gold"] = self.estimate(3 * skill, 0.2, key, "gold")
        if arm != "reference":
            measured["win_rate"] = {
                judge: self.judged(min(0.95, skill + self.rng(key, judge).uniform(0, 0.05))) for judge in self.judges
            }
            if self.evaluator:
                measured |= self.by_length(arm)
            measured["kl_ref"] = self.estimate(kl, 0.1 * kl, key, "kl") | {"estimator": "exact"}
        return measured

    def by_length(self, arm: str) -> dict[str, Any]:
        """At equal length by the first judge alone; the last judge has no answer."""
        no_answer = {"value": None, "ci95": None, "n": 58, "length_effect": None, "reason": "every verdict is the same"}
        answer = self.estimate(0.45, 0.1, arm, "equal length") | {"length_effect": 0.7, "reason": None}
        edges = ((0.0, 0.5), (0.5, 0.8), (0.8, 1.25), (1.25, 2.0), (2.0, None))
        bins = [
            {"length_ratio": list(edge), "value": None, "ci95": None, "n": 0}
            if edge[0] == 0.0
            else {"length_ratio": list(edge)} | self.estimate(0.5, 0.2, arm, edge)
            for edge in edges
        ]
        return {
            "win_rate_length_controlled": {
                judge: no_answer if judge == self.judges[-1] else answer for judge in self.judges
            },
            "win_rate_by_length": dict.fromkeys(self.judges, bins),
        }

    def of_a_pair(self, a: str, b: str) -> dict[str, Any]:
        controlled = self.estimate(0.55, 0.1, a, b, "equal length") | {"length_effect": 0.3, "reason": None}
        paired = {"both": 20, "only_a": 12, "only_b": 9, "neither": 17, "p_value": 0.664, "p_holm": 0.99}
        return {
            "p_holm": dict.fromkeys(self.judges, 0.012),
            "first_is_better": dict.fromkeys(self.judges, "not decided at this n"),
            "prompts_needed": dict.fromkeys(self.judges, 4321 if (a, b) == ("dpo", "ppo") else None),
            "win_rate_length_controlled": dict.fromkeys(self.judges, controlled),
            "mcnemar": {
                judge: paired | {"difference": self.estimate(0.05, 0.08, a, b, "difference")} for judge in self.judges
            },
        }

    def of_the_run(self) -> dict[str, Any]:
        """What the evaluator, the meter and the trainers' checks say of the whole run."""
        habits = {"flip_rate": 0.125, "decided": 700, "ties": 33, "unparsed": 7}
        usage = {"requests": 1234, "retries": 5, "cached": 67, "prompt_tokens": 89012, "completion_tokens": 3456}
        collapse = self.finding("collapse", 12, "it is 70 nats away: it has collapsed", "a larger ppo.beta")
        note = self.finding("note", 9, "both have fallen", "nothing while the win rate rises")
        found = {"sft": [], "ppo": [collapse] if self.collapsed else [], "dpo": [note]}
        return {
            "bradley_terry": {
                judge: {
                    arm: self.estimate(0.0 if arm == "reference" else 0.6, 0.2, judge, arm, "strength")
                    for arm in self.arms
                }
                for judge in self.judges
            },
            "judges": {
                judge: habits
                | {
                    "position_bias": self.estimate(0.55, 0.05, judge, "first"),
                    "length_bias": self.estimate(0.64, 0.05, judge, "longer"),
                }
                | ({"usage": usage | {"unparsed": 7}} if judge == "reward_model" else {})
                for judge in self.judges
            },
            "power": {"n": N_PROMPTS, "power": 0.8, "level": 0.05, "head_to_head": 0.18, "between_arms": None},
            "health": {
                stage: {"collapsed": stage == "ppo" and self.collapsed, "step": None, "why": None, "findings": findings}
                for stage, findings in found.items()
                if stage in self.stages
            },
        }

    def finding(self, severity: str, step: int, message: str, advice: str) -> dict[str, Any]:
        number = {"check": severity, "value": 70.0, "threshold": 50.0}
        return {"severity": severity, "step": step, "message": message, "advice": advice} | number

    def best_of_n(self) -> dict[str, Any]:
        """n -> the arm's fields; written out of order, as sorted keys are."""
        return {
            str(n): {
                "win_rate": {judge: self.judged(0.4 + n / 40) for judge in self.judges},
                "reward": {"proxy": self.estimate(n / 4, 0.1, "proxy", n)},
                "length_tokens": self.estimate(25, 1, "length", n),
                "kl_ref": {"value": n / 10, "ci95": None, "n": N_PROMPTS, "estimator": "bound"},
            }
            for n in (1, 16, 2, 4)
        }

    def metrics(self) -> dict[str, Any]:
        pairs = [(a, b) for a, b in (("dpo", "ppo"), ("dpo", "sft"), ("ppo", "sft")) if {a, b} <= set(self.arms)]
        share = {("dpo", "ppo"): 0.52, ("dpo", "sft"): 0.7, ("ppo", "sft"): 0.68}
        head_to_head = {
            f"{a}_vs_{b}": {
                "win_rate": {judge: self.judged(share[a, b]) for judge in self.judges},
                "p_value": {judge: 0.8 if (a, b) == ("dpo", "ppo") else 0.004 for judge in self.judges},
            }
            | (self.of_a_pair(a, b) if self.evaluator else {})
            for a, b in pairs
        }
        rules = {"longer_wins": 0.6, "title_overlap_wins": 0.48, "agrees_with_longer": 0.7}
        scorer = {name: self.estimate(value, 0.04, name) for name, value in rules.items()}
        metrics: dict[str, Any] = {
            "schema": 1,
            "experiment": "fixture",
            "seed": self.seed,
            "config_hash": f"{self.seed:x}{'c0ffee' * 5}",
            "arms": {arm: self.arm(arm) for arm in self.arms},
            "head_to_head": head_to_head,
            "judge_reward_model": scorer
            | {
                "accuracy": self.estimate(0.7, 0.04, "judge accuracy"),
                "beats_longer_wins": "supported",
            },
            "data": {
                "preferences": {"train": 400, "judge": 200, "validation": 100},
                "eval_prompts": N_PROMPTS,
            },
            "cost": {"stages": self.stages},
            "verdicts_on_claims": [
                {
                    "claim": 1,
                    "statement": "DPO is faster than RLHF.",
                    "measure": "device-hours of RLHF over those of DPO",
                    "estimate": {"value": 120 / 45, "ci95": None, "n": 1},
                    "verdict": "supported",
                },
                {
                    "claim": 4,
                    "statement": "DPO summarizes as well as or better than RLHF.",
                    "measure": "share of prompts on which DPO beats PPO",
                    "estimate": {**self.judged(0.52), "kl_ref": {"dpo": 4.0, "ppo": 6.0}},
                    "verdict": "not decided at this n",
                },
            ],
        }
        if self.evaluator:
            metrics |= self.of_the_run()
            metrics["cost"] |= self.projected(self.stages) | {
                "evaluation": self.cost(17, 0.8, 2),
                "judge": {"requests": 1234, "prompt_tokens": 89012, "completion_tokens": 3456, "judges": {}},
                "other": {"wall_s": 3.25},
                "run_wall_s": 245.25,
            }
        if "best_of_n" in self.arms:
            metrics["best_of_n"] = {"by_n": self.best_of_n()}
        if "ppo" in self.arms:
            metrics["reward_model"] = scorer | {
                "accuracy": self.estimate(0.61, 0.04, "accuracy"),
                "beats_longer_wins": "not decided at this n",
            }
        if "dpo" in self.arms:
            metrics["implicit_reward"] = {"accuracy": self.estimate(0.66, 0.04, "implicit")}
        if self.gold:
            metrics["world"] = {
                "trivial": {
                    policy: {"gold": self.estimate(0.2, 0.1, policy), "win_rate_vs_sft": self.judged(0.2)}
                    for policy in ("empty", "title")
                },
                "best_attainable": 3.0,
                "headroom": 0.55,
            }
        return metrics

    def run(self) -> dict[str, Any]:
        keys = {"sft": f"sft-{self.seed}", "reward": f"reward-{self.seed}"}
        keys |= {arm: f"{arm}-{self.seed}-{beta}" for arm, beta in self.beta.items()}
        return {
            "schema": 1,
            "experiment": "fixture",
            "run_id": f"s{self.seed}-fixture",
            "command": f"python -m bench experiment=fixture seed={self.seed} dpo.beta={self.beta['dpo']}",
            "config": {
                "seed": self.seed,
                "data": {"name": "made_up", "seed": self.seed},
                "model": {"name": "none"},
                "sft": {"learning_rate": 0.001},
                "ppo": {"beta": self.beta["ppo"]},
                "dpo": {"beta": self.beta["dpo"]},
                "sampling": {"temperature": self.temperature, "max_new_tokens": 48},
                "budget": {"pairs": 400},
                "judge": {"names": list(self.judges)},
                "evaluation": {"samples_in_report": 3},
            },
            "config_hash": f"{self.seed:x}{'c0ffee' * 5}",
            "seed": self.seed,
            "git": {"commit": "0123456789abcdef", "dirty": False},
            "versions": {"torch": "0.0.0"},
            "device": {"name": "made-up device", "type": "cpu", "count": 1},
            "data": {"source": {"name": "made_up"}, "hash": f"data-{self.seed}"},
            "stages": {stage: {"key": keys.get(stage, stage), "reused": stage == "sft"} for stage in self.stages},
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:05:00Z",
        }

    def training(self) -> dict[str, list[dict[str, Any]]]:
        def rows(stage: str, **curves: tuple[float, float]) -> list[dict[str, Any]]:
            """Straight lines from the first to the second number of each curve, with noise."""
            rng = self.rng("training", stage)
            return [
                {"step": step, "wall_s": step * 1.5}
                | {
                    name.replace("__", "/"): start + (end - start) * step / 40 + rng.gauss(0, abs(end - start) / 25)
                    for name, (start, end) in curves.items()
                }
                for step in range(1, 41)
            ]

        logs = {"sft": rows("sft", loss=(4.0, 1.8))}
        if "ppo" in self.arms:
            logs["reward"] = rows("reward", loss=(0.69, 0.6), accuracy=(0.5, 0.64))
            curves = {"score": (0.0, 1.2), "kl_ref": (0.0, 6.0), "entropy": (2.4, 1.7)}
            logs["ppo"] = rows("ppo", **curves, **({"gold": (1.2, 1.8)} if self.gold else {}))
        if "dpo" in self.arms:
            logs["dpo"] = rows(
                "dpo",
                loss=(0.69, 0.5),
                logps__chosen=(-60, -64),
                logps__rejected=(-61, -72),
                rewards__accuracies=(0.5, 0.72),
            )
            logs["dpo"].append({"step": 40, "wall_s": 61.0, "eval_rewards/accuracies": 0.66})
        return logs

    def write(self, path: Path, logs: bool = True) -> Path:
        path.mkdir(parents=True)
        write_json(path / "run.json", self.run())
        write_json(path / "metrics.json", self.metrics())
        for stage, rows in (self.training() if logs else {}).items():
            write_jsonl(path / "training" / f"{stage}.jsonl", rows)
        prompts = [
            {
                "prompt_id": f"post-{index}",
                "prompt": f"TITLE: Post {index}\n\nPOST: My neighbour borrowed {index} ladders.\n\nTL;DR:",
                "reference": f"Neighbour keeps my {index} ladders.",
            }
            for index in range(N_PROMPTS)
        ]
        write_jsonl(path / "prompts.jsonl", prompts)
        for arm in self.arms:
            rows = [
                {
                    "arm": arm,
                    "temperature": self.temperature,
                    "prompt_id": prompt["prompt_id"],
                    "completion": f"{arm} about {prompt['prompt_id']}",
                    "n_tokens": 12,
                    "finished": True,
                    "logp": -20.0,
                    "ref_logp": -22.0,
                    "kl": 2.0,
                }
                for prompt in prompts
            ]
            write_jsonl(path / "completions" / f"{arm}.jsonl", rows)
        return path


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """write_run(folder, **what differs from the defaults) writes a finished run and returns its folder."""

    def write(
        path: Path,
        seed: int = 0,
        arms: tuple[str, ...] = ARMS,
        gold: bool = True,
        dpo_beta: float = 0.1,
        ppo_beta: float = 0.05,
        temperature: float = 0.7,
        evaluator: bool = True,
        collapsed: bool = False,
        logs: bool = True,
    ) -> Path:
        return Fixture(seed, arms, gold, dpo_beta, ppo_beta, temperature, evaluator, collapsed).write(path, logs)

    return write


@pytest.fixture
def make_run(tmp_path: Path, write_run: Callable[..., Path]) -> Callable[..., Path]:
    """make_run(name, **what differs from the defaults) writes a finished run in the test's own folder."""
    return lambda name="s0-fixture", **differing: write_run(tmp_path / "fixture" / name, **differing)


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], None]], None]:
    """edit(file, change) applies `change` to a JSON file of a run."""

    def apply(file: Path, change: Callable[[Any], None]) -> None:
        content = json.loads(file.read_text(encoding="utf-8"))
        change(content)
        write_json(file, content)

    return apply
