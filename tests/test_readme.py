"""What stands beside the code says what the code says."""

import re
from pathlib import Path

import yaml

from bench import __version__
from bench.arms import ARMS, REFERENCE

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readmes_table_of_arms_is_the_table():
    _, _, compared = read("README.md").partition("## What is compared")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", compared.partition("## ")[0], re.MULTILINE)

    assert rows[:-1] == [(arm.name, arm.what) for arm in ARMS]
    assert rows[-1][0] == REFERENCE


def test_every_experiment_that_the_readme_names_is_there():
    _, _, after = read("README.md").partition("**Experiments**")
    named = re.findall(r"^\| `(\w+)` \|", after.partition("\n\n**")[0], re.MULTILINE)

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
