"""Overrides of commands whose config is not a run's: one option of conf/judge, and keys set in place."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from bench.cli.conf_dir import conf_dir
from bench.cli.one_line import leaves
from bench.errors import ConfigError


def require_one_job(overrides: Sequence[str], why: str) -> None:
    """Raise a ConfigError where a multirun is asked for."""
    if any(argument in ("-m", "--multirun") for argument in overrides):
        raise ConfigError(f"{why}; leave out -m and give one value")


def judge_arguments(arguments: Sequence[str]) -> list[str]:
    """Those of the arguments that choose or set a judge."""
    return [argument for argument in arguments if argument.partition("=")[0].split(".")[0] == "judge"]


def composed(config_name: str, judge: Sequence[str], rules: Sequence[str]) -> DictConfig:
    """conf/<config_name>.yaml with the judge that the arguments name.

    Raises:
        ConfigError: there is no such judge; names those there are, and the command's own `rules`.
    """
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(config_name, overrides=list(judge))
    except MissingConfigException as error:
        options = ", ".join([*rules, *(error.options or ())])
        raise ConfigError(f"there is no such judge ({', '.join(judge)}); choose one of {options}") from error


def override(config: DictConfig, settings: Sequence[str]) -> None:
    """Set keys in place, in Hydra's syntax. Hydra itself would take data=PATH for an option of conf/data.

    Raises:
        ConfigError: an unknown key, or anything but one new value.
        OverrideParseException: not KEY=VALUE.
    """
    known = leaves(config)
    named = [f"{key}." for key in known if OmegaConf.select(config, key) == {}]  # groups of names of one's own
    for one in OverridesParser.create().parse_overrides(list(settings)):
        key = one.key_or_group
        if key not in known and not key.startswith(tuple(named)):
            from bench.cli.bind import unknown_key

            raise ConfigError(unknown_key(key, known))
        if one.type is not OverrideType.CHANGE or one.is_sweep_override():
            raise ConfigError(f"cannot read {one.input_line!r}; write {key}=VALUE, and commas in quotes")
        OmegaConf.update(config, key, one.value(), force_add=True)


def resolved(config: DictConfig) -> dict[str, object]:
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
