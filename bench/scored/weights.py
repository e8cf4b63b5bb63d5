"""What the models that are given say of completions made elsewhere: log-probs and KL, rewards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from bench.arms import REFERENCE
from bench.encoding import Tokens, encode
from bench.errors import ConfigError, DataError
from bench.models.config import ModelConfig, PolicyConfig
from bench.models.given import (
    check_policy,
    check_reward,
    load_given_policy,
    load_given_reward,
    require_same_vocabulary,
)
from bench.models.loading import (
    RewardModel,
    base_context_length,
    explained,
    folder_content,
    pick_device,
    usable,
)
from bench.models.probe import probe, probe_reward
from bench.progress import StageBar
from bench.scored.config import IMPLICIT, REWARD, ScoreConfig
from bench.scored.read import Given, Written
from bench.scoring import completion_scores, reward_scores, summed_logps

_ROWS = 16  # completions that run together
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Weights:
    """The models of a scoring, checked and not loaded yet.

    Attributes:
        hashes: folder -> hash of its files.
    """

    config: ScoreConfig
    hashes: Mapping[str, str]

    @classmethod
    def checked(cls, config: ScoreConfig, given: Given) -> "Weights":
        """What can be refused without loading a model.

        Raises:
            ConfigError: an arm without completions, a model of another kind or with another tokenizer.
            DataError: a completion that is longer than the models' positions.
            ResourceError: a model is neither here nor to be had.
        """
        if strange := sorted(set(config.policy) - set(given.arms)):
            raise ConfigError(
                f"policy names {strange[0]}, but the files have completions of {', '.join(given.arms)}; the names are"
                " those of the arms"
            )
        folders = [path for path in (config.reference, *config.policy.values(), config.reward) if path is not None]
        weights = cls(config, {path: folder_content(path) for path in folders})
        if folders:
            for arm, path in config.policy.items():
                check_policy(f"policy.{arm}", _as_policy(path), weights.tokenizer)
            if config.reward is not None:
                check_reward(config.reward, "reward", weights.tokenizer)
            weights._require_fits(given)
        return weights

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The reference policy's, which all the others must share; of a reward model alone its own."""
        name = self.config.reference or self.config.reward
        assert name is not None
        if self.config.reference is not None:
            base_context_length(ModelConfig(kind="hub", name=name))  # says what is wrong with it
        with explained(name, "another model"):
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        return usable(tokenizer, name)

    def applied(self, given: Given) -> Given:
        """The completions with their log-probs and KL where policy and reference policy are given, and with rewards,
        the reference summaries' too."""
        config = self.config
        arms = {arm: dict(rows) for arm, rows in given.arms.items()}
        references = dict(given.references)
        prompts = {prompt.id: prompt.prompt for prompt in given.prompts}
        if config.reward is not None:
            reward = RewardModel(load_given_reward(config.reward, "reward", self.tokenizer, self._device).eval())
            probe_reward(reward.model, config.reward)
            for _, rows in self._each({**arms, **({REFERENCE: references} if references else {})}, "rewards"):
                scores = reward_scores(reward, self.tokenizer, _texts(prompts, rows), _ROWS)
                rate(rows, REWARD, scores)
            del reward
        if config.policy:
            assert config.reference is not None
            ref_policy = self._policy(config.reference, "reference")
            for arm, rows in self._each({arm: arms[arm] for arm in config.policy}, "KL"):
                policy = self._policy(config.policy[arm], f"policy.{arm}")
                require_same_vocabulary(policy, Path(config.reference), f"policy.{arm}")
                self._measure_kl(policy, ref_policy, prompts, rows)
                if arm == config.implicit_reward:
                    for of_arm in (*arms.values(), references):
                        pairs = _texts(prompts, of_arm)
                        own, ref = (
                            summed_logps(model, self.tokenizer, pairs, _ROWS) if pairs else []
                            for model in (policy, ref_policy)
                        )
                        rate(of_arm, IMPLICIT, [x - y for x, y in zip(own, ref, strict=True)])
        return replace(given, arms=arms, references=references)

    def assumed(self, given: Given) -> list[str]:
        """What was taken for what the files do not say: a sentence each."""
        said = ["KL is of the completions' texts, tokenised anew."] if self.config.policy else []
        rows = [row for arm in self.config.policy for row in given.arms[arm].values()]
        if any(row.temperature is None for row in rows):
            said.append("No file says at which temperature some completions were sampled: their KL is taken at 1.")
        if any(row.finished is None for row in rows):
            said.append(
                "Completions of which no file says that a limit cut them off count as ended: KL with their EOS."
            )
        return said

    @property
    def _device(self) -> torch.device:
        return pick_device("auto")

    def _policy(self, path: str, key: str) -> PreTrainedModel:
        model = load_given_policy(_as_policy(path), self.tokenizer)
        torch.nn.Module.to(model, self._device)
        probe(model, f"{key} ({path})")
        return model.eval()

    def _each(self, arms: Mapping[str, dict[str, Written]], what: str) -> Iterator[tuple[str, dict[str, Written]]]:
        with StageBar(what, len(arms), "arms") as bar:
            for arm, rows in arms.items():
                yield arm, rows
                bar.update(1)

    def _measure_kl(
        self,
        policy: PreTrainedModel,
        ref_policy: PreTrainedModel,
        prompts: Mapping[str, str],
        rows: dict[str, Written],
    ) -> None:
        """Into the rows, those of one temperature together."""
        by_temperature: dict[float, list[str]] = {}
        for key, row in rows.items():
            by_temperature.setdefault(1.0 if row.temperature is None else row.temperature, []).append(key)
        for temperature, keys in by_temperature.items():
            tokens = [self._tokens(prompts[key], rows[key]) for key in keys]
            scores = completion_scores(policy, ref_policy, self.tokenizer, tokens, temperature, _ROWS)
            for key, score in zip(keys, scores, strict=True):
                rows[key] = replace(rows[key], **score._asdict())

    def _tokens(self, prompt: str, row: Written) -> Tokens:
        """As in sampling: the EOS is of the completion where the model ended it."""
        before, behind = encode(self.tokenizer, prompt, row.completion)[0]
        cut = row.finished is False and len(behind) > 1
        return before, behind[:-1] if cut else behind

    def _require_fits(self, given: Given) -> None:
        name = self.config.reference or self.config.reward
        assert name is not None
        positions = base_context_length(ModelConfig(kind="hub", name=name)) if self.config.reference else None
        if positions is None:
            return
        scored = given.arms if self.config.reward else {arm: given.arms[arm] for arm in self.config.policy}
        for prompt in given.prompts:
            for arm, rows in scored.items():
                length = sum(map(len, self._tokens(prompt.prompt, rows[prompt.id])))
                if length > positions:
                    raise DataError(
                        f"prompt {prompt.id!r} with the completion of arm {arm!r} is {length} tokens, but {name} has"
                        f" {positions} positions; leave it out, or give no weights"
                    )


def _as_policy(path: str) -> PolicyConfig:
    return PolicyConfig(path, kind="adapter" if (Path(path) / _ADAPTER).exists() else "checkpoint")


def _texts(prompts: Mapping[str, str], rows: Mapping[str, Written]) -> list[tuple[str, str]]:
    return [(prompts[key], row.completion) for key, row in rows.items()]


def rate(rows: dict[str, Written], column: str, scores: Sequence[float]) -> None:
    """A rating of each row, in their order."""
    for key, score in zip(list(rows), scores, strict=True):
        rows[key] = replace(rows[key], ratings={**rows[key].ratings, column: score})
