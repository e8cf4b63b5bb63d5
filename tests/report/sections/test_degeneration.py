"""Completions that are no summary."""


def test_every_detector_is_shown_and_what_does_not_apply(make_run, reading):
    path = make_run()
    found = reading.metrics(path)["arms"]["dpo"]["degeneration"]
    table = reading.cells(reading.sections(path)["Degeneration"], "completions that are no summary")
    assert table["DPO",]["copies the title"] == reading.per_cent(found["title_copy"])
    assert table["DPO",]["any of these"] == reading.per_cent(found["any"])
    assert table["DPO",]["n"] == str(found["any"]["n"])
    assert table["Reference",]["cut off (no EOS)"] == "–"  # noqa: RUF001
