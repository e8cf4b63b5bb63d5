"""The sampler against `generate`, against fresh forward passes, and against the distribution it should draw from."""

import pytest
import torch
from scipy.stats import chisquare
from transformers import Cache

from bench import generation
from bench.errors import ConfigError
from bench.forward import logps_and_entropy
from bench.generation import SamplingConfig, decode, sample, sample_all
from bench.records import Rollout

PAD, NEVER = 0, -1
PROMPTS = [
    [5, 9, 12, 40, 7, 88],
    [33],
    [60, 61, 150],
    [200, 5, 9],
    [71, 72],
    [90, 14, 250, 3],
    [101],
    [18, 2, 44],
]


def draw(model, prompts=PROMPTS, *, eos=NEVER, temperature=0.7, seed=0, max_new_tokens=12, among=None) -> Rollout:
    return sample(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        eos_token_id=eos,
        pad_token_id=PAD,
        temperature=temperature,
        generator=torch.Generator().manual_seed(seed),
        among=among,
    )


def common_token(rollout: Rollout) -> int:
    """A token that several rows emit at some step after the first: taken as EOS, rows end at different lengths."""
    candidates = rollout.completion_ids[:, 1:-1]
    rows = [len({row for row, ids in enumerate(candidates.tolist()) if token in ids}) for token in range(300)]
    return int(torch.tensor(rows).argmax())


def rows_of(rollout: Rollout) -> list[list[int]]:
    return [ids[mask].tolist() for ids, mask in zip(rollout.completion_ids, rollout.completion_mask, strict=True)]


@torch.no_grad()
def test_greedy_equals_generate_with_ragged_prompts_and_eos(make_policy, architecture):
    model = make_policy(architecture)
    eos = common_token(draw(model, temperature=0))
    rollout = draw(model, eos=eos, temperature=0)

    width = max(map(len, PROMPTS))
    input_ids = torch.tensor([[PAD] * (width - len(p)) + p for p in PROMPTS])
    attention_mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    generated = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=eos,
        pad_token_id=PAD,
    )
    expected = [row[: row.index(eos) + 1] if eos in row else row for row in generated[:, width:].tolist()]

    assert rows_of(rollout) == expected
    assert rollout.is_finished.tolist() == [eos in row for row in expected]
    lengths = {len(row) for row in expected}
    assert len(lengths) > 1 and rollout.is_finished.any()  # the rows did end at different steps


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.7, 0.0])
def test_logps_equal_those_of_a_fresh_forward(make_policy, architecture, temperature):
    model = make_policy(architecture)
    eos = common_token(draw(model))
    rollout = draw(model, eos=eos, temperature=temperature)
    fresh, _ = logps_and_entropy(model, rollout, temperature or 1.0)
    torch.testing.assert_close(rollout.logps, fresh, atol=1e-5, rtol=1e-5)


def test_rows_are_right_padded_and_the_eos_belongs_to_the_completion(make_policy):
    model = make_policy()
    eos = common_token(draw(model))
    rollout = draw(model, eos=eos)
    assert rollout.is_finished.any() and not rollout.is_finished.all()
    for i, (prompt, completion) in enumerate(zip(PROMPTS, rows_of(rollout), strict=True)):
        whole = prompt + completion
        assert rollout.input_ids[i].tolist() == whole + [PAD] * (rollout.input_ids.size(1) - len(whole))
        assert rollout.is_finished[i] == (completion[-1] == eos)
        assert eos not in completion[:-1]
        assert rollout.is_finished[i] or len(completion) == 12


@pytest.mark.parametrize("temperature", [0.7, 0.0])
def test_dropping_finished_rows_changes_nothing(make_policy, architecture, monkeypatch, temperature):
    model = make_policy(architecture)
    eos = common_token(draw(model, temperature=temperature))
    kept: list[int] = []
    select = Cache.batch_select_indices

    def watched(cache, indices):
        kept.append(len(indices))
        return select(cache, indices)

    monkeypatch.setattr(Cache, "batch_select_indices", watched)
    compacted = draw(model, eos=eos, temperature=temperature)
    assert kept and min(kept) < len(PROMPTS)  # rows did leave
    kept.clear()
    monkeypatch.setattr(generation, "_COMPACT_WHEN_FINISHED", 2.0)
    whole = draw(model, eos=eos, temperature=temperature)
    assert not kept

    assert torch.equal(compacted.input_ids, whole.input_ids)
    assert torch.equal(compacted.completion_mask, whole.completion_mask)
    torch.testing.assert_close(compacted.logps, whole.logps, atol=1e-5, rtol=1e-5)


def test_the_generator_alone_decides_the_draw(make_policy):
    model = make_policy()
    first = draw(model, seed=3)
    torch.manual_seed(99)  # the global generator plays no part
    assert rows_of(draw(model, seed=3)) == rows_of(first)
    assert rows_of(draw(model, seed=4)) != rows_of(first)


def test_what_a_row_draws_does_not_depend_on_the_other_rows(make_policy):
    model = make_policy()
    eos = common_token(draw(model))
    others = [PROMPTS[0], *([7, 7, i] for i in range(len(PROMPTS) - 1))]
    assert rows_of(draw(model, others, eos=eos))[0] == rows_of(draw(model, eos=eos))[0]


def test_shares_of_a_batch_draw_what_the_whole_batch_draws(make_policy):
    """As two processes would, the second with rows that end before the first's."""
    model = make_policy()
    whole = draw(model)
    eos = common_token(whole)
    whole = rows_of(draw(model, eos=eos))
    for places in (torch.tensor([0, 2, 4, 6]), torch.tensor([1, 3, 5, 7])):
        share = draw(model, [PROMPTS[i] for i in places], eos=eos, among=(places, len(PROMPTS)))
        assert rows_of(share) == [whole[i] for i in places]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_follow_the_softmax(make_policy, temperature):
    model, prompt, n = make_policy(), [5, 9, 12], 5000
    rollout = draw(model, [prompt] * n, temperature=temperature, max_new_tokens=1)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    expected = n * (logits / temperature).softmax(-1).double()
    counts = torch.bincount(rollout.completion_ids[:, 0], minlength=300).double()
    rare = expected < 5  # too few for the chi-square approximation: one cell of their own
    cells = lambda x: torch.cat([x[~rare], x[rare].sum()[None]]).numpy()  # noqa: E731
    assert (~rare).sum() > 10
    assert chisquare(cells(counts), cells(expected) * n / cells(expected).sum()).pvalue > 0.001


def test_a_token_without_probability_is_never_drawn(make_policy, monkeypatch):
    """Not even where the uniform number is 0, the lower edge of its range."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: torch.zeros(shape))
    rollout = draw(make_policy(), temperature=0.01)  # so cold that all but a few tokens underflow to 0
    assert rollout.logps.exp().min() > 0


def test_sample_all_keeps_the_order_of_the_prompts_and_the_models_mode(make_policy, tokenizer):
    model, done = make_policy().train(), []
    sampling = SamplingConfig(temperature=0.0, batch_size=3)
    results = sample_all(
        model,
        tokenizer,
        PROMPTS,
        sampling=sampling,
        max_new_tokens=6,
        generator=torch.Generator().manual_seed(0),
        on_batch=done.append,
    )
    for prompt, (ids, finished) in zip(PROMPTS, results, strict=True):
        alone = draw(model, [prompt], eos=tokenizer.eos_token_id, temperature=0, max_new_tokens=6)
        assert ids == rows_of(alone)[0] and finished == bool(alone.is_finished[0])
    assert model.training and done == [3, 3, 2]


def test_decode_drops_special_tokens_and_the_leading_space(tokenizer):
    ids = tokenizer(" the cat slept.").input_ids
    assert decode(tokenizer, [*ids, tokenizer.eos_token_id]) == "the cat slept."


@pytest.mark.parametrize(("field", "value"), [("temperature", -0.1), ("batch_size", 0)])
def test_a_sampling_value_out_of_range_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"^sampling\.{field} must be .*got {value}$"):
        SamplingConfig(**{field: value})


@pytest.mark.parametrize("temperature", [0.7, 0.0])
def test_samples_of_one_prompt_equal_those_of_the_prompt_repeated(make_policy, architecture, temperature):
    model = make_policy(architecture)
    eos = common_token(draw(model))
    shared = sample(
        model,
        PROMPTS[:3],
        max_new_tokens=12,
        eos_token_id=eos,
        pad_token_id=PAD,
        temperature=temperature,
        generator=torch.Generator().manual_seed(0),
        samples_per_prompt=3,
    )
    repeated = draw(model, [p for p in PROMPTS[:3] for _ in range(3)], eos=eos, temperature=temperature)

    assert torch.equal(shared.input_ids, repeated.input_ids)
    assert torch.equal(shared.is_finished, repeated.is_finished)
    torch.testing.assert_close(shared.logps, repeated.logps, atol=1e-5, rtol=1e-5)
    if temperature:
        assert len({tuple(row) for row in rows_of(shared)[:3]}) > 1  # each sample has a draw of its own


@pytest.mark.parametrize("batch_size", [2, 4, 16])  # samples in two calls, one prompt a call, several prompts a call
def test_sample_all_gives_each_prompt_its_samples_in_order(make_policy, tokenizer, batch_size):
    model, done = make_policy(), []
    results = sample_all(
        model,
        tokenizer,
        PROMPTS,
        sampling=SamplingConfig(temperature=0.0, batch_size=batch_size),
        max_new_tokens=6,
        generator=torch.Generator().manual_seed(0),
        on_batch=done.append,
        samples_per_prompt=3,
    )
    alone = [draw(model, [p], eos=tokenizer.eos_token_id, temperature=0, max_new_tokens=6) for p in PROMPTS]
    expected = [(rows_of(rollout)[0], bool(rollout.is_finished[0])) for rollout in alone for _ in range(3)]
    assert results == expected
    assert sum(done) == 3 * len(PROMPTS)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("at_once", [1, 2, 5])  # with 3 samples: some of a prompt's, some, one prompt's
def test_rows_draw_the_same_however_few_run_at_once(make_policy, monkeypatch, samples, at_once):
    model, held = make_policy(), []
    eos = common_token(draw(model))
    plain = generation.decoder

    def watched(model, prompts, samples, new_tokens):
        held.append(len(prompts) * samples)
        return plain(model, prompts, samples, new_tokens)

    monkeypatch.setattr(generation, "decoder", watched)
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    whole, cut = (
        sample(
            model,
            PROMPTS,
            max_new_tokens=12,
            eos_token_id=eos,
            pad_token_id=PAD,
            temperature=0.7,
            generator=generator,
            samples_per_prompt=samples,
            at_once=most,
        )
        for generator, most in zip(generators, (None, at_once), strict=True)
    )

    assert torch.equal(cut.input_ids, whole.input_ids) and torch.equal(cut.is_finished, whole.is_finished)
    torch.testing.assert_close(cut.logps, whole.logps, atol=1e-5, rtol=1e-5)
    assert held[0] == sum(held[1:]) == samples * len(PROMPTS) and max(held[1:]) <= at_once
    assert len(set(whole.completion_mask.sum(1).tolist())) > 1  # so that the last run's steps are not the longest's
    assert torch.equal(*(torch.rand(3, generator=generator) for generator in generators))  # so is what is drawn next
