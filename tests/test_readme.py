"""What stands beside the code says what the code says."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from bench import __version__
from bench.arms import ARMS, REFERENCE
from bench.cli.bind import bind
from bench.cli.conf_dir import conf_dir
from bench.cli.settings import resolved

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "conf/README.md", "results/FINDINGS.md", "results/READING.md", "results/README.md",
         "results/perf/README.md", "conf/hydra/launcher/README.md", "CONTRIBUTING.md"]  # fmt: skip


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """The words of every command in the page's blocks of code, without comments and what is set before it."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL))
    lines = [shlex.split(line, comments=True) for line in blocks.replace("\\\n", " ").splitlines()]
    return [[word for word in line if not re.fullmatch(r"[A-Z_]+=.*", word)] for line in lines if line]


RUNS = sorted(
    {
        shlex.join(words[words.index("bench") + 1 :])
        for page in PAGES
        for words in commands(page)
        if words[0] in ("python", "accelerate") and "bench" in words and "--help" not in words
    }
)
"""What follows `python -m bench`, on every page."""


def test_the_readme_is_short():
    assert len(read("README.md").split()) < 1000


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", read(page)) if not link.startswith("http")]

    for link in links:
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if heading:
            text = target.read_text(encoding="utf-8")
            titles = [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in re.findall(r"^#+ (.+)$", text, re.M)]
            assert heading in titles, link


@pytest.mark.parametrize("arguments", RUNS)
def test_a_command_that_is_shown_binds(arguments: str):
    """Its settings are those there are, with values that they can have; of a sweep, the first of each."""
    words = [word for word in shlex.split(arguments) if word != "-m" and not word.startswith("hydra")]
    first = [re.sub(r"^([^'\"\[{=]+=[^'\"\[{,]+),[^=]*$", r"\1", word) for word in words]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=first)

    assert bind(resolved(config)).name


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_run_are_there(page: str):
    modules = {words[2] for words in commands(page) if words[:2] == ["python", "-m"]}

    assert all(find_spec(module) for module in modules), modules


def test_the_readmes_table_of_arms_is_the_table():
    _, _, compared = read("README.md").partition("## What is compared")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", compared.partition("## ")[0], re.MULTILINE)

    assert rows[:-1] == [(arm.name, arm.what) for arm in ARMS]
    assert rows[-1][0] == REFERENCE


def test_every_experiment_that_is_named_is_there():
    _, _, after = read("conf/README.md").partition("## Experiments")
    named = re.findall(r"^\| `(\w+)` \|", after.partition("\n\n##")[0], re.MULTILINE)

    assert named and {f"{name}.yaml" for name in named} <= {path.name for path in (ROOT / "conf/experiment").iterdir()}


def test_the_newest_version_of_the_changelog_and_the_citation_are_the_packages():
    version, date = re.findall(r"^## \[(\d\S*)\] - (\S+)$", read("CHANGELOG.md"), re.MULTILINE)[0]
    citation = yaml.safe_load(read("CITATION.cff"))

    assert (version, date) == (citation["version"], citation["date-released"])
    assert version == __version__


def test_the_oldest_trl_that_is_allowed_is_the_one_that_is_tested():
    (tested,) = re.findall(r"^OLDEST_TRL := (\S+)$", read("Makefile"), re.MULTILINE)
    (allowed,) = re.findall(r'"trl>=([\d.]+),', read("pyproject.toml"))

    assert tested == f"{allowed}.0"


def test_every_make_target_that_is_named_is_there():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = {
        target
        for name in ("README.md", "CONTRIBUTING.md", ".ci/run")
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", read(name), re.MULTILINE)
    }

    assert named and named <= targets
