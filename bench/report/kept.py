"""A report that would be made again as it is stays as it is: drawing a page's figures takes seconds."""

from pathlib import Path

from bench.files import read_json, write_json
from bench.provenance import stable_hash
from bench.reach import code_key
from bench.report.render import render_run


def kept_or_rendered(run_dir: Path, notes: Path) -> Path:
    """`report.html` of the run, written where anything has changed since: a file of the run, the report's own, or
    the code that makes them.

    Args:
        notes: folder that remembers how things were; not the run folder, which may be shown and copied.

    Raises:
        RunFolderError, ResourceError: as `render_run`.
    """
    note = notes / f"{stable_hash(str(run_dir.resolve()))[:16]}.json"
    path = run_dir / "report.html"
    if path.is_file() and note.is_file() and read_json(note)["as_rendered"] == _state(run_dir):
        return path
    path = render_run(run_dir)
    write_json(note, {"as_rendered": _state(run_dir)})
    return path


def _state(run_dir: Path) -> str:
    files = sorted(path for path in run_dir.rglob("*") if path.is_file())
    stats = [(path.relative_to(run_dir).as_posix(), path.stat()) for path in files]
    return stable_hash([code_key(render_run.__module__), [(name, s.st_size, s.st_mtime_ns) for name, s in stats]])
