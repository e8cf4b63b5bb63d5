"""The command `python -m bench.score`: files and Hydra config -> dataclass -> scoring -> report."""

import shlex
import sys
import warnings
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bench.cli.conf_dir import conf_dir
from bench.cli.home import at_home
from bench.cli.manual import judges_page
from bench.cli.one_line import fail
from bench.cli.settings import composed, judge_arguments, override, resolved
from bench.errors import ConfigError, UserError
from bench.terminal import spoken

_CONFIG = "score"
_RULES = ("longer", "rouge")
_HEAD = """\
python -m bench.score: completions that were made elsewhere, scored like the arms of a run: win rates, head to head,
ROUGE, lengths, degeneration, paired tests, Bradley-Terry, and the report. No weights are needed; with
them, KL and rewards.

usage:
  python -m bench.score FILE [FILE ...] [judge=NAME] [columns.KEY=NAME ...] [KEY=VALUE ...]
  python -m bench.score --help [judge]      this page, or the settings of the judges

examples:
  python -m bench.score sft.jsonl ppo.jsonl dpo.jsonl                a file per arm: prompt, completion, reference
  python -m bench.score all.csv columns.arm=model columns.completion=output
  python -m bench.score all.csv columns.ratings=[score]              a reward model's scores are there: they judge
  python -m bench.score all.csv verdicts.csv                         so are verdicts: arm_a, arm_b, verdict
  python -m bench.score all.csv policy.ppo=DIR policy.dpo=DIR reference=SFT_DIR reward=DIR     KL, rewards
  python -m bench.score all.csv known_reward.scorer=my_module:MyReward      a scorer of your own, in Python
  python -m bench.score RUN/prompts.jsonl RUN/completions/*.jsonl judge=openai judge.openai.model=NAME

What the files do not say is named and has no number. The folder is <results_dir>/score/<name>, laid out as a run's; the
same command finds it again, and verdicts that were bought are not bought again. Exit code: 0 done; 2 config or files
cannot be used; 1 the machine lacks something.
"""


@spoken
def main() -> int:
    """Run the command line and return the exit code."""
    arguments = [_as_rule(argument) for argument in at_home(sys.argv[1:])]
    judge = judge_arguments(arguments)
    try:
        if {"--help", "-h"} & set(arguments):
            print(judges_page(conf_dir(), arguments, _HEAD, _CONFIG, {"longer, rouge": "rules, below"}))
            return 0
        others = [argument for argument in arguments if argument not in judge]
        files = [argument for argument in others if _is_file(argument)]
        _run(files, judge, [argument for argument in others if argument not in files])
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return fail(error, _CONFIG, judge)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the verdicts that are not there yet", file=sys.stderr)
        return 130
    return 0


def _is_file(argument: str) -> bool:
    return "=" not in argument or Path(argument).expanduser().exists()


def _as_rule(argument: str) -> str:
    """judge=rouge is short for rules=[rouge]: rules are no options of conf/judge, as no run is judged by them."""
    key, _, value = argument.partition("=")
    return f"rules=[{value}]" if key == "judge" and value in _RULES else argument


def _run(files: list[str], judge: list[str], settings: list[str]) -> None:
    if strange := [name for name in files if name.startswith("-")]:
        raise ConfigError(f"there is no option {strange[0]}; python -m bench.score --help lists the settings")
    if not files:
        raise ConfigError("name the files of completions: python -m bench.score FILE [FILE ...]; --help has examples")
    config = composed(_CONFIG, judge, _RULES)
    config.files = files
    override(config, settings)
    # Binding imports torch; --help and a mistyped option should not wait for it.
    from bench.cli.bind import bind_to
    from bench.scored.config import ScoreConfig

    score_config = bind_to(ScoreConfig, resolved(config))
    warnings.filterwarnings("ignore", category=FutureWarning)
    from bench.progress import say
    from bench.report import render_run
    from bench.report.load import load_run
    from bench.report.summary import summary
    from bench.scored.runner import score

    folder = score(score_config, shlex.join(["python", "-m", "bench.score", *sys.argv[1:]]))
    for sentence in load_run(folder).metrics["missing"]:
        say(sentence)
    report = render_run(folder)
    print(summary(folder))
    print(report)
