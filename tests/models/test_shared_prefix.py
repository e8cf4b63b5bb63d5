"""Packed pairs against the same rows run one by one."""

import pytest
import torch

from bench.models.shared_prefix import pack_pairs, shared_prefix, tree_mask

PROMPT, CHOSEN, REJECTED, PADDING = range(4)

PAIRS = [
    ([5, 9, 12, 40], [60, 61, 62], [70]),
    ([33], [8], [9, 10, 11, 12, 13]),
    ([20, 21, 22], [30, 31], [30, 32]),  # the completions share their first token
    ([44, 45], [50], [50, 51]),  # one completion is the start of the other
    ([46, 47], [52, 53], [52, 53]),  # and here they are the same
]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows)) + 1  # a column that is padding in every row, as collators round up
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def batch_of(pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """[chosen; rejected] as TRL's trainers stack them."""
    return padded([p + c for p, c, _ in pairs] + [p + r for p, _, r in pairs])


def test_packing_by_hand():
    ids, mask = padded([[5, 6, 7, 8], [5, 6, 9]])
    packed = pack_pairs(ids, mask)
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2]]  # the rejected branch takes up where the prompt ends
    assert packed.branch.tolist() == [[PROMPT, PROMPT, CHOSEN, CHOSEN, REJECTED]]
    assert packed.source[0, :4].tolist() == [0, 1, 2, 3]
    assert packed.source[1, :3].tolist() == [0, 1, 4]


def test_a_branch_sees_the_prompt_and_itself():
    branch = torch.tensor([[PROMPT, CHOSEN, CHOSEN, REJECTED, PADDING]])
    assert tree_mask(branch)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],  # rejected: not the chosen tokens before it
        [1, 0, 0, 0, 1],  # padding: never without a key
    ]


@torch.no_grad()
def test_hidden_states_equal_those_of_separate_forwards(make_policy, architecture):
    backbone = make_policy(architecture).base_model
    ids, mask = batch_of(PAIRS)
    with shared_prefix(backbone):
        packed = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    assert packed.shape[:2] == ids.shape
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = backbone(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(packed[row, :length], alone, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_the_padded_batch(make_policy, architecture):
    ids, mask = batch_of(PAIRS)
    gradients = []
    for pack in (True, False):
        backbone = make_policy(architecture).base_model
        if pack:
            with shared_prefix(backbone):
                hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        else:
            hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
        (weights * hidden)[mask.bool()].sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for found, expected in zip(*gradients, strict=True):
        scale = expected.abs().max().clamp(min=1)
        torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_prompt_runs_once(make_policy):
    backbone, widths = make_policy().base_model, []
    backbone.embed_tokens.register_forward_hook(lambda module, inputs, output: widths.append(tuple(inputs[0].shape)))
    ids, mask = batch_of(PAIRS[:1])
    with shared_prefix(backbone):
        backbone(input_ids=ids, attention_mask=mask)
    assert widths == [(1, 4 + 3 + 1)]  # one row of prompt, chosen and rejected in place of two of 8


@torch.no_grad()
def test_batches_that_are_no_pairs_pass_unchanged(make_policy):
    backbone = make_policy().base_model
    ids, mask = padded([[5, 6, 7], [5, 6], [9, 8]])
    expected = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    bare = backbone(input_ids=ids[:2]).last_hidden_state
    with shared_prefix(backbone):
        assert torch.equal(backbone(input_ids=ids, attention_mask=mask).last_hidden_state, expected)
        assert torch.equal(backbone(input_ids=ids[:2]).last_hidden_state, bare)


def test_the_forward_is_the_classes_own_again_afterwards(make_policy):
    backbone = make_policy().base_model
    own = backbone.forward
    with shared_prefix(backbone):
        assert backbone.forward != own
    assert backbone.forward == own and "forward" not in vars(backbone)
    with pytest.raises(ZeroDivisionError), shared_prefix(backbone):
        raise ZeroDivisionError
    assert backbone.forward == own and "forward" not in vars(backbone)
