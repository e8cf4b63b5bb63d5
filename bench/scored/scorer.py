"""What a scorer in Python says of completions made elsewhere: the known reward of a controlled run, or anyone's own."""

from dataclasses import replace
from pathlib import Path

from bench.evaluate.known_reward import KnownReward, reward_of
from bench.progress import StageBar
from bench.scored.config import KNOWN, ScorerConfig
from bench.scored.read import Given
from bench.scored.weights import rate


def known_reward(config: ScorerConfig, given: Given, cache_dir: Path) -> KnownReward | None:
    """The scorer that the config names, tried on one post, before any model is loaded or judge asked.

    Raises:
        ConfigError: there is no such scorer, it does not take its settings, or what it gives are no numbers.
        ResourceError: its model is not to be had.
    """
    if config.scorer is None:
        return None
    prompts = {prompt.id: prompt.prompt for prompt in given.prompts}
    known = reward_of(config.scorer, config.settings, prompts, cache_dir, KNOWN)
    known([(given.prompts[0].id, "")])
    return known


def rated(known: KnownReward | None, given: Given) -> Given:
    """The completions with their ratings, the reference summaries' too."""
    if known is None:
        return given
    arms = {arm: dict(rows) for arm, rows in given.arms.items()}
    references = dict(given.references)
    with StageBar(KNOWN, len(arms) + 1, "arms") as bar:
        for rows in (*arms.values(), references):
            rate(rows, KNOWN, known([(key, row.completion) for key, row in rows.items()]))
            bar.update(1)
    return replace(given, arms=arms, references=references)
