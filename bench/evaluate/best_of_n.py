"""Best of n: the SFT model's best completion by the reward model, for every n from one set of samples."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.files import read_jsonl, write_jsonl
from bench.validation import require

_FILE = "candidates.jsonl"


@dataclass(frozen=True)
class BestOfNSettings:
    """`n` completions are sampled per evaluation prompt; every power of two up to `n` is scored from them."""

    n: int = 128

    def __post_init__(self) -> None:
        require(
            1 <= self.n <= 1024 and self.n.bit_count() == 1, "best_of_n.n", self.n, "must be a power of two up to 1024"
        )

    def at(self, temperature: float) -> int:
        """How many samples differ at a temperature: greedy ones are all the same."""
        return self.n if temperature > 0 else 1


@dataclass(frozen=True)
class Candidate:
    """One sampled completion of an evaluation prompt, with the reward model's score."""

    prompt_id: str
    completion: str
    n_tokens: int
    finished: bool
    score: float


def write_candidates(folder: Path, candidates: Sequence[Candidate]) -> None:
    write_jsonl(folder / _FILE, [asdict(candidate) for candidate in candidates])


def read_candidates(folder: Path) -> list[Candidate]:
    """What the stage left in its folder, n for each evaluation prompt."""
    return [Candidate(**row) for row in read_jsonl(folder / _FILE)]


def sizes(n_max: int) -> list[int]:
    """1, 2, 4, ..., n_max."""
    return [2**k for k in range(n_max.bit_length())]


def best_of_first(candidates: Sequence[Candidate], n_max: int, n: int) -> list[Candidate]:
    """The best-scored of each prompt's first `n` candidates, in the prompts' order; the earliest of equals.

    `candidates` holds `n_max` rows per prompt, a prompt's rows together. They are independent samples, so the first n
    of them are what sampling n alone would have given, and all n share one set.
    """
    starts = range(0, len(candidates), n_max)
    return [max(candidates[start : start + n], key=lambda candidate: candidate.score) for start in starts]


def kl_bound(n: int) -> float:
    """Upper bound of KL(best of n || SFT model) in nats per completion: log n - (n - 1)/n.

    Stiennon et al. 2020 (App. G.3) give it as the KL itself; Beirami et al. 2024 (arXiv 2401.01879, Theorem 1) show
    that it is a bound, tight only where no two completions are likely to be the same.
    """
    return math.log(n) - (n - 1) / n


def kl_bound_estimate(n: int, prompts: int) -> dict[str, Any]:
    """`kl_bound` as metrics.json writes it: no interval, since it is no estimate."""
    return {"value": kl_bound(n), "ci95": None, "n": prompts, "estimator": "bound"}
