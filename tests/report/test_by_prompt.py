"""Run folders without verdicts: the browser of samples still says who won, from by_prompt.json."""

import shutil

from bench import report
from bench.report.browser import coldest, samples
from bench.report.sections.missing import missing


def outcomes(run, reading):
    """judge, duel, prompt -> what its letters say over both orders, as the browser reads them."""
    data = reading.as_read(samples(run, coldest(run)).json)
    found = {}
    for sample in data["samples"]:
        for judge, letters in zip(data["judges"], sample["verdicts"], strict=True):
            for place, (a, b) in enumerate(data["duels"]):
                shown = set(letters[2 * place : 2 * place + 2]) - {"."}
                duel = data["writers"][a], data["writers"][b]
                outcome = "u" if "u" in shown else next(iter(shown)) if len(shown) == 1 else "t"
                found[judge, duel, sample["id"]] = outcome
    return found


def test_what_was_said_over_both_orders_is_shown_without_verdicts(make_run, reading):
    run = report.load_run(make_run())
    whole = outcomes(run, reading)
    assert {"a", "b"} <= set(whole.values())

    shutil.rmtree(run.path / "verdicts")
    lean = report.load_run(run.path)

    assert outcomes(lean, reading) == whole
    (said,) = (line for line in missing(lean) if line.startswith("verdicts/"))
    assert said.endswith("samples are shown with what by_prompt.json has, both orders as one")
    (run.path / "by_prompt.json").unlink()
    assert outcomes(report.load_run(run.path), reading) == {}
