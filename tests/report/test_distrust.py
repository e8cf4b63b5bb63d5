"""Judges that fail a check, and policies that are over-optimised, are named wherever their numbers stand."""

import pytest

from bench import report
from bench.report.compare import comparison_page
from bench.report.distrust import doubtful_truth, failed_checks, failed_over, overoptimised
from bench.report.page import Figures, Table, to_markdown
from bench.report.render import run_page
from bench.report.sections.answer import answer
from bench.report.summary import summary


def rate(value, low, high):
    return {"value": value, "ci95": [low, high], "n": 40, "ties": 0, "unparsed": 0}


def base_wins(by, low=0.52):
    """An edit after which a judge says that the base model beats the reference summaries."""
    return lambda metrics: metrics["arms"]["base"]["win_rate"].update({by: rate(0.6, low, 0.7)})


@pytest.fixture
def fooled(make_run, edit):
    path = make_run()
    edit(path / "metrics.json", base_wins("reward_model"))
    return path


def test_a_judge_that_prefers_the_untrained_model_fails(fooled):
    (sentence,) = failed_checks(report.load_run(fooled)).values()
    assert "reward-model judge fails a check" in sentence and "60.0 % [52.0, 70.0] of 40 posts" in sentence


@pytest.mark.parametrize("change", [base_wins("reward_model", low=0.5), base_wins("gold")])
def test_it_does_not_where_that_is_not_decided_or_the_truth_agrees(make_run, edit, change):
    path = make_run()
    edit(path / "metrics.json", base_wins("reward_model"))
    edit(path / "metrics.json", change)
    assert failed_checks(report.load_run(path)) == {}


@pytest.mark.parametrize(
    ("arm", "prompts", "said"),
    [
        ("ppo", "demonstrations", "was rolled out on the posts of the demonstrations, DPO saw those of the pairs"),
        ("ppo", "both", "was rolled out on those of the demonstrations as well as of the pairs, DPO saw"),
        ("ppo", "pairs", None),
        ("rloo", "demonstrations", None),  # which the run does not have
    ],
)
def test_arms_that_see_unlike_posts_are_named_where_they_are_compared(make_run, edit, reading, arm, prompts, said):
    path = make_run()
    edit(path / "run.json", lambda run: run["config"][arm].update(prompts=prompts))
    sections = reading.sections(path)
    tables = [next(b for b in sections[title] if isinstance(b, Table)) for title in ("Head to head", "Claims")]
    shown = [" ".join(answer(report.load_run(path))), summary(path), *(table.note for table in tables)]
    assert [(said or "Unlike posts") in text for text in shown] == [said is not None] * 4


def test_so_does_one_that_prefers_a_text_that_says_nothing(make_run, edit, reading):
    path = make_run()

    def change(metrics):
        checks = {"empty": rate(0.2, 0.1, 0.3), "shuffled": rate(0.7, 0.6, 0.8)}
        metrics["judges"]["reward_model"]["checks"] = checks
        metrics["arms"]["base"]["win_rate"]["reward_model"] = rate(0.3, 0.2, 0.4)

    edit(path / "metrics.json", change)
    (sentence,) = failed_checks(report.load_run(path)).values()
    assert "it prefers the reference summary's words in a drawn order (70.0 % [60.0, 80.0] of 40 posts)." in sentence
    blocks = reading.sections(path)["Judges"]
    (table,) = (block for block in blocks if isinstance(block, Table) and block.caption.startswith("Checks"))
    shown = {text.text: f"{how.text} {how.interval}" for _, text, how in table.rows[-2:]}
    assert shown == {
        "nothing at all": "20.0 % [10.0, 30.0] n 40",
        "the reference summary's words in a drawn order": "70.0 % [60.0, 80.0] n 40",
    }


def test_a_failing_judge_says_so_wherever_its_number_stands(fooled):
    run = report.load_run(fooled)
    assert any("fails a check" in line for line in answer(run))
    assert "fails a check" in summary(fooled)
    sections = {section.title: section.blocks for section in run_page(run).sections}
    results, head_to_head = (next(b for b in sections[t] if isinstance(b, Table)) for t in ("Results", "Head to head"))
    assert "win rate, reward-model judge, which fails a check" in results.columns
    assert "win rate, gold judge" in results.columns
    said = {row[1].text for row in head_to_head.rows}
    assert said == {"gold judge", "reward-model judge, which fails a check"}
    assert all("before any training" in table.note for table in (results, head_to_head))
    by_length = [b for b in sections["Length"] if isinstance(b, Table)]
    assert all({row[1].text for row in table.rows} == said for table in by_length)
    titles = {plot.title for blocks in sections.values() for b in blocks if isinstance(b, Figures) for plot in b.plots}
    of_judge = {title for title in titles if "reward-model judge" in title}
    assert len(of_judge) > 3 and all("which fails a check" in title for title in of_judge)


def test_over_seeds_it_is_said_in_how_many(make_run, edit):
    paths = [make_run(f"s{seed}", seed=seed) for seed in (0, 1)]
    edit(paths[1] / "metrics.json", base_wins("reward_model"))
    runs = [report.load_run(path) for path in paths]
    said = failed_over(runs)["reward_model"]
    assert said.startswith("In 1 of 2 runs with the base model the reward-model judge fails a check: ")
    page = comparison_page(runs)
    assert any("fails a check" in line for line in page.answer)
    edit(paths[0] / "metrics.json", lambda m: m["arms"].pop("base"))
    edit(paths[1] / "metrics.json", lambda m: m["arms"].pop("base"))
    no_words = {"value": 0.7, "ci95": [0.6, 0.8], "n": 100}
    edit(paths[1] / "metrics.json", lambda m: m["judges"]["reward_model"].update(checks={"empty": no_words}))
    without_base = failed_over([report.load_run(path) for path in paths])["reward_model"]
    assert without_base.startswith("In 1 of 2 runs that put it to one the reward-model judge fails a check: ")
    over_seeds = to_markdown(page).partition("## Over seeds")[2].partition("## ")[0]
    assert "reward-model judge, which fails a check |" in over_seeds and "gold judge |" in over_seeds


@pytest.mark.parametrize(
    ("gold", "learned", "sft", "is_told"),
    [((0.3, 0.2, 0.4), (0.9, 0.8, 0.95), (0.5, 0.5), True), ((0.45, 0.35, 0.55), (0.9, 0.8, 0.95), (0.5, 0.5), False),
     ((0.3, 0.2, 0.4), (0.5, 0.4, 0.6), (0.5, 0.5), False),
     ((0.3, 0.2, 0.4), (0.9, 0.8, 0.95), (0.3, 0.9), False),  # the SFT model is judged so already
     ((0.3, 0.2, 0.4), (0.9, 0.8, 0.95), (0.3, 0.6), True)],
)  # fmt: skip
def test_a_policy_that_wins_by_what_was_learned_and_loses_by_the_truth_is_over_optimised(
    make_run, edit, gold, learned, sft, is_told
):
    path = make_run()

    def change(metrics):
        metrics["arms"]["ppo"]["win_rate"] |= {"gold": rate(*gold), "reward_model": rate(*learned)}
        metrics["arms"]["ppo"].pop("gain", None)
        of_sft = {"gold": rate(sft[0], 0.2, 0.6), "reward_model": rate(sft[1], 0.4, 0.95)}
        metrics["arms"]["sft"]["win_rate"] |= of_sft

    edit(path / "metrics.json", change)
    said = " ".join(overoptimised(report.load_run(path)))
    assert ("RLHF (PPO) pleases" in said) is is_told
    if is_told:
        assert "90.0 % [80.0, 95.0] by the reward-model judge and 30.0 % [20.0, 40.0] by the gold judge" in said


@pytest.mark.parametrize(("gold_high", "is_told"), [(-0.1, True), (0.1, False)])
def test_so_is_one_whose_proxy_reward_rose_while_its_gold_reward_fell(make_run, edit, gold_high, is_told):
    path = make_run()
    gain = {"proxy": {"value": 1.5, "ci95": [1, 2]}, "gold": {"value": -0.3, "ci95": [-0.5, gold_high]}}
    edit(path / "metrics.json", lambda metrics: metrics["arms"]["dpo"].update(gain=gain))
    said = " ".join(overoptimised(report.load_run(path)))
    assert ("rose by 1.50 [1.00, 2.00], the gold reward by -0.30 [-0.50, -0.10]" in said) is is_told


def test_a_truth_that_prefers_what_needs_no_model_is_named(make_run, edit):
    path = make_run()
    assert doubtful_truth(report.load_run(path)) == []
    trivial = {"empty": {"win_rate_vs_sft": rate(0.8, 0.6, 0.9)}, "title": {"win_rate_vs_sft": rate(0.6, 0.49, 0.7)}}
    edit(path / "metrics.json", lambda metrics: metrics.update(world={"trivial": trivial}))
    (sentence,) = doubtful_truth(report.load_run(path))
    assert "empty (80.0 % [60.0, 90.0] of 40 posts)" in sentence and "title" not in sentence
    assert sentence in " ".join(answer(report.load_run(path)))


def test_labels_that_do_not_follow_the_truth_are_named(make_run, edit):
    path = make_run()
    margin = {"value": 0.0, "ci95": None, "n": 40}
    labels = {
        "train": {"pairs": 40, "posts": 40, "gold_agrees": rate(0.5, 0.35, 0.65), "gold_margin": margin},
        "validation": {"pairs": 40, "posts": 40, "gold_agrees": rate(0.8, 0.65, 0.9), "gold_margin": margin},
    }
    edit(path / "metrics.json", lambda metrics: metrics.update(labels=labels))
    (sentence,) = doubtful_truth(report.load_run(path))
    assert sentence.startswith("The labels of the train pairs are not shown to follow the gold reward (50.0 % [35.0")
