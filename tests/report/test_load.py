"""Loading a run folder."""

import os
import subprocess
import sys

import pytest

from bench import report
from bench.errors import RunFolderError
from bench.report.sections import training


def test_a_folder_that_is_no_finished_run_is_refused_in_one_line(make_run, edit, tmp_path):
    def refused(path):
        with pytest.raises(RunFolderError) as caught:
            report.load_run(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no run folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no run.json" in refused(tmp_path / "empty")

    unfinished = make_run("unfinished")
    (unfinished / "metrics.json").unlink()
    assert "not finished" in refused(unfinished)

    newer = make_run("newer")
    edit(newer / "metrics.json", lambda metrics: metrics.update(schema=3))
    assert "schema 3" in refused(newer)

    broken = make_run("broken")
    (broken / "run.json").write_text('{"schema": 1')
    assert "run.json is broken" in refused(broken)

    armless = make_run("armless")
    edit(armless / "metrics.json", lambda metrics: metrics.update(arms={}))
    assert "no arms" in refused(armless)


def test_a_broken_log_is_named(make_run):
    path = make_run()
    (path / "training" / "dpo.jsonl").write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(RunFolderError, match=r"dpo\.jsonl, line 2 is broken"):
        training.training_curves(report.load_run(path), "dpo")


def test_newest_run_is_the_one_that_finished_last(make_run, tmp_path):
    first, last = make_run("first"), make_run("last")
    os.utime(first / "metrics.json", (1_000, 1_000))
    os.utime(last / "metrics.json", (2_000, 2_000))
    assert report.newest_run(tmp_path) == last
    assert report.newest_run(tmp_path / "fixture") is None
    last.parent.rename(tmp_path / "reference")  # as a clone has them
    assert report.newest_run(tmp_path) is None


def test_a_run_is_its_folder_where_it_is_printed(make_run):
    path = make_run()
    assert repr(report.load_run(path)) == f"Run({str(path)!r})"


def test_the_report_needs_no_model_library():
    code = "import sys, bench.report.__main__; assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True)
