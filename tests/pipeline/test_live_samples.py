"""Samples judged as they are taken: the same numbers as the evaluation's, and nothing of the run hangs on them."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.config import RunConfig
from bench.errors import ResourceError
from bench.evaluate.judges.config import JudgeConfig
from bench.files import read_json
from bench.pipeline import live
from bench.pipeline.runner import run
from bench.train.settings.samples import SamplesSettings

WATCHED = SamplesSettings(points=2, prompts=3)


@pytest.mark.long
def test_they_are_shown_with_the_numbers_that_the_evaluation_finds(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shown = defaultdict(list)
    log = lambda stage, step, numbers: shown[stage].append({"step": step, **numbers})  # noqa: E731
    monkeypatch.setitem(live._STARTED, "tensorboard", lambda *_: (log, lambda: None))
    monkeypatch.setattr(live, "find_spec", lambda name: True)
    folder = run(make_config(report_to="tensorboard", samples_in_training=WATCHED), "the command")

    metrics = read_json(folder / "metrics.json")["in_training"]
    for arm in ("ppo", "dpo"):
        points = metrics[arm]["points"]
        assert [row["step"] for row in shown[f"{arm}_samples"]] == [point["step"] for point in points]
        for row, point in zip(shown[f"{arm}_samples"], points, strict=True):
            assert row["kl_ref"] == pytest.approx(point["kl_ref"]["value"], abs=1e-9)
            assert row["length_tokens"] == pytest.approx(point["length_tokens"]["value"])
            assert 0 <= row["finished"] <= 1
            assert row["gold"] == pytest.approx(point["reward"]["gold"]["value"])
            assert {f"win_rate_{judge}" for judge in point["win_rate"]} == {k for k in row if k.startswith("win_")}
            for judge, share in point["win_rate"].items():
                assert row[f"win_rate_{judge}"] == pytest.approx(share["value"])
    # The reward model is there when PPO trains; of DPO's run it may come later.
    assert shown["ppo_samples"][-1]["proxy"] == pytest.approx(metrics["ppo"]["points"][-1]["reward"]["proxy"]["value"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dpo after 1 of 2 steps")]
    assert "3 held-out posts: beats the reference summary: gold " in line and "KL " in line and " tokens" in line


@pytest.mark.long
def test_a_judge_that_fails_on_the_way_stops_no_training(
    make_config: Callable[..., RunConfig],
    finished: tuple[RunConfig, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    config = make_config(arms=("sft", "dpo"), judge=JudgeConfig(names=("gold",)), samples_in_training=WATCHED)
    asked = []

    def fails(*args: object) -> list[float]:
        asked.append(args)
        raise ResourceError("the judge cannot be reached")

    monkeypatch.setattr("bench.evaluate.judges.gold.GoldJudge.score", fails)
    with pytest.raises(ResourceError, match="the judge cannot be reached"):  # by the evaluation
        run(config, "the command")

    stages = Path(config.results_dir) / ".cache" / "stages"
    assert any(path.name.startswith("dpo-") for path in stages.iterdir())  # trained to its end
    said = [line for line in capsys.readouterr().err.splitlines() if "no win rate is shown" in line]
    assert said == ["no win rate is shown while training (the judge cannot be reached); the evaluation asks again"]
    assert len(asked) == 2  # once on the way, once at the end
