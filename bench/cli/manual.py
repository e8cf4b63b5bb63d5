"""`--help`: the manual, made from the config files themselves, so that it cannot be out of date."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import arms
from bench.errors import ConfigError

_HEAD = """\
python -m bench: RLHF (reward model + PPO) against DPO, from one SFT model, scored by one evaluator.

usage:
  python -m bench [GROUP=OPTION ...] [KEY=VALUE ...]
  python -m bench -m KEY=VALUE,VALUE ...      one run per combination (Hydra multirun)
  python -m bench --help [GROUP ...]          this page, or the settings of a group with their comments
  python -m bench.plan [GROUP=OPTION ...] [KEY=VALUE ...]   what a run will take, before it starts
  python -m bench.report RUN [RUN ...]        the report of a finished run again, or a comparison of several
  python -m bench.cache --help                finished stages: list, verify, prune
  python -m bench.score FILE [FILE ...]       completions that were made elsewhere, scored like arms
  python -m bench.judge_audit --help          how far a judge agrees with people's labels
  python -m bench.known_reward --help         what a known reward says of people and of policies that need no model
  python -m bench --version

examples:
  python -m bench                                     the built-in comparison
  python -m bench seed=1 dpo.beta=0.5                 another seed, another beta
  python -m bench experiment=builtin_overoptimisation PPO without its KL pull
  python -m bench data=one_file data.columns.post=article data.columns.chosen=better data.columns.rejected=worse \\
      model=smollm2_135m_wheel judge=reward_model     your own pairs.csv: split, trained on and reported
  python -m bench -m name=beta dpo.beta=0.05,0.1,0.5  a sweep; the SFT model is trained once

A finished run is found again by the same command and not repeated; finished stages are shared between runs through
<results_dir>/.cache. Exit code: 0 done; 2 config or data cannot be used; 1 the machine lacks something.
"""


def overview(conf: Path) -> str:
    """Usage, the arms and their stages, the top-level keys, and every group's options with a line on each."""
    lines = [_HEAD, "arms:", "", *(f"  {arm.name:<24} {arm.what}" for arm in arms.ARMS)]
    lines += ["", "stages, each with those that it is built from:", "", *(f"  {line}" for line in arms.graph())]
    lines += ["", "settings (conf/config.yaml):", ""]
    lines += [f"  {line}" for line in (conf / "config.yaml").read_text(encoding="utf-8").splitlines()]
    lines += ["", "groups and their options:", ""]
    for group in _groups(conf):
        lines.append(f"  {group.name}")
        for option in options(group):
            lines.append(f"    {option.stem:<22} {first_comment(option)}")
    return "\n".join(lines)


def group_pages(conf: Path, groups: list[str]) -> str:
    """The files of the groups, word for word: their comments are the manual.

    A group's default, which has every setting, comes first; the others state what they set otherwise.

    Raises:
        ConfigError: there is no such group.
    """
    pages = []
    for group in groups:
        files = options(conf / group)
        if not files:
            known = ", ".join(path.name for path in _groups(conf))
            raise ConfigError(f"no group {group!r}; the groups are {known}")
        pages += [f"=== {group}={file.stem} ===\n{file.read_text(encoding='utf-8')}" for file in files]
    return "\n".join(pages)


def judges_page(conf: Path, arguments: Sequence[str], head: str, config_name: str, rules: Mapping[str, str]) -> str:
    """The manual of a command whose config is conf/<config_name>.yaml and a judge's; `rules` judge there too. The
    judges' settings where the arguments name them."""
    if "judge" in arguments:
        return group_pages(conf, ["judge"])
    lines = [head, "judges (judge=NAME):", ""]
    lines += [f"  {name:<22} {sentence}" for name, sentence in rules.items()]
    lines += [f"  {option.stem:<22} {first_comment(option)}" for option in options(conf / "judge")]
    lines += ["", f"settings (conf/{config_name}.yaml):", ""]
    lines += [f"  {line}" for line in (conf / f"{config_name}.yaml").read_text(encoding="utf-8").splitlines()]
    return "\n".join(lines)


def options(group: Path) -> list[Path]:
    """The files of a group, the one that explains every setting first."""
    return sorted(group.glob("*.yaml"), key=lambda path: (path.stem != "default", path.stem))


def _groups(conf: Path) -> list[Path]:
    """Groups of settings; `accelerate` holds the launcher's own files."""
    return sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "accelerate")


def first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""
