"""Models that others have trained: policies as arms, adapters, an SFT model to start from, reward models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from run_record import stage_folder
from transformers import AutoModelForSequenceClassification
from trl import DPOConfig, DPOTrainer

from bench.config import RunConfig
from bench.errors import ConfigError, ResourceError
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.judges.config import JudgeConfig, JudgeInstance, LocalLLMJudgeConfig
from bench.files import read_json, read_jsonl
from bench.models import tiny
from bench.models.config import GivenConfig, PolicyConfig
from bench.models.given import check_policy, check_reward, load_given_policy
from bench.models.loading import load_policy, load_tokenizer, same_weights, save_policy
from bench.pipeline import preflight
from bench.pipeline.runner import prepare_data, run
from bench.report import render_run

Finished = tuple[RunConfig, Path]


@pytest.fixture(scope="module")
def theirs(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of stock TRL's DPOTrainer, from the SFT model of a run, saved as TRL saves it."""
    config, folder = finished
    out = tmp_path_factory.mktemp("theirs")
    data, tokenizer, _ = prepare_data(config, Path(config.results_dir))
    pairs = [
        {"prompt": pair.prompt, "chosen": f" {pair.chosen}", "rejected": f" {pair.rejected}"}
        for pair in data.preferences["train"]
    ]
    trainer = DPOTrainer(
        model=str(stage_folder(config, folder, "sft")),
        args=DPOConfig(
            output_dir=str(out), max_steps=2, learning_rate=1e-2, per_device_train_batch_size=4, use_cpu=True,
            report_to="none", save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(out))
    return out


@pytest.fixture(scope="module")
def reward_folder(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of someone's, on the same tokenizer."""
    config, folder = finished
    sft, out = stage_folder(config, folder, "sft"), tmp_path_factory.mktemp("reward")
    model = AutoModelForSequenceClassification.from_pretrained(sft, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(3))
    save_policy(model, load_tokenizer(sft), out)
    return out


def metrics_of(config: RunConfig) -> tuple[Path, dict[str, Any]]:
    folder = run(config, "the command")
    return folder, read_json(folder / "metrics.json")


def test_a_policy_trained_elsewhere_is_an_arm_like_ours(finished: Finished, theirs: Path):
    smallest, _ = finished
    config = replace(
        smallest,
        name="elsewhere",
        arms=("base", "sft", "dpo", "trl"),
        policies={"trl": PolicyConfig(str(theirs), device_hours=1.5)},
    )
    folder, metrics = metrics_of(config)
    rows = read_jsonl(folder / "completions" / "trl.jsonl")

    assert "dpo_vs_trl" in metrics["head_to_head"]
    assert set(metrics["arms"]["trl"]["win_rate"]) == {"gold", "reward_model"}
    assert metrics["arms"]["trl"]["cost"] == {"declared": True, "device_hours": 1.5}
    assert same_weights(stage_folder(config, folder, "policy_trl"), theirs)
    mean_kl = sum(row["logp"] - row["ref_logp"] for row in rows) / len(rows)
    assert metrics["arms"]["trl"]["kl_ref_k1"]["value"] == pytest.approx(mean_kl, abs=1e-6)
    policy, sft = (load_policy(path, torch.device("cpu")) for path in (theirs, stage_folder(config, folder, "sft")))
    moved = max(float((a - b).abs().max()) for a, b in zip(policy.parameters(), sft.parameters(), strict=True))
    assert moved > 0 and metrics["arms"]["trl"]["kl_ref"]["value"] > 0.01

    assert "trl" in render_run(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("whose", ["policy", "judge", "instance", "metric"])
def test_other_weights_of_whatever_a_run_takes_are_another_run(
    make_config: Callable[..., RunConfig], tmp_path: Path, whose: str
):
    path = str(tmp_path / "mine")
    asked = LocalLLMJudgeConfig(name=path)
    changes: dict[str, Any] = {
        "policy": {"policies": {"mine": PolicyConfig(path)}},
        "judge": {"judge": JudgeConfig(names=("local_llm",), local_llm=asked)},
        "instance": {"judge": JudgeConfig(names=("own",), instances={"own": JudgeInstance(local_llm=asked)})},
        "metric": {"evaluation": EvaluationConfig(nli_model=path)},
    }
    config = make_config(**changes[whose])
    hashes = []
    for weights in (b"1", b"2"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "model.safetensors").write_bytes(weights)
        hashes.append(preflight.contents(config))

    assert len({*hashes, preflight.contents(make_config())}) == 3 and preflight.contents(make_config()) == ""


@pytest.fixture(scope="module")
def adapter(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LoRA adapter's folder, and that of the model it was trained on."""
    config, folder = finished
    sft, out = stage_folder(config, folder, "sft"), tmp_path_factory.mktemp("adapter")
    adapted = get_peft_model(load_policy(sft, torch.device("cpu")), LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(str(out))
    return out, sft


@torch.no_grad()
def test_an_adapter_is_merged_into_the_model_that_it_names(adapter: tuple[Path, Path]):
    folder, sft = adapter
    tokenizer, ids = load_tokenizer(sft), torch.tensor([[5, 9, 12, 40, 7]])
    adapted = PeftModel.from_pretrained(load_policy(sft, torch.device("cpu")), str(folder))

    for policy in (PolicyConfig(str(folder), "adapter"), PolicyConfig(str(folder), "adapter", base=str(sft))):
        check_policy("policies.lora", policy, tokenizer)
        merged = load_given_policy(policy, tokenizer).eval()
        torch.testing.assert_close(merged(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
        assert not any("lora" in name for name, _ in merged.named_parameters())


def test_an_adapter_is_an_arm(finished: Finished, adapter: tuple[Path, Path]):
    smallest, _ = finished
    policies = {"lora": PolicyConfig(str(adapter[0]), "adapter")}
    _, metrics = metrics_of(replace(smallest, name="lora", arms=("base", "sft", "lora"), policies=policies))

    assert metrics["arms"]["lora"]["kl_ref"]["value"] is not None and "cost" not in metrics["arms"]["lora"]


def test_given_reward_models_score_ppo_and_judge(finished: Finished, reward_folder: Path):
    smallest, _ = finished
    given = GivenConfig(reward=str(reward_folder), judge_reward=str(reward_folder))
    config = replace(smallest, name="given", given=given, arms=("base", "sft", "ppo"))
    folder, metrics = metrics_of(config)

    assert read_jsonl(stage_folder(config, folder, "reward") / "training.jsonl") == []
    for stage in ("reward", "judge_reward"):
        assert same_weights(stage_folder(config, folder, stage), reward_folder)
    # One model in both roles: it tells the pairs apart as well as itself.
    assert metrics["reward_model"]["accuracy"]["value"] == metrics["judge_reward_model"]["accuracy"]["value"]
    proxy = {arm: metrics["arms"][arm]["reward"]["proxy"]["value"] for arm in ("sft", "ppo")}
    assert proxy["sft"] != proxy["ppo"]


def test_the_given_sft_model_is_where_all_start(finished: Finished, theirs: Path):
    smallest, _ = finished
    config = replace(smallest, name="given_sft", given=GivenConfig(sft=str(theirs)), arms=("base", "sft", "dpo"))
    folder, metrics = metrics_of(config)

    assert same_weights(stage_folder(config, folder, "sft"), theirs)
    assert not same_weights(stage_folder(config, folder, "dpo"), theirs)
    assert "sft" not in metrics["health"]


def test_no_passes_over_the_demonstrations_leave_the_base_model(finished: Finished):
    smallest, _ = finished
    config = replace(smallest, name="no_sft", arms=("base", "sft"), budget=replace(smallest.budget, sft_epochs=0.0))
    folder, metrics = metrics_of(config)

    assert same_weights(stage_folder(config, folder, "sft"), stage_folder(config, folder, "base"))
    assert "sft" not in metrics["health"] and metrics["arms"]["base"]["kl_ref"]["value"] == pytest.approx(0, abs=1e-5)


def test_another_tokenizer_is_refused(make_policy: Callable, tokenizer, tmp_path: Path):
    other = tiny.train_tokenizer(["quite another text, of other words"], vocabulary=300, max_length=128)
    save_policy(make_policy(), other, tmp_path)

    with pytest.raises(ConfigError, match=r"^policies\.mine \(.*\) has another tokenizer than the run's model; "):
        check_policy("policies.mine", PolicyConfig(str(tmp_path)), tokenizer)


def test_another_pad_token_is_the_same_tokenizer(make_policy: Callable, tokenizer, tmp_path: Path):
    """Pythia has none, so everyone adds one of their own: [PAD] of Huang et al. has the id of ours."""
    save_policy(make_policy(), tokenizer, tmp_path)
    for file in tmp_path.glob("tokenizer*.json"):
        file.write_text(file.read_text().replace("<|pad|>", "[PAD]"))
    assert load_tokenizer(tmp_path).pad_token == "[PAD]"

    check_policy("policies.mine", PolicyConfig(str(tmp_path)), tokenizer)


def test_two_labels_are_no_reward_model(make_policy: Callable, tokenizer, tmp_path: Path):
    model = make_policy()
    model.config.num_labels = 2
    save_policy(model, tokenizer, tmp_path)

    with pytest.raises(ConfigError, match=r"^given\.reward \(.*\) has 2 labels; a reward model has one$"):
        check_reward(str(tmp_path), "given.reward", tokenizer)


def test_a_policy_that_is_not_there_is_one_line(tokenizer, tmp_path: Path):
    with pytest.raises(ResourceError, match=r"^model '.*nowhere' is not there: "):
        check_policy("policies.mine", PolicyConfig(str(tmp_path / "nowhere")), tokenizer)


def test_names_of_policies(make_config: Callable[..., RunConfig]):
    mine = PolicyConfig("somewhere")
    assert make_config(policies={"mine": mine}, arms=("sft", "mine")).arms == ("sft", "mine")
    with pytest.raises(ConfigError, match=r"^arms must be among .*dpo, mine"):
        make_config(policies={"mine": mine}, arms=("sft", "yours"))
    for taken in ("ppo", "reference", "a b"):
        with pytest.raises(ConfigError, match=r"^policies must be a plain name .* that no arm has"):
            make_config(policies={taken: mine})
    with pytest.raises(ConfigError, match=r"^policies\.\*\.base is for kind adapter alone"):
        PolicyConfig("somewhere", base="elsewhere")
