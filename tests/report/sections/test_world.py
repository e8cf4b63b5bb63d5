"""How much room the built-in world leaves."""


def test_room_is_shown_with_its_intervals(make_run, edit, reading):
    path = make_run()
    room = {
        "headroom": 0.31,
        "headroom_ci95": [0.25, 0.38],
        "headroom_from_empty": 0.4,
        "headroom_from_empty_ci95": None,
    }
    edit(path / "metrics.json", lambda metrics: metrics["world"].update(room))
    shown = str(reading.sections(path)["Built-in world"])

    assert "0.310 [0.250, 0.380]" in shown and "(best - SFT) / (best - empty)" in shown and "0.400" in shown
