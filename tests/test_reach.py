"""The code that can change a stage, and no more."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import reach
from bench.arms import STAGES
from bench.reach import code_key, packages, reached

SOURCES = {
    "__init__.py": '__version__ = "1"',
    "ops.py": "import torch",
    "losses.py": "from bench.ops import masked_mean",
    "train/__init__.py": "",
    "train/ppo.py": "def f():\n    import bench.losses",
    "train/dpo.py": """
        from typing import TYPE_CHECKING
        from bench import ops
        if TYPE_CHECKING:
            from bench.report.page import Page
    """,
    "judges/__init__.py": "",
    "judges/ask.py": "import pandas",
    "judges/prompts/simple.txt": "Which is better?",
    "report/__init__.py": "",
    "report/page.py": "import matplotlib",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A small package in the place of ours; write(name, source) edits it."""
    root = tmp_path / "bench"

    def write(name: str, source: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(source))
        for function in (code_key, reached, packages, reach._imports):
            function.cache_clear()

    monkeypatch.setattr(reach, "_ROOT", root)
    for name, source in SOURCES.items():
        write(name, source)
    yield write
    for function in (code_key, reached, packages, reach._imports):
        function.cache_clear()


def names(module: str) -> list[str]:
    return [path.relative_to(reach._ROOT).as_posix() for path in reached(module)]


def test_imports_inside_functions_are_followed_and_those_for_the_type_checker_are_not(package):
    assert names("bench.train.ppo") == ["train/ppo.py", "losses.py", "ops.py", "train/__init__.py"]
    assert names("bench.train.dpo") == ["train/dpo.py", "ops.py", "train/__init__.py"]


def test_data_files_beside_a_module_are_its_source(package):
    assert names("bench.judges.ask") == ["judges/ask.py", "judges/__init__.py", "judges/prompts/simple.txt"]


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("ops.py", {"bench.train.ppo", "bench.train.dpo"}),
        ("losses.py", {"bench.train.ppo"}),
        ("train/ppo.py", {"bench.train.ppo"}),
        ("judges/prompts/simple.txt", {"bench.judges.ask"}),
        ("report/page.py", set()),
        ("__init__.py", set()),  # a release
    ],
)
def test_a_comment_changes_the_keys_of_what_can_run_it(edited: str, changed: set[str], package):
    modules = ("bench.train.ppo", "bench.train.dpo", "bench.judges.ask")
    before = {module: code_key(module) for module in modules}

    package(edited, SOURCES[edited] + "\n# a comment")

    assert {module for module in modules if code_key(module) != before[module]} == changed


def test_the_version_of_a_package_counts_where_it_is_imported(package, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reach.metadata, "packages_distributions", lambda: {"torch": ["torch"], "pandas": ["pandas"]})
    monkeypatch.setattr(reach.metadata, "version", lambda name: {"torch": "1", "pandas": "1"}[name])
    before = {module: code_key(module) for module in ("bench.train.dpo", "bench.judges.ask")}
    assert packages("bench.train.dpo") == {"torch": "1"}

    monkeypatch.setattr(reach.metadata, "version", lambda name: {"torch": "1", "pandas": "2"}[name])
    code_key.cache_clear()
    packages.cache_clear()

    assert code_key("bench.train.dpo") == before["bench.train.dpo"]
    assert code_key("bench.judges.ask") != before["bench.judges.ask"]


def ours(module: str) -> set[str]:
    return {path.relative_to(reach._ROOT).as_posix() for path in reached(module)}


def test_no_stage_reaches_the_evaluators_statistics_the_report_or_another_methods_trainer():
    of_others = {
        "sft": {"train/ppo.py", "train/dpo.py", "train/reward.py", "train/rloo.py"},
        "dpo": {"train/ppo.py", "train/sft.py", "train/reward.py", "train/rloo.py"},
        "ppo": {"train/dpo.py", "train/sft.py", "train/rloo.py"},
        "iterated_dpo": {"train/ppo.py", "train/sft.py", "train/rloo.py"},
    }
    for stage in STAGES:
        files = ours(stage.module)
        assert not [name for name in files if name.startswith(("report/", "cli/", "pipeline/", "audit/", "perf/"))]
        assert not files & {"evaluate/rouge.py", "evaluate/statistics.py", "evaluate/win_rate.py", "config.py"}
        assert not files & of_others.get(stage.name, set())
        assert "pandas" not in packages(stage.module) and "torch" in packages(stage.module)


def test_the_evaluators_key_sees_its_statistics_and_prompts_and_no_trainer():
    files = ours("bench.pipeline.evaluation")

    assert {"evaluate/rouge.py", "evaluate/statistics.py", "evaluate/judges/prompts/simple.txt"} <= files
    assert not [name for name in files if name.startswith(("train/", "stages/"))]
