"""The table on the terminal."""

from bench.report.summary import summary


def test_the_terminal_shows_the_pairs_in_question_and_counts_the_others(make_run):
    text = summary(make_run())
    assert "  dpo beats ppo (gold): " in text and "base beats" not in text
    assert text.splitlines()[-1] == "  6 more in the report"  # base against three arms, two judges


def test_without_other_pairs_none_are_counted(make_run):
    text = summary(make_run(arms=("sft", "dpo")))
    assert text.splitlines()[-1].startswith("  dpo beats sft (reward_model): ")


def test_a_collapsed_arm_is_marked(collapsed_dir):
    assert "ppo (collapsed)" in summary(collapsed_dir)


def test_what_was_swept_stands_on_top(make_run, edit):
    path = make_run()
    assert summary(path).startswith("fixture, seed 0: win rates")
    edit(path / "run.json", lambda run: run["config"].update(label="dpo.beta=0.3"))
    assert summary(path).startswith("fixture, seed 0, dpo.beta=0.3: win rates")
