"""What distance bought on the way, as the section shows it."""

import numpy as np
import pytest

from bench import report
from bench.evaluate.overoptimisation import reward_at
from bench.files import write_jsonl
from bench.report.over_kl import turn_in_words
from bench.report.page import Text
from bench.report.sections import overoptimisation
from bench.report.sections.answer import answer


@pytest.fixture
def watched(make_run):
    return make_run("watched", arms=("sft", "best_of_n", "ppo", "dpo"), points=5)


def test_every_moment_is_a_row(watched, reading):
    measured = reading.metrics(watched)["in_training"]
    table = overoptimisation.in_training_table(report.load_run(watched))
    assert [*zip(table["arm"], table["step"], strict=True)] == [
        (arm, step) for arm in ("ppo", "dpo") for step in (0, 20, 40, 60, 80, 100)
    ]
    point = measured["dpo"]["points"][3]
    row = table[(table["arm"] == "dpo") & (table["step"] == 60)].iloc[0]
    assert row["kl_ref"] == point["kl_ref"]["value"] == pytest.approx(2.4, rel=0.3)
    assert (row["gain_gold_low"], row["gain_gold_high"]) == tuple(point["gain"]["gold"]["ci95"])
    assert row["win_rate_gold"] == point["win_rate"]["gold"]["value"]


def test_points_and_fits_are_drawn_over_the_root_of_kl(watched, reading):
    run = report.load_run(watched)
    gold, proxy = overoptimisation.gain_plots(run)
    axes, of_dpo = reading.axes(gold), run.metrics["in_training"]["dpo"]
    line = reading.drawn(axes, "DPO").lines[0]
    assert list(line.get_xdata()) == pytest.approx([p["kl_ref"]["value"] ** 0.5 for p in of_dpo["points"]])
    assert list(line.get_ydata()) == [p["gain"]["gold"]["value"] for p in of_dpo["points"]]
    fit = of_dpo["fits"]["gold"]
    curve = next(c for c in axes.lines if c.get_linestyle() == "--" and c.get_color() == line.get_color())
    d = np.asarray(curve.get_xdata())
    assert [d[0], d[-1]] == pytest.approx(fit["distances"])
    expected = reward_at("rl", d, np.array([fit["alpha"]["value"], fit["beta"]["value"]]))
    assert list(np.asarray(curve.get_ydata())) == pytest.approx(list(expected))
    best = reading.drawn(reading.axes(proxy), "Best of n").lines[0]
    by_n = run.metrics["best_of_n"]["by_n"]
    assert list(best.get_ydata()) == [by_n[str(n)]["gain"]["proxy"]["value"] for n in (1, 2, 4, 8, 16)]


def test_the_table_has_every_fit(watched, reading):
    blocks = reading.sections(watched)["Over-optimisation"]
    table = next(block for block in blocks if getattr(block, "caption", "").startswith("What the forms"))
    fits = reading.metrics(watched)["in_training"]
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        (arm, reward) for arm in ("RLHF (PPO)", "DPO", "Best of n") for reward in ("gold", "proxy")
    ]
    alpha = fits["ppo"]["fits"]["gold"]["alpha"]["value"]
    assert float(table.rows[0][table.columns.index("alpha")].text) == pytest.approx(alpha, rel=0.01)


def test_a_run_that_was_not_watched_has_no_section(make_run, reading):
    assert "Over-optimisation" not in reading.sections(make_run())


def test_words():
    fit = {"reason": None, "distances": [0.5, 2.0], "beta": {"ci95": [0.1, 0.3]}}
    fit["peak_kl"] = {"value": 3.0, "ci95": [2.0, 3.5]}
    assert turn_in_words("dpo", "gold", fit) == "DPO's gold reward turns at KL 3.00 [2.00, 3.50]; seen up to KL 4.00."
    far = fit | {"peak_kl": {"value": 9.0, "ci95": [5.0, 20.0]}}
    assert "would turn only at KL 9.00 [5.00, 20.0], beyond what was seen" in str(turn_in_words("dpo", "gold", far))
    assert "is not decided" in str(turn_in_words("dpo", "gold", fit | {"beta": {"ci95": [-0.1, 0.3]}}))
    assert "no turn up to KL 4.00" in str(turn_in_words("dpo", "gold", fit | {"beta": {"ci95": [-0.3, -0.1]}}))
    assert turn_in_words("dpo", "gold", {"reason": "too few"}) is None


def test_ppos_rollouts_gain_over_their_first_step_at_the_root_of_their_kl(make_run, reading):
    path = make_run()
    log = [(0.0, 1.0, 0.5), (1.0, 1.5, 0.7), (4.0, 3.0, 0.4)]
    write_jsonl(
        path / "training" / "ppo.jsonl",
        [{"step": i, "kl_ref": kl, "score": score, "gold": gold} for i, (kl, score, gold) in enumerate(log)],
    )
    axes = reading.axes(overoptimisation.rollouts_over_kl(report.load_run(path)))
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["proxy reward"].get_xdata()) == [0, 1, 2]
    assert list(lines["proxy reward"].get_ydata()) == pytest.approx([0, 0.5, 2])
    assert list(lines["gold reward"].get_ydata()) == pytest.approx([0, 0.2, -0.1])


def test_rollouts_without_a_known_truth_are_not_drawn(make_run):
    assert overoptimisation.rollouts_over_kl(report.load_run(make_run(gold=False))) is None


def test_where_a_policy_is_not_its_trainings_last_the_answer_says_so(make_run, edit):
    path = make_run(points=4)
    assert "Early stopping" not in " ".join(answer(report.load_run(path)))
    rate = {"value": 0.6, "ci95": [0.4, 0.8], "n": 30}
    for arm, step in (("ppo", 3), ("dpo", 6)):
        chosen = {"judge": "gold", "step": step, "steps": 12, "moments": [{"step": step, "win_rate": rate}]}
        edit(path / "metrics.json", lambda metrics, arm=arm, of=chosen: metrics["arms"][arm].update(checkpoint=of))
    run = report.load_run(path)
    said = "chosen by the gold judge on validation posts: RLHF (PPO) after 3 of 12 steps, DPO after 6 of 12 steps"
    assert any(said in line for line in answer(run))
    assert any(said in block.text for block in overoptimisation.section(run) if isinstance(block, Text))
