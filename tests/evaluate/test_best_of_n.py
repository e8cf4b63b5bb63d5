"""Best of n for every n from one set of samples."""

import math

import pytest

from bench.errors import ConfigError
from bench.evaluate.best_of_n import BestOfNSettings, Candidate, best_of_first, kl_bound, sizes

SCORES = {"a": [0.1, 0.9, 0.9, 2.0], "b": [5.0, -1.0, 4.0, 4.0]}
CANDIDATES = [
    Candidate(prompt, f"{prompt}{i}", n_tokens=1, finished=True, score=score)
    for prompt, scores in SCORES.items()
    for i, score in enumerate(scores)
]


@pytest.mark.parametrize(("n", "best"), [(1, ["a0", "b0"]), (2, ["a1", "b0"]), (3, ["a1", "b0"]), (4, ["a3", "b0"])])
def test_the_best_of_the_first_n_of_each_prompt(n: int, best: list[str]):
    assert [candidate.completion for candidate in best_of_first(CANDIDATES, 4, n)] == best


def test_sizes_are_the_powers_of_two():
    assert sizes(1) == [1]
    assert sizes(128) == [1, 2, 4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_the_bound_of_the_kl_by_enumeration(n: int):
    """M equally likely completions of distinct scores: the best of n is the i-th with (i^n - (i-1)^n) / M^n."""

    def kl(m: int) -> float:
        best = [(i / m) ** n - ((i - 1) / m) ** n for i in range(1, m + 1)]
        return sum(p * math.log(p * m) for p in best if p > 0)

    assert kl(3) <= kl_bound(n) + 1e-12  # few completions, which are often drawn twice
    assert kl(100_000) == pytest.approx(kl_bound(n), abs=1e-3)
    assert n < 8 or kl(3) < kl_bound(n) - 0.1


@pytest.mark.parametrize("n", [0, 3, 2048])
def test_n_is_a_power_of_two(n: int):
    with pytest.raises(ConfigError, match=f"^best_of_n.n must be a power of two up to 1024, got {n}$"):
        BestOfNSettings(n)
