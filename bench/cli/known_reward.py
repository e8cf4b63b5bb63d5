"""The command `python -m bench.known_reward`: the overrides of a controlled run in, its reward's ranking out."""

import sys
import warnings
from pathlib import Path

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
_MANUAL = """\
python -m bench.known_reward: is a known reward fit to be the truth of a controlled run (data=controlled)? Prints, as a
Markdown table, what it says of people's summaries, of those that the files' pairs hold against them, and of policies
that need no model; and how often it follows the files' labels. On training and validation posts; nothing is trained.

usage:
  python -m bench.known_reward [GROUP=OPTION ...] [KEY=VALUE ...]     as for python -m bench

examples:
  python -m bench.known_reward experiment=tldr_controlled data.root=PATH
  python -m bench.known_reward experiment=tldr_controlled data.root=PATH data.reward.settings.copy_weight=0.3
  python -m bench.known_reward experiment=tldr_controlled data.root=PATH data.reward.scorer=my_module:MyReward \\
    '~data.reward.settings' '+data.reward.settings={}'
Exit code: 0 there is a table; 2 config or data cannot be used; 1 the machine lacks something, such as the encoder.
"""


@spoken
def main() -> int:
    """Run the command line and return the exit code."""
    arguments = at_home(sys.argv[1:])
    if {"--help", "-h"} & set(arguments):
        print(_MANUAL)
        return 0
    try:
        _run(arguments)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return fail(error, _CONFIG, arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _run(overrides: list[str]) -> None:
    require_one_job(overrides, "a ranking is of one reward")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(_CONFIG, overrides=overrides)
    # Binding imports torch; --help and a mistyped option should not wait for it.
    from bench.cli.bind import bind

    run = bind(resolved(config))
    warnings.filterwarnings("ignore", category=FutureWarning)
    from bench.audit.known_reward import ranking, table
    from bench.data import ControlledConfig

    if not isinstance(run.data, ControlledConfig):
        raise ConfigError(f"data.kind is {run.data.kind!r}, which has no known reward to rank by; use data=controlled")
    cache_dir = Path(run.results_dir) / ".cache"
    print(table(ranking(run.data, cache_dir, run.seed, run.evaluation.bootstrap_resamples)))
