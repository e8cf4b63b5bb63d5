"""Resolved Hydra config -> the frozen dataclasses that the rest of the package knows."""

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bench.errors import ConfigError

if TYPE_CHECKING:
    from bench.config import RunConfig

Config = TypeVar("Config")


def bind(config: Mapping[str, Any]) -> "RunConfig":
    """The run that a plain nested mapping describes, every value checked, as in `bind_to`."""
    from bench.config import RunConfig  # brings the training libraries, which not every command needs
    from bench.tuning import drawn

    return drawn(bind_to(RunConfig, config))


def bind_early(config: Mapping[str, Any]) -> None:
    """Refuse what can be refused of trainers, model and health before the libraries are imported that a run needs.

    Raises:
        ConfigError: as `bind`, which would say the same after seconds of importing.
    """
    from bench.evaluate.best_of_n import BestOfNSettings
    from bench.models.config import ModelConfig
    from bench.train.health.settings import HealthSettings
    from bench.train.settings.dpo import DPOSettings
    from bench.train.settings.iterated_dpo import IteratedDPOSettings
    from bench.train.settings.ppo import PPOSettings
    from bench.train.settings.reward import RewardSettings
    from bench.train.settings.rloo import RLOOSettings
    from bench.train.settings.samples import SamplesSettings
    from bench.train.settings.sft import SFTSettings

    groups = {
        "model": ModelConfig,
        "sft": SFTSettings,
        "reward": RewardSettings,
        "ppo": PPOSettings,
        "dpo": DPOSettings,
        "rloo": RLOOSettings,
        "iterated_dpo": IteratedDPOSettings,
        "best_of_n": BestOfNSettings,
        "health": HealthSettings,
        "samples_in_training": SamplesSettings,
    }
    for group, cls in groups.items():
        if group in config:
            _bind(cls, config[group], f"{group}.")


def bind_to(cls: type[Config], config: Mapping[str, Any]) -> Config:
    """The settings that a plain nested mapping describes, every value checked.

    Raises:
        ConfigError: an unknown or missing key, a value of another type, or one out of range.
    """
    return _bind(cls, config, "")


def _bind(cls: type, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path.rstrip('.')} must be a group of settings, got {values!r}")
    values = getattr(cls, "before_binding", lambda values: values)(values)
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    for key in values:
        if key not in names:
            raise ConfigError(unknown_key(f"{path}{key}", [f"{path}{name}" for name in names]))
    for field in fields(cls):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{path}{field.name} must be given")
    settings = {key: _convert(hints[key], value, f"{path}{key}") for key, value in values.items()}
    try:
        return cls(**settings)
    except ConfigError as error:
        if (home := getattr(cls, "home", None)) is None:
            raise
        # Settings that may stand in several places call themselves by their usual one.
        raise ConfigError(str(error).replace(f"{home}.", path, 1)) from None


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that no setting has, with the nearest one that exists."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; python -m bench --help lists the groups"
    return f"unknown config key {key}{hint}"


def _of_kind(classes: list[Any], value: Any, path: str) -> Any:
    """Of settings of several kinds, those of the kind that the value names."""
    kinds = {cls.kind: cls for cls in classes}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if kind not in kinds:
        raise ConfigError(f"{path}.kind must be one of {', '.join(kinds)}, got {kind!r}")
    return kinds[kind]


def _convert(hint: Any, value: Any, path: str) -> Any:
    """`value` as `hint`, refusing what only looks like it (a bool for a number, a number for a text)."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return _convert(inner[0] if len(inner) == 1 else _of_kind(inner, value, path), value, path)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a group of settings, got {value!r}")
        *_, inner = arguments  # pyright: ignore[reportAssignmentType]
        return {str(key): _convert(inner, item, f"{path}.{key}") for key, item in value.items()}
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _bind(hint, value, f"{path}.")  # pyright: ignore[reportArgumentType]
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{path} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path} must be a list, got {value!r}")
        return tuple(_convert(get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{path} must be a finite number, got {value!r}")
        return float(value)
    if type(value) is not hint:
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        quoted = f"; quoted it is one: '{path}=\"{value}\"'" if hint is str and isinstance(value, (int, float)) else ""
        raise ConfigError(f"{path} must be {names[hint]}, got {value!r}{quoted}")
    return value
