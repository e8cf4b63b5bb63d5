"""The records that walk between rooms. Frozen; every tensor field carries its axes.

Axes: B batch, T prompt + completion, C completion, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VerdictLabel = Literal["a", "b", "tie", "unparsed"]
Orders = Literal["both", "one"]
"""In which orders a judge is shown a pair: both, or one that is drawn."""
GoldReward = Callable[[Sequence[tuple[str, str]]], list[float]]
"""(prompt_id, completion) of each summary -> its gold reward, for data whose truth is known."""


def one_by_one(reward: Callable[[str, str], float]) -> GoldReward:
    """The gold reward that `reward` (prompt_id, completion) gives to each summary."""
    return lambda summaries: [reward(prompt_id, completion) for prompt_id, completion in summaries]


@dataclass(frozen=True)
class Demonstration:
    """A prompt and the human summary the SFT model learns from. Texts are stripped."""

    id: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class PreferencePair:
    """Two summaries of one prompt, the better one first; `reference` is the human summary where there is one."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    reference: str | None = None


@dataclass(frozen=True)
class EvalPrompt:
    """A held-out prompt with its reference summary (the human TL;DR); empty where there is none."""

    id: str
    prompt: str
    reference: str


@dataclass(frozen=True)
class ComparisonData:
    """Everything both arms and the evaluator read, split by post.

    Attributes:
        demonstrations: "train" and "validation".
        preferences: "train" (both arms), "judge" (the judge's reward model alone), "validation" (held out).
        eval_prompts: held-out prompts that every arm is scored on.
        gold: the known reward, or None where the truth is not known.
        trivial_policies: policy -> prompt id -> summary on the evaluation prompts, to check the gold reward against.
        source: where the data came from: name, revision or file hashes.
        dropped: reason -> number of rows left out while loading (ties, identical pairs, ...).
        awaits_labels: the pairs are places only, for samples of the SFT model that are still to be drawn and labelled;
            the human summary stands for both.
    """

    demonstrations: Mapping[str, list[Demonstration]]
    preferences: Mapping[str, list[PreferencePair]]
    eval_prompts: list[EvalPrompt]
    source: Mapping[str, str]
    gold: GoldReward | None = None
    trivial_policies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    awaits_labels: bool = False

    @property
    def has_references(self) -> bool:
        """Whether the evaluation prompts have reference summaries: all have, or none."""
        return all(prompt.reference for prompt in self.eval_prompts)

    def rows(self, place: str) -> Sequence[Demonstration] | Sequence[PreferencePair]:
        """Of a split by its name in the data folder's layout, such as "preferences/train"; none where it is absent."""
        kind, _, split = place.partition("/")
        return {"demonstrations": self.demonstrations, "preferences": self.preferences}[kind].get(split, [])


@dataclass(frozen=True)
class Rows:
    """Prompts with a completion each, right-padded as [prompt | completion | pad]."""

    input_ids: Int[Tensor, "B T"]
    prompt_lengths: Int[Tensor, " B"]
    completion_ids: Int[Tensor, "B C"]
    completion_mask: Bool[Tensor, "B C"]  # True on the completion's tokens, the EOS included

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Tokens of prompt and completion."""
        return self.prompt_lengths + self.completion_mask.sum(1)

    @classmethod
    def of(cls, input_ids: Int[Tensor, "B T"], prompt_lengths: Int[Tensor, " B"], lengths: Int[Tensor, " B"]) -> "Rows":
        """The rows of `lengths` tokens, the first `prompt_lengths` of which are the prompt."""
        counts = lengths - prompt_lengths
        step = torch.arange(int(counts.max()), device=input_ids.device)
        places = (prompt_lengths[:, None] + step).clamp(max=input_ids.size(1) - 1)
        return Rows(input_ids, prompt_lengths, input_ids.gather(1, places), step < counts[:, None])


@dataclass(frozen=True)
class Rollout(Rows):
    """Completions that were sampled."""

    logps: Float[Tensor, "B C"]  # log pi(token) at the sampling temperature, 0 outside the mask
    is_finished: Bool[Tensor, " B"]  # True where EOS was sampled before the token limit


@dataclass(frozen=True)
class Completion:
    """One sampled summary as it is stored and judged; log-probs in nats, summed over the completion."""

    arm: str
    prompt_id: str
    completion: str
    temperature: float
    n_tokens: int
    finished: bool
    logp: float | None = None  # under the arm's own policy
    ref_logp: float | None = None  # under the SFT model
    kl: float | None = None  # exact per-token KL(policy || SFT model) summed along the sample, nats


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one pair in one order: "a" means the summary of `arm_a` is better."""

    prompt_id: str
    arm_a: str
    arm_b: str
    order: Literal["ab", "ba"]  # which of the two the judge saw first
    verdict: VerdictLabel
    judge: str
    prompt_hash: str  # of the judge's prompt template; "" for judges without one
