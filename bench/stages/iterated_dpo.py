"""DPO in rounds on the policy's own samples, labelled by the reward model (Dong et al. 2024, arXiv 2405.07863).

A round:
  1. the policy so far samples some completions of each of the next posts; those of all rounds are PPO's episodes
  2. of each post the best one is preferred to the worst one, by the reward model
  3. DPO on these pairs, from the policy so far, against the SFT model
A killed round goes on from DPO's checkpoint, or with the pairs that it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import PreTrainedModel

from bench import processes
from bench.errors import DataError
from bench.files import read_json, read_jsonl, write_json, write_jsonl
from bench.generation import SamplingConfig, decode
from bench.models.loading import load_policy, load_reward_model
from bench.records import ComparisonData, EvalPrompt, PreferencePair
from bench.scoring import reward_scores
from bench.stages.context import Built, StageContext, rollout_posts, sample_prompts
from bench.stages.reference_logps import shared_logps
from bench.train.dpo import needs_ref_logps, train_dpo
from bench.train.iterated_dpo import Scored, best_and_worst
from bench.train.log import Row, TrainingLog
from bench.train.ppo_rollouts import PromptOrder
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.iterated_dpo import IteratedDPOSettings, rounds_within

if TYPE_CHECKING:
    from bench.config import RunConfig

_PAIRS, _POLICY, _DONE = "pairs.jsonl", "policy", "done.json"
_DRAWS = 1_000_003
"""Between the seeds of two rounds."""


class _Round(NamedTuple):
    """What a round is told."""

    number: int
    seed: int
    policy: Path
    posts: Sequence[EvalPrompt]
    scratch: Path


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.iterated_dpo,
        "dpo": config.dpo,
        "episodes": config.budget.ppo_episodes,
        "max_new_tokens": config.budget.max_completion_tokens,
        "at_once": config.sampling.batch_size,
        "posts": rollout_posts("pairs", data),
        "seed": config.seed,
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    settings: IteratedDPOSettings,
    dpo: DPOSettings,
    episodes: int,
    max_new_tokens: int,
    at_once: int,
    posts: Mapping[str, str],
    seed: int,
) -> Built:
    prompts = [EvalPrompt(name, prompt, "") for prompt, name in posts.items()]
    order = PromptOrder(torch.Generator().manual_seed(seed))
    policy_folder, log, generated, model = inputs["sft"], TrainingLog(), 0, None
    rounds, posts_of_each = rounds_within(settings, episodes)
    of_rounds: list[TrainingLog] = []
    for number in range(1, rounds + 1):
        own = [prompts[i] for i in order.take(posts_of_each, len(prompts))]
        a_round = _Round(number, seed + number * _DRAWS, policy_folder, own, context.scratch / f"round-{number}")
        done = a_round.scratch / _DONE
        if not done.exists():
            pairs, tokens = _pairs(context, inputs, a_round, settings, max_new_tokens, at_once)
            model, rows = _learn(context, inputs, a_round, pairs, dpo, settings.epochs, at_once, log)
            context.save(model, a_round.scratch / _POLICY)
            if processes.is_main():
                write_json(done, {"rows": rows, "tokens": tokens})
            processes.wait()
        found = read_json(done)
        of_rounds.append(found["rows"])
        log, generated = _continued(log, found["rows"], number), generated + found["tokens"]
        context.on_rows(log)
        policy_folder = a_round.scratch / _POLICY
    context.save(model or load_policy(policy_folder, context.device), folder)
    trained = round(sum(max((row.get("num_tokens") or 0.0 for row in rows), default=0.0) for rows in of_rounds))
    return Built(log, tokens_trained=trained, tokens_generated=generated, models_resident=2)


def _pairs(
    context: StageContext,
    inputs: Mapping[str, Path],
    a_round: _Round,
    settings: IteratedDPOSettings,
    max_new_tokens: int,
    at_once: int,
) -> tuple[list[PreferencePair], int]:
    """Steps 1 and 2: the round's pairs, and how many tokens were sampled for them."""
    file = a_round.scratch / _PAIRS
    if not file.exists():
        sampled = sample_prompts(
            context,
            load_policy(a_round.policy, context.device, context.frozen_dtype),
            a_round.posts,
            samples_per_prompt=settings.samples_per_post,
            sampling=SamplingConfig(settings.temperature, at_once),
            max_new_tokens=max_new_tokens,
            seed=a_round.seed,
        )
        if processes.is_main():
            texts = [decode(context.tokenizer, sample.ids) for sample in sampled]
            owners = [post for post in a_round.posts for _ in range(settings.samples_per_post)]
            reward = load_reward_model(inputs["reward"], context.device, context.frozen_dtype)
            shown = [(post.prompt, text) for post, text in zip(owners, texts, strict=True)]
            with context.bar(len(shown), "samples", "scores") as bar:
                scores = reward_scores(reward, context.tokenizer, shown, at_once, bar.update)
            scored = [Scored(text, s.finished, score) for text, s, score in zip(texts, sampled, scores, strict=True)]
            n = settings.samples_per_post
            found = [
                best_and_worst(f"{post.id}/{a_round.number}", post.prompt, scored[i * n : (i + 1) * n])
                for i, post in enumerate(a_round.posts)
            ]
            a_round.scratch.mkdir(parents=True, exist_ok=True)
            tokens = sum(len(sample.ids) for sample in sampled)
            write_jsonl(file, [{"tokens": tokens}, *(asdict(pair) for pair in found if pair is not None)])
        processes.wait()
    head, *rows = read_jsonl(file)
    if not rows:
        raise DataError(
            f"iterated_dpo: in round {a_round.number} no sample of a post is better than another; raise"
            " iterated_dpo.temperature or iterated_dpo.samples_per_post"
        )
    return [PreferencePair(**row) for row in rows], head["tokens"]


def _learn(
    context: StageContext,
    inputs: Mapping[str, Path],
    a_round: _Round,
    pairs: Sequence[PreferencePair],
    dpo: DPOSettings,
    epochs: float,
    at_once: int,
    log: TrainingLog,
) -> tuple[PreTrainedModel, TrainingLog]:
    """Step 3: the policy, and the round's rows."""
    training = replace(
        context.training(a_round.seed),
        scratch=a_round.scratch,
        on_rows=lambda rows: context.on_rows(_continued(log, rows, a_round.number)),
    )
    precomputed = needs_ref_logps(context.bf16)
    ref_logps = shared_logps(context, inputs["sft"], pairs, at_once) if precomputed else None
    return train_dpo(
        inputs["sft"], context.tokenizer, pairs, ref_logps, dpo, training, epochs=epochs, start=a_round.policy
    )


def _continued(log: TrainingLog, rows: Sequence[Row], number: int) -> TrainingLog:
    """The log with a further round's rows: steps and seconds go on."""
    last = log[-1] if log else {"step": 0.0, "wall_s": 0.0}

    def after(row: Row, name: str) -> float:
        return (last[name] or 0.0) + (row[name] or 0.0)

    more = [{**row, "step": int(after(row, "step")), "wall_s": after(row, "wall_s"), "round": number} for row in rows]
    return [*log, *more]
