"""KL and rewards of completions made elsewhere, against plain forward passes of the models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import ConfigError, DataError, ResourceError
from bench.files import read_json, read_jsonl, write_jsonl
from bench.models import tiny
from bench.models.loading import save_policy
from bench.scored.config import ScoreColumns, ScoreConfig
from bench.scored.read import read_files
from bench.scored.runner import score
from bench.scored.weights import Weights

pytestmark = pytest.mark.slow

PROMPTS = ["POST: the cat sat on the warm mat. TL;DR:", "POST: a dog ran after the ball. TL;DR:", "TL;DR:"]
TEXTS = {"mine": ["the cat slept.", "a dog", "cake"], "theirs": ["the dog lost the ball", "sugar", "no cake"]}
REFERENCES = ["the cat slept.", "the dog lost the ball.", "no sugar"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_policy, make_classifier, tokenizer) -> dict[str, Path]:
    made = {"mine": make_policy(seed=1), "sft": make_policy(seed=0), "reward": make_classifier(seed=2)}
    folders = {name: tmp_path_factory.mktemp(name) for name in made}
    for name, model in made.items():
        save_policy(model, tokenizer, folders[name])
    return folders


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """write(**more): the completions of both arms in a file; `more` are further cells of every row."""

    def to_file(**more: Any) -> str:
        rows = [
            {"arm": arm, "prompt": prompt, "completion": text, "reference": reference, **more}
            for arm, texts in TEXTS.items()
            for prompt, text, reference in zip(PROMPTS, texts, REFERENCES, strict=True)
        ]
        write_jsonl(tmp_path / "all.jsonl", rows)
        return str(tmp_path / "all.jsonl")

    return to_file


def config_of(file: str, folder: Path, **settings: Any) -> ScoreConfig:
    return ScoreConfig(files=(file,), results_dir=str(folder), name="it", **settings)


@torch.no_grad()
def plain(
    model, tokenizer, prompt: str, text: str, temperature: float, ended: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, V) log-probs of the model's own forward pass, and of the completion's tokens."""
    before = tokenizer(prompt).input_ids
    ids = tokenizer(f"{prompt} {text}").input_ids + ([tokenizer.eos_token_id] if ended else [])
    table = (model(input_ids=torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)[len(before) - 1 : -1]
    return table, table.gather(1, torch.tensor(ids[len(before) :])[:, None]).sum()


@pytest.mark.parametrize("temperature, finished", [(0.7, True), (None, None), (0.5, False)])
def test_kl_is_that_of_the_models(models, write, make_policy, tokenizer, tmp_path: Path, temperature, finished):
    more = {"temperature": temperature, "finished": finished}
    file = write(**{key: value for key, value in more.items() if value is not None})
    folder = score(config_of(file, tmp_path, policy={"mine": str(models["mine"])}, reference=str(models["sft"])), "it")
    metrics = read_json(folder / "metrics.json")

    exact, k1 = [], []
    for prompt, text in zip(PROMPTS, TEXTS["mine"], strict=True):
        (own, logp), (ref, ref_logp) = (
            plain(make_policy(seed=seed), tokenizer, prompt, text, temperature or 1.0, finished is not False)
            for seed in (1, 0)
        )
        exact.append(float((own.exp() * (own - ref)).sum()))
        k1.append(float(logp - ref_logp))
    found = metrics["arms"]["mine"]
    assert found["kl_ref"]["value"] == pytest.approx(sum(exact) / 3, rel=1e-4)
    assert found["kl_ref_k1"]["value"] == pytest.approx(sum(k1) / 3, rel=1e-4)
    assert (found["kl_ref"]["estimator"], found["kl_ref"]["n"]) == ("exact", 3)
    rows = read_jsonl(folder / "completions" / "00-mine.jsonl")
    assert [row["kl"] for row in rows] == pytest.approx(exact, rel=1e-4)
    assert "kl_ref" not in metrics["arms"]["theirs"]
    said = " ".join(metrics["missing"])
    assert "3 of 6 completions how likely" in said and "no KL" in said
    assert ("their KL is taken at 1" in said) == (temperature is None)
    assert ("count as ended" in said) == (finished is None)


def test_greedy_completions_have_no_kl(models, write, tmp_path: Path):
    config = config_of(
        write(temperature=0), tmp_path, policy={"mine": str(models["mine"])}, reference=str(models["sft"])
    )
    metrics = read_json(score(config, "it") / "metrics.json")

    assert metrics["arms"]["mine"]["kl_ref"]["value"] is None
    assert metrics["arms"]["mine"]["kl_ref"]["reason"] == "greedy completions have no KL"


def test_a_reward_model_rates_and_judges(models, write, make_classifier, tokenizer, tmp_path: Path):
    metrics = read_json(score(config_of(write(), tmp_path, reward=str(models["reward"])), "it") / "metrics.json")

    def own(prompt: str, text: str) -> float:
        ids = [*tokenizer(f"{prompt} {text}").input_ids, tokenizer.eos_token_id]
        return float(make_classifier(seed=2)(input_ids=torch.tensor([ids])).logits.detach())

    expected = {
        arm: [own(*both) for both in zip(PROMPTS, texts, strict=True)]
        for arm, texts in {**TEXTS, "reference": REFERENCES}.items()
    }
    for arm, scores in expected.items():
        rated = metrics["arms"][arm]["ratings"]["reward_model"]
        assert rated["value"] == pytest.approx(sum(scores) / 3, rel=1e-4) and rated["n"] == 3
    wins = sum(x > y for x, y in zip(expected["mine"], expected["theirs"], strict=True))
    assert metrics["head_to_head"]["mine_vs_theirs"]["win_rate"]["reward_model"]["value"] == pytest.approx(wins / 3)
    assert metrics["judges"]["reward_model"]["kind"] == "ratings"
    assert "win_rate" in metrics["arms"]["mine"]


def test_the_implicit_reward_is_the_log_ratio_at_temperature_1(models, write, make_policy, tokenizer, tmp_path: Path):
    config = config_of(
        write(temperature=0.5),
        tmp_path,
        policy={"mine": str(models["mine"])},
        reference=str(models["sft"]),
        implicit_reward="mine",
    )
    metrics = read_json(score(config, "it") / "metrics.json")

    for arm, texts in {**TEXTS, "reference": REFERENCES}.items():
        ratios = []
        for prompt, text in zip(PROMPTS, texts, strict=True):
            (_, logp), (_, ref) = (plain(make_policy(seed=s), tokenizer, prompt, text, 1.0, True) for s in (1, 0))
            ratios.append(float(logp - ref))
        rated = metrics["arms"][arm]["ratings"]["implicit_reward"]
        assert rated["value"] == pytest.approx(sum(ratios) / 3, rel=1e-4)


def test_what_does_not_go_together_is_refused(models, write, make_policy, tmp_path: Path):
    file = write()
    other = tiny.train_tokenizer(["quite another text, of other words"], vocabulary=300, max_length=128)
    save_policy(make_policy(), other, tmp_path / "other")
    sft, mine = str(models["sft"]), str(models["mine"])

    def checked(**settings: Any) -> Weights:
        return Weights.checked(config_of(file, tmp_path, **settings), read_files([file], ScoreColumns()))

    with pytest.raises(ConfigError, match=r"^policy\.mine \(.*other\) has another tokenizer than the run's model"):
        checked(policy={"mine": str(tmp_path / "other")}, reference=sft)
    with pytest.raises(ConfigError, match=r"^reward \(.*\) has 2 labels; a reward model has one"):
        checked(reward=sft)
    with pytest.raises(ConfigError, match="policy names yours, but the files have completions of mine, theirs"):
        checked(policy={"yours": mine}, reference=sft)
    with pytest.raises(ConfigError, match=r"^policy and reference must be given together"):
        checked(policy={"mine": mine})
    with pytest.raises(ConfigError, match=r"^implicit_reward must be an arm that policy names"):
        checked(policy={"mine": mine}, reference=sft, implicit_reward="theirs")
    with pytest.raises(ResourceError, match=r"^model '.*nowhere' is not there"):
        checked(policy={"mine": str(tmp_path / "nowhere")}, reference=sft)


def test_what_is_longer_than_the_positions_is_refused_with_its_prompt(models, tmp_path: Path):
    file = str(tmp_path / "long.jsonl")
    write_jsonl(
        tmp_path / "long.jsonl", [{"arm": "mine", "prompt_id": "7", "prompt": "the cat. " * 60, "completion": "x"}]
    )

    with pytest.raises(
        DataError, match=r"^prompt '7' with the completion of arm 'mine' is \d+ tokens, but .* has 128 pos"
    ):
        config = config_of(file, tmp_path, policy={"mine": str(models["mine"])}, reference=str(models["sft"]))
        Weights.checked(config, read_files([file], ScoreColumns()))


def test_other_weights_are_another_scoring(models, write, make_policy, tokenizer, tmp_path: Path):
    save_policy(make_policy(seed=3), tokenizer, tmp_path / "policy")
    config = config_of(write(), tmp_path, policy={"mine": str(tmp_path / "policy")}, reference=str(models["sft"]))
    given = read_files(config.files, ScoreColumns())
    before = Weights.checked(config, given).hashes
    save_policy(make_policy(seed=4), tokenizer, tmp_path / "policy")

    assert Weights.checked(config, given).hashes != before
