"""python -m bench.report."""

import pytest

from bench.report.__main__ import main

pytestmark = pytest.mark.slow  # whole pages


def test_command_renders_one_run_in_place(make_run, capsys):
    path = make_run()
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path / "report.html")
    assert (path / "report.html").is_file() and (path / "report.md").is_file()


def test_command_writes_elsewhere_when_asked(make_run, tmp_path, capsys):
    path = make_run()
    assert main([str(path), "--out", str(tmp_path / "there")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "there" / "report.html")
    assert not (path / "report.html").exists()


def test_command_compares_beside_the_experiment(make_run, tmp_path, capsys):
    folders = [str(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.1, 0.5)]
    assert main([*folders, folders[0]]) == 0  # a folder given twice is one run
    page = tmp_path / "fixture-comparison" / "report.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert "2 runs of fixture" in page.read_text(encoding="utf-8")


def test_command_answers_bad_input_with_one_line_and_its_code(make_run, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "no run folder" in captured.err

    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    assert main([str(make_run()), "--out", str(blocked)]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_command_leaves_out_runs_that_did_not_finish_and_says_so(make_run, edit, tmp_path, capsys):
    finished = [make_run(f"b{beta}", dpo_beta=beta) for beta in (0.1, 0.5)]
    killed, failed, empty = (
        make_run("killed"),
        make_run("failed"),
        tmp_path / "fixture" / "empty",
    )
    (killed / "metrics.json").unlink()
    edit(killed / "run.json", lambda run: run.update(status="running"))
    # It had finished, and its evaluation was to be made again: metrics.json is of before.
    edit(failed / "run.json", lambda run: run.update(status="failed", error="OutOfMemoryError: 2 GiB\nwere asked for"))
    empty.mkdir()

    assert main([str(folder) for folder in (empty, finished[0], killed, failed, finished[1])]) == 0

    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("skipped: ") for line in lines)
    assert f"{empty} is not a run folder" in lines[0]
    assert f"{killed} has not finished (running)" in lines[1]
    assert f"{failed} has not finished (OutOfMemoryError: 2 GiB were asked for)" in lines[2]
    page = tmp_path / "fixture-comparison" / "report.html"
    assert captured.out.strip() == str(page) and "2 runs of fixture" in page.read_text(encoding="utf-8")


def test_command_refuses_when_no_run_has_finished(make_run, tmp_path, capsys):
    folders = [make_run(name) for name in ("a", "b")]
    for folder in folders:
        (folder / "metrics.json").unlink()

    assert main([str(folder) for folder in folders]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: none of these 2 folders holds a finished run"

    assert main([str(folders[0]), str(tmp_path / "mistyped")]) == 2  # a folder that is not there is no killed run
    assert "no run folder at" in capsys.readouterr().err
