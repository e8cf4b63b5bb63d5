"""The command: Hydra config -> dataclasses -> run -> report. The only room that knows hydra and omegaconf."""

import difflib
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import bench
from bench.cli import sweep
from bench.cli.conf_dir import conf_dir
from bench.cli.home import at_home
from bench.cli.manual import group_pages, overview
from bench.cli.one_line import exit_code, fail, one_line
from bench.cli.settings import resolved
from bench.errors import ConfigError, ResourceError, UserError, squeezed
from bench.terminal import spoken

_CONFIG = "config"
_OPTIONS = ("-m", "--multirun", "--help", "-h", "--version")
"""Those that the manual has."""
_OF_HYDRA = (
    "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r", "--shell-completion", "-sc", "--config-path", "-cp",
    "--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--info", "-i", "--hydra-help",
)  # fmt: skip


@spoken
def main() -> int:
    """Run the command line and return the exit code."""
    # argparse, which reads Hydra's flags, finds -m before or after the overrides but not between them.
    sys.argv[1:] = sorted(at_home(sys.argv[1:]), key=lambda argument: argument not in ("-m", "--multirun"))
    arguments = sys.argv[1:]
    try:
        if "--version" in arguments:
            print(f"rlhf-vs-dpo {bench.__version__}")
            return 0
        if {"--help", "-h"} & set(arguments):
            groups = [a for a in arguments if not a.startswith("-") and "=" not in a]
            print(group_pages(conf_dir(), groups) if groups else overview(conf_dir()))
            return 0
        _require_known(arguments)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception instead of printing it in its own words
        _application()()
    except BrokenPipeError:
        raise
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return fail(error, _CONFIG, sys.argv[1:])
    except (ValueError, OSError) as error:
        if _comes_from_the_run(error):
            raise
        return fail(_refused_by_hydra(error), _CONFIG, sys.argv[1:])
    except KeyboardInterrupt:
        print(
            "interrupted; the same command goes on with the stage that was left, from its checkpoint", file=sys.stderr
        )
        return 130
    return 0


def _require_known(arguments: list[str]) -> None:
    """Refuse options that are neither ours nor Hydra's, which argparse would in a page of its own."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if argument.startswith("-") and name not in (*_OPTIONS, *_OF_HYDRA):
            near = difflib.get_close_matches(name, _OPTIONS, n=1) or ["--help"]
            raise ConfigError(f"there is no option {name} (try {near[0]}); settings are written KEY=VALUE")


def _application() -> Callable[[], None]:
    """Hydra's application."""

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=_CONFIG)
    def application(config: DictConfig) -> None:
        # Hydra announces an exception of a job in words of its own, and most launchers then end the other jobs, so what
        # the user can mend may not leave it.
        try:
            said, code = str(_run(config)), 0
        except (UserError, OmegaConfBaseException) as error:
            said, code = one_line(error, _CONFIG, sys.argv[1:]), exit_code(error)
            print(f"error: {said}", file=sys.stderr)
        if sweep.is_job():
            sweep.leave(code, said)
        elif code:
            sys.exit(code)

    return application


def _run(config: DictConfig) -> Path:
    """The path of the report."""
    from bench.cli.bind import bind, bind_early

    values = resolved(config)
    # Importing the settings of all imports torch; a slip in those of a trainer should not wait for it.
    bind_early(values)
    run_config = bind(values)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # After the config is known to be sound: the training libraries take seconds to import.
    from bench import processes
    from bench.pipeline.runner import run
    from bench.progress import say
    from bench.report.expected import against_expectation
    from bench.report.kept import kept_or_rendered
    from bench.report.summary import summary

    if sweep.is_job():
        run_config = replace(run_config, label=run_config.label or sweep.label() or None)
        say(f"{run_config.name}, seed {run_config.seed}{f', {run_config.label}' if run_config.label else ''}")
    folder = run(run_config, shlex.join(["python", "-m", "bench", *_overrides()]))
    if processes.is_main():
        report = kept_or_rendered(folder, Path(run_config.results_dir) / ".cache" / "reports")
        print(summary(folder))
        if line := against_expectation(folder):
            print(line)
        print(report)  # last: where to go on
        return report
    return folder


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
    return ConfigError(squeezed(str(error)))
