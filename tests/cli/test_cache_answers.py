"""`python -m bench.cache answers`: what judges have answered, and what is dropped of it."""

from pathlib import Path

import pytest

from bench.cli.cache import main
from bench.evaluate.judges.cache import Answer, VerdictCache, verdict_cache

KEPT = [
    ("simple", "text", Answer("Preferred: A")),
    ("simple", "text", Answer("Preferred: tie")),
    ("simple", "text", Answer("Preferred: B", "cut_off")),
    ("simple", "text", Answer("No.", "refused")),
    ("ties", "text_or_tie", Answer("Preferred: tie")),
    ("local", "log_odds", Answer("-0.25")),
    ("local", "log_odds", Answer("nan")),
]


@pytest.fixture
def cache(tmp_path: Path) -> VerdictCache:
    cache = VerdictCache(verdict_cache(tmp_path / ".cache"))
    for i, (judge, reading, answer) in enumerate(KEPT):
        tokens = {"prompt_tokens": 100, "completion_tokens": 7}
        cache.put(f"key{i}", answer, judge=judge, prompt_hash="h", reading=reading, **tokens)  # pyright: ignore
    return cache


def test_what_is_kept(cache: VerdictCache, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["answers", str(tmp_path)]) == 0

    path, *lines = capsys.readouterr().out.splitlines()
    assert path == str(cache.path)
    assert [line.split() for line in lines] == [
        [*"judge prompt answers unparsed cut off refused filtered unfinished unknown tokens".split()],
        ["local", "h", "2", "1", "0", "0", "0", "0", "0", "214"],
        ["simple", "h", "4", "3", "1", "1", "0", "0", "0", "428"],
        ["ties", "h", "1", "0", "0", "0", "0", "0", "0", "107"],
    ]
    assert len(list(cache.rows())) == len(KEPT)


def test_unparsed_answers_are_dropped(cache: VerdictCache, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["answers", str(tmp_path), "--drop-unparsed", "--judge", "simple"]) == 0
    assert capsys.readouterr().out.endswith("dropped 3 unparsed answers\n")
    assert [row.key for row in cache.rows()] == ["key0", "key4", "key5", "key6"]

    assert (
        main(["answers", str(tmp_path), "--drop-unparsed"]) == main(["answers", str(tmp_path), "--drop-unparsed"]) == 0
    )
    assert capsys.readouterr().out.endswith("dropped 0 unparsed answers\n")
    assert [row.key for row in cache.rows()] == ["key0", "key4", "key5"]


def test_no_cache_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["answers", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path}/.cache/verdicts/answers.sqlite is not there: no judge"
    )
    assert list(tmp_path.iterdir()) == []
