"""The command: Hydra config -> dataclasses -> run -> report. The only room that knows hydra and omegaconf."""

import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from bench.cli.conf_dir import conf_dir
from bench.cli.manual import group_pages, overview
from bench.errors import ConfigError, ResourceError, UserError


def main() -> int:
    """Run the command line and return the exit code."""
    # argparse, which reads Hydra's flags, finds -m before or after the overrides but not between them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    arguments = sys.argv[1:]
    try:
        if {"--help", "-h"} & set(arguments):
            groups = [a for a in arguments if not a.startswith("-") and "=" not in a]
            print(group_pages(conf_dir(), groups) if groups else overview(conf_dir()))
            return 0
        os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception instead of printing it in its own words
        _application()()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return _fail(error)
    except (ValueError, OSError) as error:
        if _comes_from_the_run(error):
            raise
        return _fail(_refused_by_hydra(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the first stage that is not finished", file=sys.stderr)
        return 130
    return 0


def _application() -> Callable[[], None]:
    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    def application(config: DictConfig) -> None:
        # Hydra announces an exception of a job in words of its own, so what the user can mend may not leave it.
        try:
            _run(config)
        except (UserError, OmegaConfBaseException) as error:
            sys.exit(_fail(error))

    return application


def _run(config: DictConfig) -> None:
    # Importing the settings imports torch; --help should not wait for it.
    from bench.cli.bind import bind

    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    run_config = bind({str(key): value for key, value in resolved.items()})
    warnings.filterwarnings("ignore", category=FutureWarning)
    # After the config is known to be sound: the training libraries take seconds to import.
    from bench.pipeline.runner import run
    from bench.report import render_run
    from bench.report.summary import summary

    folder = run(run_config, shlex.join(["python", "-m", "bench", *_overrides()]))
    report = render_run(folder)
    print(summary(folder))
    print(report)


def _overrides() -> list[str]:
    """This job's own overrides: in a multirun, one job's values and not the sweep's."""
    return list(HydraConfig.get().overrides.task)


def _comes_from_the_run(error: Exception) -> bool:
    """Whether the error was raised below `_run` and not by Hydra on its way there."""
    return any(frame.f_code is _run.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _refused_by_hydra(error: ValueError | OSError) -> UserError:
    """What Hydra's own ValueError (dpo=3) or OSError (the folder of a sweep) means to the user."""
    if isinstance(error, OSError):
        return ResourceError(f"cannot write {error.filename}: {error.strerror}; choose another results_dir")
    return ConfigError(_squeezed(str(error)))


def _fail(error: Exception) -> int:
    """Print the error as one line and return the exit code that fits."""
    print(f"error: {_in_one_line(error)}", file=sys.stderr)
    return error.exit_code if isinstance(error, UserError) else ConfigError.exit_code


def _in_one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}; write KEY=VALUE, and special characters in quotes: 'KEY=\"a=b\"'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group} has no option {option!r}; choose one of {', '.join(error.options)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=VALUE"
    if match := re.search(r"Could not override '([^']+)'", text):
        from bench.cli.bind import unknown_key

        return unknown_key(match[1], _known_keys())
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {text.splitlines()[0]}"
    return _squeezed(text)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _known_keys() -> list[str]:
    """Every key of the config with the groups' options that the command line names."""
    chosen = [a for a in sys.argv[1:] if re.fullmatch(r"\w+=\w+", a) and (conf_dir() / a.partition("=")[0]).is_dir()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return _leaves(compose("config", overrides=chosen))


def _leaves(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in config:
        key, node = f"{prefix}{name}", config._get_node(str(name))
        keys += [key, *(_leaves(node, f"{key}.") if isinstance(node, DictConfig) else [])]
    return keys
