"""Supervised fine-tuning through TRL: what its loss counts, and that it falls."""

from typing import Any

import pytest
import torch
from contexts import a_context

from bench.encoding import encode
from bench.records import Demonstration
from bench.train import trl_common
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

pytestmark = pytest.mark.slow

DEMONSTRATIONS = [
    Demonstration("a", "POST: the cat sat on the warm mat. TL;DR:", "the cat slept."),
    Demonstration("b", "POST: a dog ran after the ball. TL;DR:", "the dog lost the ball in the river"),
    Demonstration("c", "TL;DR:", "cake"),
    Demonstration("d", "POST: my friend forgot the sugar. TL;DR:", "no sugar"),
]


@torch.no_grad()
def completion_cross_entropy(model, tokenizer) -> float:
    """Nats per token over the completions and their EOS, each demonstration by itself, from the full logits."""
    losses = []
    for demonstration in DEMONSTRATIONS:
        prompt = tokenizer(demonstration.prompt).input_ids
        completion = [*tokenizer(f" {demonstration.completion}").input_ids, tokenizer.eos_token_id]
        logps = model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        losses += [-logps[len(prompt) + i - 1, token].item() for i, token in enumerate(completion)]
    return sum(losses) / len(losses)


def test_shares_of_a_model_are_put_together(make_policy, tokenizer, tmp_path, monkeypatch):
    """What FSDP and ZeRO need at the end, here with one share: the caller's model is a plain one with all weights."""
    settings = SFTSettings(learning_rate=1e-2, batch_size=4, micro_batch_size=2)
    expected, model = make_policy(), make_policy()
    train_sft(expected, tokenizer, DEMONSTRATIONS, settings, a_context(tmp_path / "a"), epochs=2)
    share = next(model.parameters())
    monkeypatch.setattr(trl_common, "is_sharded", lambda trainer: True)
    train_sft(model, tokenizer, DEMONSTRATIONS, settings, a_context(tmp_path / "b"), epochs=2)

    assert type(model) is type(expected)
    assert model.state_dict().keys() == expected.state_dict().keys()
    assert all(
        torch.equal(found, wanted) for found, wanted in zip(model.parameters(), expected.parameters(), strict=True)
    )
    assert next(model.parameters()) is not share
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 2, 3]])).logits).all()


def test_the_loss_counts_completion_and_eos_alone_and_falls(make_policy, architecture, tokenizer, tmp_path):
    model = make_policy(architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    expected = completion_cross_entropy(model, tokenizer)
    rows: Any = train_sft(
        model,
        tokenizer,
        DEMONSTRATIONS,
        SFTSettings(learning_rate=1e-2, batch_size=4, micro_batch_size=2, schedule="constant"),
        a_context(tmp_path),
        epochs=6,
    )
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert completion_cross_entropy(model, tokenizer) < rows[-1]["loss"]
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())  # every one of them moved


def test_the_post_counts_too_where_it_is_asked_for(make_policy, tokenizer, tmp_path):
    """The first loss is the mean over all tokens but the first of each row, by hand from the logits."""
    rows = [Demonstration("a", "POST: the cat sat. TL;DR:", "the cat"), Demonstration("b", "TL;DR:", "no sugar at all")]
    losses = []
    for completion_only in (True, False):
        model, context = make_policy(), a_context(tmp_path / str(completion_only))
        settings = SFTSettings(batch_size=2, micro_batch_size=1, completion_only=completion_only, max_grad_norm=None)
        log = train_sft(model, tokenizer, rows, settings, context, epochs=1)
        losses.append(log[0]["loss"])
        assert log[0]["grad_norm"] > 1  # it is measured, though nothing is scaled down
    expected: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        prompt, completion = encode(tokenizer, row.prompt, row.completion)[0]
        ids = torch.tensor([*prompt, *completion])
        with torch.no_grad():
            logps = make_policy()(input_ids=ids[None]).logits[0].log_softmax(-1)
        each = [-logps[i, token].item() for i, token in enumerate(ids[1:].tolist())]
        expected[True] += each[len(prompt) - 1 :]
        expected[False] += each
    assert losses == [pytest.approx(sum(each) / len(each), rel=1e-4) for each in (expected[True], expected[False])]
