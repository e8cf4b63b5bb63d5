"""A report is written again where the run, the report or the code has changed, and only there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.report import kept
from bench.report.kept import kept_or_rendered


@pytest.fixture
def times_rendered(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that were rendered, by a stand-in that is quick."""
    rendered: list[Path] = []

    def render(run_dir: Path) -> Path:
        rendered.append(run_dir)
        (run_dir / "figures").mkdir(exist_ok=True)
        for name in ("report.md", "report.html", "figures/a.svg"):
            (run_dir / name).write_text(f"{name} of this run", encoding="utf-8")
        return run_dir / "report.html"

    render.__module__ = kept.render_run.__module__
    monkeypatch.setattr(kept, "render_run", render)
    return rendered


def test_a_report_that_is_as_it_would_be_is_not_made_again(
    make_run: Callable[..., Path], tmp_path: Path, times_rendered: list[Path]
):
    run = make_run()
    path = kept_or_rendered(run, tmp_path / "notes")
    page = path.read_bytes()

    assert kept_or_rendered(run, tmp_path / "notes") == path and len(times_rendered) == 1
    assert path.read_bytes() == page


@pytest.mark.parametrize("change", ["metrics.json", "report.html", "report.md", "code", "figures"])
def test_what_has_changed_is_made_again(
    change: str,
    make_run: Callable[..., Path],
    tmp_path: Path,
    times_rendered: list[Path],
    monkeypatch: pytest.MonkeyPatch,
):
    run = make_run()
    page = kept_or_rendered(run, tmp_path / "notes").read_bytes()
    if change == "code":
        monkeypatch.setattr(kept, "code_key", lambda module: "other code")
    elif change == "figures":
        next((run / "figures").iterdir()).unlink()
    else:
        with (run / change).open("a", encoding="utf-8") as file:
            file.write("\n")

    assert kept_or_rendered(run, tmp_path / "notes").read_bytes() == page
    assert len(times_rendered) == 2
    assert kept_or_rendered(run, tmp_path / "notes").read_bytes() == page and len(times_rendered) == 2
