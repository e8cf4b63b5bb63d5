"""The command: Hydra config -> dataclasses -> run -> report. The only room that knows hydra and omegaconf."""

import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable

import hydra
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.cli.conf_dir import conf_dir
from bench.cli.manual import group_pages, overview
from bench.errors import ConfigError, UserError


def main() -> int:
    """Run the command line and return the exit code."""
    arguments = sys.argv[1:]
    try:
        if {"--help", "-h"} & set(arguments):
            groups = [a for a in arguments if not a.startswith("-")]
            print(group_pages(conf_dir(), groups) if groups else overview(conf_dir()))
            return 0
        os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception instead of printing it in its own words
        _application()()
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        return _fail(_in_one_line(error), ConfigError.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on with the first stage that is not finished", 130)
    return 0


def _application() -> Callable[[], None]:
    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    def application(config: DictConfig) -> None:
        # Hydra announces an exception of a job in words of its own, so none may leave it.
        try:
            _run(config)
        except UserError as error:
            sys.exit(_fail(str(error), error.exit_code))

    return application


def _run(config: DictConfig) -> None:
    # Importing the settings imports torch; --help should not wait for it.
    from bench.cli.bind import bind

    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    run_config = bind({str(key): value for key, value in resolved.items()})
    warnings.filterwarnings("ignore", category=FutureWarning)
    # After the config is known to be sound: the training libraries take seconds to import.
    from bench.pipeline.runner import run
    from bench.report import render_run
    from bench.report.summary import summary

    folder = run(run_config, "python -m bench " + shlex.join(_overrides()))
    report = render_run(folder)
    print(summary(folder))
    print(report)


def _overrides() -> list[str]:
    """This job's own overrides: in a multirun, one job's values and not the sweep's."""
    return list(hydra.core.hydra_config.HydraConfig.get().overrides.task)


def _in_one_line(error: Exception) -> str:
    text = str(error)
    from bench.cli.bind import unknown_key

    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1], _known_keys())
    return " ".join(text.split())


def _known_keys() -> list[str]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return _leaves(compose("config"))


def _leaves(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in config:
        key, node = f"{prefix}{name}", config._get_node(str(name))
        keys += [key, *(_leaves(node, f"{key}.") if isinstance(node, DictConfig) else [])]
    return keys


def _fail(message: str, exit_code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return exit_code
