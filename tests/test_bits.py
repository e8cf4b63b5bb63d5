"""What the tests that compare to the bit rest on.

Weights, files, and one process repeated may be compared to the bit. Two models in memory only because torch aligns all
that it allocates to 64 bytes, so that both take the same kernels, and in two processes only with as many threads (the
fixture `one_thread` in tests/train), as several add in another order. Weights that lie in a mapped file are aligned as
the file's header happens to end: what they give is compared within a tolerance.
"""

import pytest
import torch


@pytest.mark.parametrize("numbers", [1, 3, 17, 1000, 100_003])
def test_torch_aligns_what_it_allocates(numbers: int):
    blocks = [torch.empty(numbers + i) for i in range(8)]

    assert [block.data_ptr() % 64 for block in blocks] == [0] * 8


@torch.no_grad()
def test_two_models_of_one_seed_give_the_same_bits_wherever_they_lie(make_policy, architecture):
    ids = torch.randint(5, 200, (3, 17), generator=torch.Generator().manual_seed(0))
    first = make_policy(architecture)
    between = [torch.empty(1001 + 7 * i) for i in range(50)]
    second = make_policy(architecture)

    assert len(between) == 50
    assert {p.data_ptr() for p in first.parameters()}.isdisjoint(p.data_ptr() for p in second.parameters())
    assert torch.equal(first(input_ids=ids).logits, second(input_ids=ids).logits)
