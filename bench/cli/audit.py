"""The command `python -m bench.judge_audit`: Hydra config -> dataclass -> audit."""

import shlex
import sys
import warnings

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bench.audit.rules import RULES
from bench.cli.conf_dir import conf_dir
from bench.cli.home import at_home
from bench.cli.manual import judges_page
from bench.cli.one_line import fail
from bench.cli.settings import composed, judge_arguments, override, resolved
from bench.errors import ConfigError, UserError
from bench.terminal import spoken

_CONFIG = "audit"
_EXPERIMENTS = ("judge_agreement",)
"""Configs in conf that build on it."""
_HEAD = """\
python -m bench.judge_audit: how far a judge agrees with labelled pairs, and how far judge and labels lean to the
summary shown first and to the longer one.

usage:
  python -m bench.judge_audit data=PATH [judge=NAME] [KEY=VALUE ...]
  python -m bench.judge_audit --help [judge]      this page, or the settings of the judges

examples:
  python -m bench.judge_audit data=labels.csv                             the labels: biases, annotators' agreement
  python -m bench.judge_audit data=tldr/preferences judge=longer          would "the longer wins" do as well?
  python -m bench.judge_audit data=labels.csv judge=column columns.judge=gpt4_verdict
  python -m bench.judge_audit data=labels.csv judge=openai judge.openai.model=NAME
  python -m bench.judge_audit experiment=judge_agreement data=labels.csv    two prompts of one judge, people, each other

Prints its tables and writes them, the numbers (audit.json) and the verdicts to <results_dir>/audit/<name>. The same
command finds the same folder; verdicts that were bought are not bought again. Exit code: 0 done; 2 config or data
cannot be used; 1 the machine lacks something.
"""


@spoken
def main() -> int:
    """Run the command line and return the exit code."""
    arguments = [_as_rule(argument) for argument in at_home(sys.argv[1:])]
    judge, name = judge_arguments(arguments), _CONFIG
    try:
        name, arguments = _experiment(arguments)
        if {"--help", "-h"} & set(arguments):
            print(judges_page(conf_dir(), arguments, _HEAD, _CONFIG, RULES))
            return 0
        _run(name, judge, [argument for argument in arguments if argument not in judge])
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return fail(error, name, judge)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the verdicts that are not there yet", file=sys.stderr)
        return 130
    return 0


def _as_rule(argument: str) -> str:
    """judge=longer is short for rule=longer: rules are no options of conf/judge, as no run is judged by them."""
    key, _, value = argument.partition("=")
    return f"rule={value}" if key == "judge" and value in RULES else argument


def _experiment(arguments: list[str]) -> tuple[str, list[str]]:
    """The config that is named, and the other arguments.

    Raises:
        ConfigError: there is no such experiment here.
    """
    named = [argument for argument in arguments if argument.startswith("experiment=")]
    name = named[-1].partition("=")[2] if named else _CONFIG
    if named and name not in _EXPERIMENTS:
        raise ConfigError(f"{named[-1]} is no audit; choose one of {', '.join(_EXPERIMENTS)}")
    return name, [argument for argument in arguments if argument not in named]


def _run(name: str, judge: list[str], settings: list[str]) -> None:
    config = composed(name, judge, list(RULES))
    override(config, settings)
    # Binding imports torch; --help and a mistyped option should not wait for it.
    from bench.audit.config import AuditConfig
    from bench.cli.bind import bind_to

    audit_config = bind_to(AuditConfig, resolved(config))
    warnings.filterwarnings("ignore", category=FutureWarning)
    from bench.audit.runner import audit

    folder = audit(audit_config, shlex.join(["python", "-m", "bench.judge_audit", *sys.argv[1:]]))
    print((folder / "report.md").read_text(encoding="utf-8"))
    print(folder / "report.md")
