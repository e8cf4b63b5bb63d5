"""The command `python -m bench.plan`: the overrides of `python -m bench` in, the run's plan out; nothing is trained."""

import sys
import warnings
from collections.abc import Iterable

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bench.cli.conf_dir import conf_dir
from bench.cli.home import at_home
from bench.cli.one_line import fail
from bench.cli.settings import require_one_job, resolved
from bench.errors import ConfigError, UserError
from bench.terminal import spoken

_CONFIG = "config"
_OWN = "plan."
_SETTINGS = {"hardware": "here", "measure": "true"}
_MANUAL = """\
python -m bench.plan: what a run will take, before anything of it starts: by stage the time on one device, device-hours,
peak memory, disk and FLOPs, and what judges that are asked will be asked, in tokens and money. What the cache already
holds is taken off.

usage:
  python -m bench.plan [GROUP=OPTION ...] [KEY=VALUE ...]     as for python -m bench, whose --help lists them
      plan.hardware=NAME    here (as it is), or an accelerator that is not: a100_sxm, h100_sxm, h100_pcie, l4, rtx_4090,
                            mi300x (h100 is short for h100_sxm). Its time is FLOPs over an assumed share of its peak
                            (cost.projected_mfu), which is printed
      plan.measure=false    measure nothing here; assume a share of the fastest matrix products instead

examples:
  python -m bench.plan
  python -m bench.plan experiment=tldr_real data.root=PATH
  python -m bench.plan experiment=nplus_pythia_1b plan.hardware=h100
  python -m bench.plan judge=openai judge.openai.price_per_million_prompt_tokens=0.15

A few steps of the model are measured on this machine, seconds on a GPU, minutes for 135M parameters on two cores, and
kept in <results_dir>/.cache/forecast for the next plan. On one thread of a CPU the time is processor time: on a busy
machine a run takes longer. Of judges behind an endpoint no key is needed. A run that cannot fit into memory is refused,
with the nearest that does. Exit code: 0 there is a plan; 2 config or data cannot be used; 1 the machine lacks
something, such as memory.
"""


@spoken
def main() -> int:
    """Run the command line and return the exit code."""
    arguments = at_home(sys.argv[1:])
    if {"--help", "-h"} & set(arguments):
        print(_MANUAL)
        return 0
    overrides = [argument for argument in arguments if not argument.startswith(_OWN)]
    try:
        _run(overrides, _own(argument for argument in arguments if argument.startswith(_OWN)))
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return fail(error, _CONFIG, overrides)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _own(arguments: Iterable[str]) -> dict[str, str]:
    """The plan's own settings, which are no run's."""
    found = dict(_SETTINGS)
    for argument in arguments:
        key, _, value = argument.removeprefix(_OWN).partition("=")
        if key not in found:
            raise ConfigError(f"unknown config key {_OWN}{key}; the plan's own are plan.hardware and plan.measure")
        found[key] = value
    if found["measure"] not in ("true", "false"):
        raise ConfigError(f"plan.measure must be true or false, got {found['measure']!r}")
    return found


def _run(overrides: list[str], own: dict[str, str]) -> None:
    require_one_job(overrides, "a plan is of one run")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(_CONFIG, overrides=overrides)
    # Binding imports torch; --help and a mistyped option should not wait for it.
    from bench.cli.bind import bind

    run_config = bind(resolved(config))
    warnings.filterwarnings("ignore", category=FutureWarning)
    from bench.forecast.table import one_line, table
    from bench.pipeline.dry_run import dry_run

    ahead = dry_run(run_config, own["hardware"], measures=own["measure"] == "true")
    print(table(ahead.plan))
    print()
    print(one_line(ahead.plan))
    ahead.require_fit()
