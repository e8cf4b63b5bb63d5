"""Packed batches against the same rows run one by one."""

import contextlib
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTJConfig, MistralConfig, PreTrainedModel, Qwen3NextConfig

from bench.generation import sample
from bench.models.loading import load_policy, save_policy
from bench.packing import pack, packed, packed_inputs, packed_states, packs

PAIRS = [
    ([5, 9, 12, 40], [60, 61, 62], [70]),
    ([33], [8], [9, 10, 11, 12, 13]),
    ([20, 21, 22], [30, 31], [30, 32]),  # the completions share their first token
    ([44, 45], [50], [50, 51]),  # one completion is the start of the other
    ([46, 47], [52, 53], [52, 53]),  # and here they are the same
    (list(range(5, 95)), [60, 61], [71, 72, 73, 74]),  # long rows attend apart from short ones
]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows)) + 1  # a column that is padding in every row, as collators round up
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def batch_of(pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """[chosen; rejected] as TRL's trainers stack them."""
    return padded([p + c for p, c, _ in pairs] + [p + r for p, _, r in pairs])


def test_packing_pairs_by_hand():
    ids, mask = padded([[5, 6, 7, 8], [5, 6, 9]])
    packing = pack(ids, mask.sum(1), pairs=True)
    assert packing.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packing.position_ids.tolist() == [[0, 1, 2, 3, 2]]  # the rejected branch takes up where the prompt ends
    assert packing.source.tolist() == [[0, 1, 2, 3, 3], [0, 1, 4, 4, 4]]  # behind a row its last token
    first, second = packing.groups
    assert first.queries.tolist() == first.keys.tolist() == [[0, 1, 2, 3]] and first.mask is None
    assert (second.queries.tolist(), second.keys.tolist()) == ([[4]], [[0, 1, 4]])  # 9 asks 5, 6 and itself
    assert second.mask is not None and second.mask.tolist() == [[[[True, True, True]]]]
    assert packing.inverse.tolist() == [0, 1, 2, 3, 4]


def test_the_groups_of_two_pairs_by_hand():
    ids, mask = padded([[5, 6, 7], [8, 7], [5, 6, 1, 2], [8, 3]])  # packed: 5 6 7 | 8 7 | 1 2 | 3
    first, second = pack(ids, mask.sum(1), pairs=True).groups
    assert first.queries.tolist() == [[3, 4, 4], [0, 1, 2]]  # the shorter row first, padded with its last token
    assert second.keys.tolist() == [[3, 7, 7, 7], [0, 1, 5, 6]]
    assert second.queries.tolist() == [[7, 7], [5, 6]]
    assert second.mask is not None
    assert second.mask.int().tolist() == [[[[1, 1, 0, 0], [1, 1, 0, 0]]], [[[1, 1, 1, 0], [1, 1, 1, 1]]]]
    assert pack(ids, mask.sum(1), pairs=True).inverse.tolist() == [3, 4, 5, 0, 1, 8, 9, 6]


def test_a_completion_twice_asks_once():
    ids, mask = padded([[5, 6, 7], [5, 6, 7]])
    packing = pack(ids, mask.sum(1), pairs=True)
    assert [group.queries.tolist() for group in packing.groups] == [[[0, 1, 2]]]
    assert packing.source[:, :3].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_packing_rows_by_hand():
    ids, mask = padded([[5, 6, 7], [5, 9]])
    packing = pack(ids, mask.sum(1))
    assert packing.input_ids.tolist() == [[5, 6, 7, 5, 9]]  # equal tokens of rows that are no pair are not shared
    assert packing.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert packing.source.tolist() == [[0, 1, 2, 2], [3, 4, 4, 4]]


def test_rows_attend_together_where_little_of_it_is_padding():
    lengths = torch.tensor([70, 512, 10, 500, 64, 80])
    groups = pack(torch.ones(6, 512, dtype=torch.long), lengths).groups
    # 10 and 64 are short. 70 would make 3 * 70 = 210 of 144 tokens, 31 % padding; 70 and 80: 160 of 150, 6 %;
    # 500 would be 3 * 500 of 650; 500 and 512: 1024 of 1012.
    assert [tuple(group.keys.shape) for group in groups] == [(2, 64), (2, 80), (2, 512)]


@torch.no_grad()
def test_hidden_states_equal_those_of_separate_forwards(make_policy, architecture):
    backbone = make_policy(architecture).base_model
    ids, mask = batch_of(PAIRS)
    lengths = mask.sum(1)
    states, place = packed_states(backbone, ids, lengths, pairs=True)
    with packed(backbone):
        batch = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    assert batch.shape[:2] == ids.shape
    for row, length in enumerate(lengths.tolist()):
        alone = backbone(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
        for found in (states[place[row, :length]], batch[row, :length]):
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_the_padded_batch(make_policy, architecture):
    ids, mask = batch_of(PAIRS)
    gradients = []
    for how in ("pairs", "rows", "padded"):
        backbone = make_policy(architecture).base_model
        if how == "pairs":
            states, place = packed_states(backbone, ids, mask.sum(1), pairs=True)
            hidden = states[place]
        else:
            with packed(backbone) if how == "rows" else contextlib.nullcontext():
                hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
        (weights * hidden)[mask.bool()].sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for of_pairs, of_rows, expected in zip(*gradients, strict=True):
        scale = expected.abs().max().clamp(min=1)
        for found in (of_pairs, of_rows):
            torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_prompt_runs_once(make_policy):
    backbone, widths = make_policy().base_model, []
    backbone.embed_tokens.register_forward_hook(lambda module, inputs, output: widths.append(tuple(inputs[0].shape)))
    ids, mask = batch_of(PAIRS[:1])
    packed_states(backbone, ids, mask.sum(1), pairs=True)
    assert widths == [(1, 4 + 3 + 1)]  # one row of prompt, chosen and rejected in place of two of 8


@torch.no_grad()
def test_rows_of_every_length(make_policy, architecture):
    """Without a context: states and the index that finds each of them; long rows, in several attention groups."""
    backbone = make_policy(architecture).base_model
    lengths = [1, 40, 90, 3, 65, 100, 41, 1]
    ids = torch.randint(5, 90, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    states, place = packed_states(backbone, ids, torch.tensor(lengths))
    assert len(states) == sum(lengths) and len(pack(ids, torch.tensor(lengths)).groups) > 1
    for row, length in enumerate(lengths):
        alone = backbone(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(states[place[row, :length]], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_calls_without_a_mask_or_with_a_cache_pass_unchanged(make_policy):
    backbone = make_policy().base_model
    ids, mask = padded([[5, 6, 7], [5, 6], [9, 8]])
    bare = backbone(input_ids=ids).last_hidden_state
    cached = backbone(input_ids=ids, attention_mask=mask, use_cache=True)
    with packed(backbone):
        assert torch.equal(backbone(input_ids=ids).last_hidden_state, bare)
        again = backbone(input_ids=ids, attention_mask=mask, use_cache=True)
    assert torch.equal(again.last_hidden_state, cached.last_hidden_state) and again.past_key_values is not None


@torch.no_grad()
def test_a_model_that_ran_packed_is_saved_as_it_was(make_policy, tokenizer, tmp_path):
    policy = make_policy()
    save_policy(policy, tokenizer, tmp_path / "before")
    ids, mask = padded([[5, 6, 7], [5, 6]])
    packed_states(policy.base_model, ids, mask.sum(1))
    expected = policy(input_ids=ids, attention_mask=mask).logits  # other calls are plain sdpa
    save_policy(policy, tokenizer, tmp_path / "after")
    configs = [(tmp_path / name / "config.json").read_text() for name in ("before", "after")]
    assert configs[0] == configs[1]
    loaded = load_policy(tmp_path / "after", torch.device("cpu"))
    torch.testing.assert_close(loaded(input_ids=ids, attention_mask=mask).logits, expected)  # weights in a mapped file


def tiny_model(kind: str) -> PreTrainedModel:
    sizes: dict[str, Any] = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=100
    )
    configs = {
        "gptj": lambda: GPTJConfig(n_embd=16, n_layer=2, n_head=2, rotary_dim=4, vocab_size=100, n_positions=128),
        "mistral": lambda: MistralConfig(**sizes, num_key_value_heads=1, sliding_window=8),
        "qwen3_next": lambda: Qwen3NextConfig(
            **sizes, num_key_value_heads=1, head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8,
            shared_expert_intermediate_size=8, linear_num_key_heads=2, linear_num_value_heads=2,
            linear_key_head_dim=8, linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
        ),
    }  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(configs[kind]()).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gptj", "mistral", "qwen3_next"])
def test_models_that_cannot_be_packed_keep_their_padding(kind):
    """Eager attention only; a sliding window; states that run along the row."""
    backbone = tiny_model(kind).base_model
    assert not packs(backbone, 20)
    lengths = [20, 3, 11]
    ids = torch.randint(5, 90, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(20) < torch.tensor(lengths)[:, None]).long()
    states, place = packed_states(backbone, ids, torch.tensor(lengths), use_cache=False)
    with packed(backbone):
        batch = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    for row, length in enumerate(lengths):
        alone = backbone(input_ids=ids[row : row + 1, :length], use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(states[place[row, :length]], alone, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(batch[row, :length], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gptj", "llama"])
def test_what_is_sampled_does_not_depend_on_packing(kind, make_policy):
    """Eager models keep their padding; the same model with sdpa would sample the same."""
    eager = tiny_model("gptj") if kind == "gptj" else make_policy()
    eager.set_attn_implementation("eager")
    prompts = [[5, 6, 7, 8, 9, 10], [11], [12, 13, 14]]
    options: dict[str, Any] = dict(max_new_tokens=5, eos_token_id=-1, pad_token_id=0, temperature=0.0)
    found = sample(eager, prompts, **options, generator=torch.Generator()).completion_ids
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        for _ in range(5):
            ids = torch.cat([ids, eager(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        assert found[row].tolist() == ids[0, len(prompt) :].tolist()


def test_attention_that_knows_no_packing_fails(make_policy):
    """Rather than attend across rows: the mask that comes with a packing fits no attention."""
    backbone = make_policy().base_model
    arguments = packed_inputs(pack(torch.tensor([[5, 6], [7, 8]]), torch.tensor([2, 2])))
    for implementation in ("sdpa", "eager"):
        backbone.set_attn_implementation(implementation)
        with pytest.raises(RuntimeError):
            backbone(**arguments)


def test_the_forward_is_the_classes_own_again_afterwards(make_policy):
    backbone = make_policy().base_model
    own = backbone.forward
    with packed(backbone):
        assert backbone.forward != own
    assert backbone.forward == own and "forward" not in vars(backbone)
    with pytest.raises(ZeroDivisionError), packed(backbone):
        raise ZeroDivisionError
    assert backbone.forward == own and "forward" not in vars(backbone)
