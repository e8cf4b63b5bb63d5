"""The judges' habits and what they used up."""

import pytest

from bench import report
from bench.evaluate.judges.asking import JudgeUsage
from bench.report.sections import judges


def test_habits_are_shown(make_run, edit, reading):
    path = make_run()
    counts = {"decided": 700, "ties": 33, "unparsed": 7}
    edit(path / "metrics.json", lambda metrics: metrics["judges"]["reward_model"].update(counts))
    habits = reading.metrics(path)["judges"]["reward_model"]
    row = reading.cells(reading.sections(path)["Judges"], "what each judge prefers")["reward-model judge",]
    assert row["chose the one shown first"] == reading.per_cent(habits["position_bias"], with_n=True)
    assert row["chose the longer one"] == reading.per_cent(habits["length_bias"], with_n=True)
    assert row["changed its mind with the order"].startswith("0.0 %")  # neither judge sees the order
    assert [row[name] for name in ("decided", "ties", "unparsed")] == ["700", "33", "7"]


def test_win_rates_are_shown_beside_the_corrected_ones(make_run, edit, reading):
    path = make_run()
    refused = {"value": None, "ci95": None, "reason": "no better than chance"}
    answered = {"value": 0.61, "ci95": [0.5, 0.72], "reason": None}

    def correct(metrics):
        for arm, found in (("ppo", answered), ("dpo", refused)):
            metrics["arms"][arm]["win_rate_corrected"]["reward_model"].update(found)

    edit(path / "metrics.json", correct)
    metrics = reading.metrics(path)
    table = reading.cells(reading.sections(path)["Judges"], "win rates with the judge")
    assert {judge for _, judge in table} == {"reward-model judge"}  # gold makes no errors
    ppo, labels = table["RLHF (PPO)", "reward-model judge"], metrics["judges"]["reward_model"]["labels"]
    assert ppo["win rate"] == reading.per_cent(metrics["arms"]["ppo"]["win_rate"]["reward_model"])
    corrected = metrics["arms"]["ppo"]["win_rate_corrected"]["reward_model"]
    assert ppo["corrected"] == reading.per_cent(corrected)
    assert ppo["finds the longer"] == reading.per_cent(labels["sensitivity"], with_n=True)
    assert table["DPO", "reward-model judge"]["why there is no number"] == "no better than chance"


def test_what_an_asked_judge_used_up_is_shown(make_run, edit, reading):
    path = make_run()
    usage = JudgeUsage(requests=1234, retries=5, cached=67, prompt_tokens=89012, completion_tokens=3456)
    edit(path / "metrics.json", lambda metrics: metrics["judges"]["reward_model"].update(usage=usage.to_dict()))
    used = reading.cells(reading.sections(path)["Judges"], "what the judges that are asked")
    assert list(used) == [("reward-model judge",)]
    counts = ("requests", "retries", "cached", "prompt tokens", "completion tokens")
    assert [used["reward-model judge",][name] for name in counts] == ["1,234", "5", "67", "89,012", "3,456"]


def test_what_was_not_read_is_shown_by_reason(make_run, edit, reading):
    path = make_run()
    usage = JudgeUsage(requests=100, unparsed=21, cut_off=1, refused=2, filtered=3, unfinished=4, empty=5)
    edit(path / "metrics.json", lambda metrics: metrics["judges"]["reward_model"].update(usage=usage.to_dict()))
    row = reading.cells(reading.sections(path)["Judges"], "questions whose answer")["reward-model judge",]
    titles = ("answers not read", "cut off", "refused", "filtered", "end not known", "empty")
    assert [row[title] for title in titles] == ["21", "1", "2", "3", "4", "5"]


def test_how_far_judges_agree_is_shown(make_run, edit, reading):
    path = make_run()
    agreed = {"value": 0.8, "ci95": [0.7, 0.9], "n": 40}
    kappa = {"value": 0.55, "ci95": [0.4, 0.7], "n": 40}
    entry = {"judges": ["gold", "reward_model"], "agreement": agreed, "kappa": kappa, "verdicts": 390}
    edit(path / "metrics.json", lambda metrics: metrics.update(judge_agreement=[entry]))
    table = reading.cells(reading.sections(path)["Judges"], "how far each two judges")
    row = table["gold judge and reward-model judge",]
    assert row["say the same"] == reading.per_cent(agreed, with_n=True)
    assert (row["Cohen's kappa"], row["pairs of summaries"]) == ("0.55 [0.40, 0.70]", "390")
    edit(path / "metrics.json", lambda metrics: metrics.update(judge_agreement=[]))
    assert "how far each two judges" not in str(reading.sections(path)["Judges"]).lower()


def test_an_arm_stands_where_two_judges_put_it(make_run, reading):
    run = report.load_run(make_run())
    (plot,) = judges.judge_agreement(run)
    axes = reading.axes(plot)
    rates = run.metrics["arms"]["dpo"]["win_rate"]
    errors = reading.drawn(axes, "DPO")
    assert list(errors.lines[0].get_xdata()) == pytest.approx([100 * rates["gold"]["value"]])
    assert list(errors.lines[0].get_ydata()) == pytest.approx([100 * rates["reward_model"]["value"]])
    ends = [[end[place] for end in bar.get_segments()[0]] for place, bar in enumerate(errors.lines[2])]
    expected = [[100 * end for end in rates[judge]["ci95"]] for judge in ("gold", "reward_model")]
    assert ends == [pytest.approx(interval) for interval in expected]
    agreed = run.metrics["judge_agreement"][0]["agreement"]
    assert f"say the same of {100 * agreed['value']:.1f} %" in plot.caption
