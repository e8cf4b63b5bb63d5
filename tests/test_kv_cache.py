"""The sampler's cache against a forward pass that knows no cache."""

import pytest
import torch

from bench import kv_cache
from bench.kv_cache import prefill

PROMPTS = [[5, 9, 12, 40, 7, 88], [33], [60, 61, 150], [200, 5, 9]]
NEW = [[70, 3], [12, 12], [9, 250], [44, 1]]


@torch.no_grad()
@pytest.mark.parametrize("group_tokens", [4096, 6, 1])
def test_states_equal_those_of_the_whole_text(make_policy, architecture, monkeypatch, group_tokens):
    """Whatever prompts run together: the last prompt state, and the states of tokens written behind the gaps."""
    monkeypatch.setattr(kv_cache, "PREFILL_TOKENS", group_tokens)
    model = make_policy(architecture)
    cache, bias, last = prefill(model, PROMPTS, new_tokens=2)
    tokens, lengths = torch.tensor(NEW), torch.tensor([len(p) for p in PROMPTS])
    states = []
    for step in range(2):
        states.append(
            model.base_model(
                input_ids=tokens[:, step, None],
                attention_mask=torch.cat([bias, bias.new_zeros(4, 1, 1, step + 1)], dim=-1),
                position_ids=(lengths + step)[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        )

    for row, (prompt, new) in enumerate(zip(PROMPTS, NEW, strict=True)):
        whole = model.base_model(input_ids=torch.tensor([prompt + new]), use_cache=False).last_hidden_state[0]
        got = torch.stack([last[row], states[0][row], states[1][row]])
        torch.testing.assert_close(got, whole[len(prompt) - 1 :], atol=1e-5, rtol=1e-5)
