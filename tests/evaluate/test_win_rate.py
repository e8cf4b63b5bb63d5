import pytest
from scipy import stats

from bench.errors import DataError
from bench.evaluate.win_rate import Order, compare, drawn_order, head_to_head, resolve, win_rate
from bench.records import EvalPrompt, Verdict, VerdictLabel

PROMPTS = [EvalPrompt(f"p{i}", f"post {i}", "reference") for i in range(6)]


class FakeJudge:
    name, prompt_hash = "fake", "h4sh"

    def __init__(self, rule):
        self.rule, self.items = rule, []

    def judge(self, items):
        self.items = list(items)
        return [self.rule(item.first, item.second) for item in items]


def longer(first, second):
    return "a" if len(first) > len(second) else "b"


def completions(text):
    return {prompt.id: f"{text} {prompt.id}" for prompt in PROMPTS}


def verdict(
    prompt_id: str, label: VerdictLabel, order: Order = "ab", judge: str = "fake", arm_a: str = "dpo"
) -> Verdict:
    return Verdict(prompt_id, arm_a, "ppo", order, label, judge, "")


def test_verdict_names_the_arm_whichever_was_shown_first():
    judge = FakeJudge(longer)
    verdicts = compare("dpo", "ppo", completions("longer"), completions("short"), PROMPTS, judge, seed=0)
    assert [(v.prompt_id, v.order, v.verdict) for v in verdicts] == [
        (prompt.id, order, "a") for prompt in PROMPTS for order in ("ab", "ba")
    ]
    assert {(v.arm_a, v.arm_b, v.judge, v.prompt_hash) for v in verdicts} == {("dpo", "ppo", "fake", "h4sh")}
    assert [(item.prompt, item.first, item.second) for item in judge.items[:2]] == [
        ("post 0", "longer p0", "short p0"),
        ("post 0", "short p0", "longer p0"),
    ]
    losing = compare("dpo", "ppo", completions("short"), completions("longer"), PROMPTS, judge, seed=0)
    assert {v.verdict for v in losing} == {"b"}


def test_judge_that_always_takes_the_first_is_neutral_and_found_out():
    judge = FakeJudge(lambda first, second: "a")
    verdicts = compare("dpo", "ppo", completions("x"), completions("y"), PROMPTS, judge, seed=0)
    found = win_rate(verdicts, seed=0)
    assert (found["value"], found["ties"], found["flip_rate"]) == (0.5, 6, 1.0)


def test_one_order_is_drawn_from_a_stable_hash():
    orders_of_seed_0 = ["ba", "ab", "ab", "ba", "ba", "ab"]
    # printf '0:p0' | sha256sum, and so on: the first byte is even for "ab".
    assert [drawn_order(0, f"p{i}") for i in range(6)] == orders_of_seed_0
    assert [drawn_order(1, f"p{i}") for i in range(6)] == ["ab", "ab", "ab", "ab", "ba", "ba"]
    assert 440 < sum(drawn_order(7, f"prompt {i}") == "ab" for i in range(1000)) < 560  # 4 standard deviations

    judge = FakeJudge(longer)
    verdicts = compare("dpo", "ppo", completions("longer"), completions("short"), PROMPTS, judge, seed=0, orders="one")
    assert [v.order for v in verdicts] == orders_of_seed_0
    assert {v.verdict for v in verdicts} == {"a"}
    assert [item.first.split()[0] == "longer" for item in judge.items] == [v.order == "ab" for v in verdicts]
    assert win_rate(verdicts, seed=0)["flip_rate"] is None


@pytest.mark.parametrize(
    ("ab", "ba", "label"),
    [
        ("a", "a", "a"),
        ("b", "b", "b"),
        ("tie", "tie", "tie"),
        ("a", "b", "tie"),
        ("a", "tie", "tie"),
        ("a", "unparsed", "unparsed"),
        ("unparsed", "unparsed", "unparsed"),
    ],
)
def test_two_orders_become_one_label(ab, ba, label):
    assert resolve([verdict("p", ab, "ab"), verdict("p", ba, "ba")]) == {"p": label}


def test_win_rate_counts_a_tie_half_and_leaves_unparsed_out():
    both = {"p0": "aa", "p1": "aa", "p2": "bb", "p3": "ab", "p4": "a?"}
    names: dict[str, VerdictLabel] = {"a": "a", "b": "b", "?": "unparsed"}
    verdicts = [
        verdict(prompt_id, names[label], order)
        for prompt_id, labels in both.items()
        for order, label in zip(("ab", "ba"), labels, strict=True)
    ]
    found = win_rate(verdicts, seed=0)
    assert found["value"] == (1 + 1 + 0 + 0.5) / 4
    assert (found["n"], found["ties"], found["unparsed"]) == (4, 1, 1)
    assert found["flip_rate"] == 1 / 4  # p3 of the four with two parsed orders
    assert found["flip_rate_ci95"] == list(map(pytest.approx, stats.binomtest(1, 4).proportion_ci(method="wilson")))
    low, high = found["ci95"]
    assert 0 <= low < found["value"] < high <= 1


def test_nothing_parsed_is_no_number():
    found = win_rate([verdict("p", "unparsed"), verdict("q", "unparsed")], seed=0)
    assert found == dict.fromkeys(("value", "ci95", "flip_rate", "flip_rate_ci95")) | {"n": 0, "ties": 0, "unparsed": 2}


def test_head_to_head_tests_the_untied_prompts():
    labels: list[VerdictLabel] = ["a", "a", "a", "a", "a", "b", "tie", "tie", "tie", "unparsed"]
    found = head_to_head({"fake": [verdict(f"p{i}", label) for i, label in enumerate(labels)]}, seed=0)
    # 5 of 6 or more heads, or as few: 2 (C(6,5) + C(6,6)) / 2^6
    assert found["p_value"]["fake"] == pytest.approx(2 * (6 + 1) / 64)
    assert found["win_rate"]["fake"]["value"] == pytest.approx((5 + 1.5) / 9)


@pytest.mark.parametrize("short_arm", ["dpo", "ppo"])
def test_missing_completions_are_named_and_never_left_out(short_arm):
    both = {arm: completions(arm) for arm in ("dpo", "ppo")}
    del both[short_arm]["p1"], both[short_arm]["p4"]
    with pytest.raises(DataError, match=rf"'{short_arm}' has no completion for 2 of 6 prompts \(p1, p4\)"):
        compare("dpo", "ppo", both["dpo"], both["ppo"], PROMPTS, FakeJudge(longer), seed=0)


def test_prompt_may_be_there_once():
    with pytest.raises(DataError, match="1 prompt ids are there more than once, the first is 'p0'"):
        compare(
            "dpo",
            "ppo",
            completions("x"),
            completions("y"),
            [*PROMPTS, PROMPTS[0]],
            FakeJudge(longer),
            seed=0,
        )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (verdict("p", "b"), "'p' was judged twice in order 'ab'"),
        (verdict("q", "b", judge="other"), "2 comparisons"),
        (verdict("q", "b", arm_a="sft"), "2 comparisons"),
    ],
)
def test_verdicts_that_do_not_belong_together_are_refused(second, message):
    with pytest.raises(DataError, match=message):
        resolve([verdict("p", "a"), second])
