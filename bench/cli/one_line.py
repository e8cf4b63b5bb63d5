"""What a command says where it cannot go on: one line, and the exit code that fits."""

import re
import sys
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from bench.cli.conf_dir import conf_dir
from bench.errors import ConfigError, UserError, squeezed

_EXTRAS = {"joblib": "launchers", "submitit": "launchers", "ray": "ray"}
"""Which extra of pyproject.toml brings a launcher."""


def fail(error: Exception, config_name: str, overrides: Sequence[str]) -> int:
    """Print the error as one line and return the exit code that fits.

    Args:
        config_name, overrides: what was to be composed; they tell which keys there are.
    """
    print(f"error: {one_line(error, config_name, overrides)}", file=sys.stderr)
    return exit_code(error)


def exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, UserError) else ConfigError.exit_code


def one_line(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """What is wrong and how to mend it; the arguments are those of `fail`."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}; write KEY=VALUE, and special characters in quotes: 'KEY=\"a=b\"'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if group == "hydra/launcher" and (extra := _EXTRAS.get(option.partition("_")[0])):
            return f"{group}={option} is in an extra that is not installed: pip install -e '.[{extra}]'"
        if group == "experiment" and (conf_dir() / f"{option}.yaml").is_file():
            return f"{option} is an audit: python -m bench.judge_audit experiment={option} data=PATH"
        return f"{group} has no option {option!r}; choose one of {', '.join(error.options)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=VALUE"
    if match := re.search(r"Could not override '([^']+)'", text):
        from bench.cli.bind import unknown_key

        return unknown_key(match[1], _known_keys(config_name, overrides))
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {text.splitlines()[0]}"
    return squeezed(text)


def _known_keys(config_name: str, overrides: Sequence[str]) -> list[str]:
    """Every key of the config with the groups' options that the overrides name."""
    chosen = [a for a in overrides if re.fullmatch(r"\w+=\w+", a) and (conf_dir() / a.partition("=")[0]).is_dir()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return leaves(compose(config_name, overrides=chosen))


def leaves(config: DictConfig, prefix: str = "") -> list[str]:
    """Dotted names of all keys, those of groups included."""
    keys: list[str] = []
    for name in config:
        key, node = f"{prefix}{name}", config._get_node(str(name))
        keys += [key, *(leaves(node, f"{key}.") if isinstance(node, DictConfig) else [])]
    return keys
