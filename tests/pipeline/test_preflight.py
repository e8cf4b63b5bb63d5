"""What is refused, or said, before anything is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, GraniteConfig

from bench.config import BudgetConfig, RunConfig, check_batches
from bench.errors import ConfigError, DataError
from bench.evaluate.judges.config import JudgeConfig
from bench.models import tiny
from bench.models.config import ModelConfig
from bench.models.loading import save_policy
from bench.pipeline import runner
from bench.pipeline.fits import require_fits
from bench.pipeline.runner import prepare_data, run
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair
from bench.stages import base, sft

POST = "POST: the cat sat on the mat.\n\nTL;DR:"


@pytest.fixture(scope="module")
def granite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: logits are scaled, and transformers makes no reward model of it."""
    folder = tmp_path_factory.mktemp("granite")
    tokenizer = tiny.train_tokenizer([POST, " the cat sat."], vocabulary=300, max_length=512)
    config = GraniteConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=8.0, pad_token_id=0, eos_token_id=1, max_position_embeddings=512,
    )  # fmt: skip
    save_policy(AutoModelForCausalLM.from_config(config), tokenizer, folder)
    return folder


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sft, "train_sft", lambda *_, **__: pytest.fail("trained before it was refused"))


def test_a_model_without_a_reward_class_is_refused_where_one_is_needed(
    make_config: Callable[..., RunConfig], granite: Path, monkeypatch: pytest.MonkeyPatch
):
    no_training(monkeypatch)
    config = make_config(
        model=ModelConfig(kind="hub", name=str(granite)),
        budget=BudgetConfig(max_prompt_tokens=400, max_completion_tokens=8),
    )

    with pytest.raises(ConfigError, match=r"^model .* gives no reward model: transformers has no granite for"):
        run(config, "the command")


@pytest.mark.slow
def test_without_a_reward_model_it_runs_and_says_how(
    make_config: Callable[..., RunConfig], granite: Path, capsys: pytest.CaptureFixture
):
    config = make_config(
        model=ModelConfig(kind="hub", name=str(granite)),
        arms=("base", "sft", "dpo"),
        judge=JudgeConfig(names=("gold",)),
        budget=BudgetConfig(max_prompt_tokens=400, max_completion_tokens=8),
    )
    run(config, "the command")

    assert f"{granite}: logits come from its own forward pass" in capsys.readouterr().err


@pytest.mark.long
def test_a_passed_probe_is_not_repeated(make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch):
    """It is part of the stage `base`, which is kept by content, code and packages; seeds of data do not matter."""
    calls: list[str] = []

    def counted(model, name, attention, original=base.probe):
        calls.append(name)
        return original(model, name, attention)

    monkeypatch.setattr(base, "probe", counted)
    monkeypatch.setattr(runner.Engine, "completions", lambda *_: (_ for _ in ()).throw(_Stop))
    for _ in range(2):
        with pytest.raises(_Stop):
            run(make_config(), "the command")

    assert calls == ["tiny"]


class _Stop(Exception):
    """Before anything is sampled or trained."""


def one_row(summary: str) -> ComparisonData:
    pair = PreferencePair("p1", POST, "a cat.", summary)
    return ComparisonData(
        demonstrations={"train": [Demonstration("d1", POST, "a cat.")]},
        preferences={"train": [pair]},
        eval_prompts=[EvalPrompt("e1", POST, "a cat.")],
        gold=None,
        trivial_policies={},
        source={},
        dropped={},
    )


def test_a_summary_beyond_the_positions_is_refused(tokenizer):
    """At 60 positions: prompts are cut to the budget, but summaries are trained on whole."""
    prompt, space_cat = len(tokenizer(POST).input_ids), len(tokenizer(" cat").input_ids)
    fits = (60 - prompt - 1) // space_cat
    require_fits(one_row(" ".join(["cat"] * fits)), tokenizer, prompt, 60)
    require_fits(one_row(" ".join(["cat"] * (fits + 1))), tokenizer, prompt, None)

    with pytest.raises(DataError, match=r"^pair p1 \(train\), rejected: prompt and summary are \d+ tokens, but the mo"):
        require_fits(one_row(" ".join(["cat"] * (fits + 1))), tokenizer, prompt, 60)


def test_an_eos_that_files_write_out_is_no_token_of_its_own(make_config, monkeypatch: pytest.MonkeyPatch):
    config = make_config()
    plain, tokenizer, _ = prepare_data(config, Path(config.results_dir))
    eos = tokenizer.eos_token

    def with_eos(*arguments, load=runner.load):
        data = load(*arguments)
        return replace(
            data,
            demonstrations={
                split: [replace(d, completion=d.completion + eos) for d in rows]
                for split, rows in data.demonstrations.items()
            },
            preferences={
                split: [replace(pair, chosen=f"{pair.chosen}{eos}") for pair in rows]
                for split, rows in data.preferences.items()
            },
            eval_prompts=[replace(p, reference=p.reference + eos) for p in data.eval_prompts],
        )

    monkeypatch.setattr(runner, "load", with_eos)
    found, _, _ = prepare_data(config, Path(config.results_dir))

    assert found.demonstrations == plain.demonstrations and found.preferences == plain.preferences
    assert found.eval_prompts == plain.eval_prompts


def test_a_ppo_batch_beyond_the_budget_is_said(make_config, capsys):
    """Not refused: the budget is both arms', and PPO takes what it allows in one update."""
    config = make_config()
    check_batches(replace(config, ppo=replace(config.ppo, batch_size=4096)), processes=1)

    assert "ppo.batch_size is 4,096, but budget.ppo_episodes allows 4 episodes in all: PPO makes one update, of 4" in (
        capsys.readouterr().err
    )
    check_batches(config, processes=1)
    assert "ppo.batch_size" not in capsys.readouterr().err
