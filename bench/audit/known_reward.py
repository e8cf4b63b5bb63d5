"""Is a known reward fit to be the truth? What it says of people, of others, and of policies that need no model.

On the posts of the files' own pairs, training and validation alone, so that weights may be chosen on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data import ControlledConfig
from bench.data.controlled import excerpt_of, files_of
from bench.data.local import load_files
from bench.data.splits import one_per_post, post_key
from bench.errors import DataError
from bench.evaluate.known_reward import KnownReward, reward_of, trivial_policies
from bench.evaluate.rules import accuracy, agreement, longer_wins, pair_scores
from bench.evaluate.statistics import bootstrap_mean, estimate, proportion_interval
from bench.records import EvalPrompt, PreferencePair

HUMAN, OTHER = "human", "other_writer"
_NAMES = {HUMAN: "human summary", OTHER: "the pairs' other writer"}


def ranking(config: ControlledConfig, cache_dir: Path, seed: int, resamples: int) -> dict[str, Any]:
    """ "policies": policy -> "gold" (mean reward), "over_human" (how often it is above the human summary, a tie is
    half) and "words", best first; and "labels", over the files' pairs: "accuracy" (how often the reward follows their
    labels), "longer_wins" and "agrees_with_longer".

    Raises:
        DataError: no pair has a human summary among its two.
    """
    pairs = _pairs(config)
    posts = one_per_post(EvalPrompt(post_key(pair.prompt), pair.prompt, pair.reference or "") for pair in pairs)
    prompts = {post.id: post.prompt for post in posts}
    gold = reward_of(config.reward.scorer, config.reward.settings, prompts, cache_dir)
    others = {post_key(pair.prompt): _other(pair) for pair in reversed(pairs)}  # of several the first, as of posts
    policies: dict[str, Mapping[str, str]] = {
        HUMAN: {post.id: post.reference for post in posts},
        OTHER: {post.id: others[post.id] for post in posts},
        **trivial_policies(posts),
    }
    golds = {name: gold([(post.id, texts[post.id]) for post in posts]) for name, texts in policies.items()}
    found = {}
    for name, rewards in sorted(golds.items(), key=lambda item: -sum(item[1])):
        above = pair_scores(rewards, golds[HUMAN])
        words = [float(len(policies[name][post.id].split())) for post in posts]
        found[name] = {
            "gold": estimate(bootstrap_mean(rewards, seed, resamples)),
            "over_human": None if name == HUMAN else estimate(proportion_interval(above, seed, resamples)),
            "words": estimate(bootstrap_mean(words, seed, resamples)),
        }
    return {"policies": found, "labels": _labels(pairs, gold, seed, resamples)}


def table(found: Mapping[str, Any]) -> str:
    """The ranking and the agreement with the files' labels, as Markdown."""
    lines = ["| policy | gold reward | above the human summary | words |", "|---|---|---|---|"]
    for name, row in found["policies"].items():
        cells = [_NAMES.get(name, name.replace("_", " ")), _number(row["gold"], 3)]
        cells += [_share(row["over_human"]), _number(row["words"], 1)]
        lines.append(f"| {' | '.join(cells)} |")
    labels = found["labels"]
    lines += [
        "",
        f"Posts: {found['policies'][HUMAN]['gold']['n']}. 95 % intervals.",
        f"The reward follows {_share(labels['accuracy'])} of the files' {labels['accuracy']['n']} labels; the longer"
        f" one wins in {_share(labels['longer_wins'])}; reward and length agree in"
        f" {_share(labels['agrees_with_longer'])}.",
    ]
    return "\n".join(lines)


def _pairs(config: ControlledConfig) -> list[PreferencePair]:
    """The files' training and validation pairs of a human summary and another, with the posts that a run has."""
    read = load_files(files_of(config)).preferences
    pairs = [
        PreferencePair(
            pair.id, excerpt_of(pair.prompt, config.max_post_words), pair.chosen, pair.rejected, pair.reference
        )
        for split in ("train", "validation")
        for pair in read[split]
        if pair.reference in (pair.chosen, pair.rejected)
    ]
    if not pairs:
        raise DataError(
            f"{config.root}: no pair has its human summary (data.columns.reference) among its two; the ranking needs"
            " pairs of people's summaries and others'"
        )
    return pairs


def _other(pair: PreferencePair) -> str:
    return pair.rejected if pair.chosen == pair.reference else pair.chosen


def _labels(pairs: Sequence[PreferencePair], gold: KnownReward, seed: int, resamples: int) -> dict[str, Any]:
    posts = [post_key(pair.prompt) for pair in pairs]
    chosen, rejected = (
        gold([(post, getattr(pair, side)) for post, pair in zip(posts, pairs, strict=True)])
        for side in ("chosen", "rejected")
    )
    follows, longer = pair_scores(chosen, rejected), longer_wins(pairs)
    shares = {"accuracy": follows, "longer_wins": longer, "agrees_with_longer": agreement(follows, longer)}
    return {name: accuracy(scores, seed, resamples, posts) for name, scores in shares.items()}


def _number(row: Mapping[str, Any], digits: int) -> str:
    ends = f" [{', '.join(f'{end:.{digits}f}' for end in row['ci95'])}]" if row["ci95"] else ""
    return f"{row['value']:.{digits}f}{ends}"


def _share(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    ends = f" [{', '.join(f'{100 * end:.1f}' for end in row['ci95'])}]" if row["ci95"] else ""
    return f"{100 * row['value']:.1f} %{ends}"
