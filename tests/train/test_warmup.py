"""A warm-up never takes a whole stage."""

import pytest

from bench.train.warmup import warmup_steps


@pytest.mark.parametrize(
    ("asked", "steps", "given"),
    [
        (0, 100, 0),
        (10, 94, 10),  # the built-in DPO
        (50, 1500, 50),  # the built-in SFT
        (150, 1000, 150),  # the paper's DPO
        (0.05, 100, 5),
        (0.05, 30, 2),  # ceil(1.5)
        (10, 12, 2),  # int(2.4): cut
        (10, 2, 0),
        (0.5, 1, 0),
    ],
)
def test_what_was_asked_for_is_cut_to_a_fifth_of_the_steps(asked: float, steps: int, given: int):
    assert warmup_steps(asked, steps) == given
