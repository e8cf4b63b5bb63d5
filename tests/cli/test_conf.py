"""Every config file composes, binds, is complete and explains itself."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.cli.bind import bind
from bench.cli.conf_dir import conf_dir
from bench.data import CnnDmConfig, FilesConfig, SyntheticConfig, TldrConfig
from bench.pipeline.config import RunConfig

CONF = conf_dir()
DATA = {"synthetic": SyntheticConfig, "files": FilesConfig, "tldr": TldrConfig, "cnn_dm": CnnDmConfig}
EXPERIMENTS = sorted(CONF.glob("experiment/*.yaml"))
LAUNCHERS = sorted(CONF.glob("accelerate/*.yaml"))  # read by `accelerate launch`, not by Hydra
OPTIONS = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name not in ("experiment", "accelerate"))
SIZES_OF_TINY = {"architecture", "hidden_size", "layers", "heads", "vocabulary", "max_positions"}


def name_of(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(
            compose("config", overrides=list(overrides)), resolve=True, throw_on_missing=True
        )
    assert isinstance(config, dict)
    return bind({str(key): value for key, value in config.items()})


def leaves(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of a config file's keys."""
    found: set[str] = set()
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}"}
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
    config = composed(name_of(path))

    assert config.name == path.stem  # so that its results are found under its name


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_experiment_says_how_it_is_run(path: Path):
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]

    assert comments[0] == "# @package _global_"
    assert comments[1].endswith(".")
    assert any("python -m bench" in line and f"experiment={path.stem}" in line for line in comments[2:])


@pytest.mark.parametrize("path", OPTIONS, ids=name_of)
def test_option_composes(path: Path):
    needs = {"data": ["judge=reward_model"], "budget": ["model=pythia_1b"]}  # budget=full is too long for model=tiny
    named = ["model.name=a/model"] if path.stem == "local" else []
    config = composed(name_of(path), *needs.get(path.parent.name, named))

    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    bound = getattr(config, path.parent.name)
    for key, value in written.items():
        if value != "???" and not isinstance(value, (Mapping, list)):
            assert getattr(bound, key) == type(getattr(bound, key))(value) if value is not None else True


@pytest.mark.parametrize("path", OPTIONS, ids=name_of)
def test_option_shows_every_setting(path: Path):
    """What a file leaves out, `--help` cannot explain."""
    group = path.parent.name
    cls = DATA[path.stem] if group == "data" else get_type_hints(RunConfig)[group]
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    missing = field_leaves(cls, written) - leaves(written)

    assert missing == (SIZES_OF_TINY if group == "model" and path.stem != "tiny" else set())


def test_dpos_paper_preset_is_the_papers():
    """Rafailov et al. 2023, App. B: beta 0.5 for TL;DR, batch 64, RMSprop, 1e-6 after 150 steps; its code: norm 10."""
    dpo = composed("dpo=paper").dpo

    assert (dpo.beta, dpo.loss_type, dpo.batch_size) == (0.5, "sigmoid", 64)
    assert (dpo.optimizer, dpo.learning_rate, dpo.schedule, dpo.warmup_steps, dpo.max_grad_norm) == (
        "rmsprop", 1e-6, "constant_with_warmup", 150, 10.0,
    )  # fmt: skip


def test_the_config_shows_every_setting():
    written = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    groups = {next(iter(entry)) for entry in written["defaults"] if isinstance(entry, Mapping)}

    top_level = set(written) - {"defaults", "hydra"}
    assert top_level | (groups & {f.name for f in fields(RunConfig)}) == {f.name for f in fields(RunConfig)}


@pytest.mark.parametrize("path", LAUNCHERS, ids=name_of)
def test_accelerate_reads_its_files(path: Path):
    """And knows every key: its loader refuses others."""
    config = load_config_from_file(str(path))

    assert isinstance(config, ClusterConfig)
    processes = {"cpu_2": 2}.get(path.stem, 8)
    assert (config.num_processes, config.num_machines, config.mixed_precision) == (processes, 1, "no")
    assert config.use_cpu == (path.stem == "cpu_2")
    kinds = {"cpu_2": "MULTI_CPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert config.distributed_type == kinds[path.stem]


@pytest.mark.parametrize("path", [*OPTIONS, *LAUNCHERS, CONF / "config.yaml"], ids=name_of)
def test_every_key_is_explained(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.stem == "config":
        lines = lines[: lines.index("hydra:")]  # not for the reader to change

    assert lines[0].startswith("# ") and lines[0].endswith(".")  # a sentence, which --help shows
    assert list(undocumented([line for line in lines if "override hydra" not in line])) == []


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
