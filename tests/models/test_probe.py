"""The probe on small random models of every architecture family: exact by the fast way, by the slow one, or refused.

What it lets pass is held against the models' own forward passes once more here, by functions that it does not use.
"""

from dataclasses import replace

import pytest
import torch
from architectures import CAUSAL, NO_REWARD, VOCABULARY, WINDOW, make
from transformers import PreTrainedModel

from bench.encoding import rows_of
from bench.errors import ConfigError
from bench.forward import logps_and_entropy
from bench.generation import sample
from bench.models.loading import load_policy, save_policy
from bench.models.probe import probe, probe_reward
from bench.packing import packs
from bench.paths import Paths

FAST = Paths()
UNPACKED, UNCACHED, OWN = (Paths(**{name: False}) for name in ("packed", "cached", "linear_head"))
PATHS = {
    "granite": OWN, "cohere": OWN, "gemma2": OWN,
    "stablelm": UNPACKED, "nemotron": UNPACKED, "falcon": UNPACKED,
    "falcon_alibi": replace(UNPACKED, cached=False), "bloom": UNCACHED, "mpt": UNCACHED, "gpt_neo": UNCACHED,
}  # fmt: skip


@torch.no_grad()
def worst(model: PreTrainedModel) -> float:
    """The largest difference, in nats, of a sampled token's log-prob from that of the model's own forward pass: as the
    sampler gives it, and as a batch of rows gives it."""
    generator = torch.Generator().manual_seed(1)
    # With a window of 8: one prompt that is longer, one whose completion grows beyond it, and short ones.
    prompts = [torch.randint(2, VOCABULARY, (n,), generator=generator).tolist() for n in (13, 6, 2, 9)]
    rollout = sample(
        model, prompts, max_new_tokens=6, eos_token_id=-1, pad_token_id=0, temperature=1.0, generator=generator
    )
    items = [(p, ids.tolist()) for p, ids in zip(prompts, rollout.completion_ids, strict=True)]
    logps, _ = logps_and_entropy(model, rows_of(items, 0, model.device))
    twice = [items[i] for i in (0, 1, 2, 3)] + [(p, c[::-1]) for p, c in items]
    paired, _ = logps_and_entropy(model, rows_of(twice, 0, model.device), pairs=True)

    def own(prompt: list[int], completion: list[int]) -> torch.Tensor:
        logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0]
        chosen = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        return chosen.gather(1, torch.tensor(completion)[:, None])[:, 0]

    expected, both = (torch.stack([own(p, c) for p, c in rows]) for rows in (items, twice))
    found = [rollout.logps - expected, logps - expected, paired - both]
    return max(float(difference.abs().max()) for difference in found)


@pytest.mark.parametrize("name", CAUSAL)
def test_what_the_probe_lets_pass_is_exact(name: str):
    model = make(name)

    found = probe(model, name)

    assert worst(model) < 1e-4
    assert found.paths == Paths.of(model) == PATHS.get(name, FAST)
    assert (found.no_reward is not None) == (name in NO_REWARD)
    assert all(line.startswith(f"{name}: ") and "\n" not in line for line in found.said)


@pytest.mark.parametrize("name", ["granite", "mpt", "gpt_neo"])
def test_without_the_probe_these_are_silently_wrong(name: str):
    """So that the test above can fail."""
    assert worst(make(name)) > 0.01


def test_a_window_is_reached_whatever_its_length():
    """Of 64 tokens, which no row of the probe has; the rows here are short of it, and then beyond."""
    model = make("mistral", sliding_window=64)
    probe(model, "mistral")

    assert model.config.sliding_window == 64
    assert packs(model.base_model, 64) and not packs(model.base_model, 65)
    assert worst(model) < 1e-4
    model.config.sliding_window = WINDOW
    assert worst(model) < 1e-4


def test_what_was_found_goes_with_the_weights(tokenizer, tmp_path):
    model = make("granite")
    probe(model, "granite")
    save_policy(model, tokenizer, tmp_path)

    again = load_policy(tmp_path, model.device)

    assert Paths.of(again) == Paths.of(again.base_model) == OWN
    assert worst(again) < 1e-4


def test_a_model_that_is_exact_is_saved_as_it_was():
    model = make("llama")
    probe(model, "llama")

    assert "exact_paths" not in model.config.to_dict()


def test_the_probe_runs_on_one_thread_and_gives_the_others_back():
    """Threads that wait for each other made seconds a minute and more, on a machine with other work."""
    model, seen = make("llama").train(), set()
    model.register_forward_pre_hook(lambda *_: seen.add((torch.get_num_threads(), model.training)))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        probe(model, "llama")
        after = torch.get_num_threads(), model.training
    finally:
        torch.set_num_threads(before)

    assert seen == {(1, False)}
    assert after == (3, True)


def test_a_model_that_sees_what_comes_is_refused():
    model = make("bert")

    with pytest.raises(
        ConfigError, match=r"^model bert cannot be compared: what it says of a row changes with what stands behind the"
    ):
        probe(model, "bert")


def test_weights_that_are_no_numbers_are_refused():
    model = make("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[7] = torch.nan

    with pytest.raises(ConfigError, match="its logits are not finite numbers"):
        probe(model, "llama")


def test_a_given_reward_model_is_held_against_its_own_forward_pass(make_classifier):
    reward = make_classifier()
    probe_reward(reward, "good")
    assert Paths.of(reward) == FAST

    original = type(reward).forward

    def shifted(*args, **kwargs):
        output = original(reward, *args, **kwargs)
        output.logits = output.logits + 1
        return output

    reward.forward = shifted
    with pytest.raises(ConfigError, match=r"^bad cannot be used: a reward model scores by a head `score`"):
        probe_reward(reward, "bad")
