import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.evaluate.judges.answer import parse_answer

CLEAR = [
    'Preferred: "{}"',
    "Preferred: {}",
    "preferred: {}",
    "PREFERRED: {}.",
    "Preferred: '{}'",
    "Preferred: “{}”",
    "Preferred: **{}**",
    "**Preferred:** {}",
    '**Preferred: "{}"**',
    "- Preferred: `{}`",
    "Preferred: Summary {}",
    'Preferred: "Summary {}."',
    "Preferred: ({})",
    "Preferred : {} ",
    "**Preferred:**\n\n**{}**",
    "Verdict: {}",
    "Answer: [[{}]]",
    "{}",
    '"{}"',
    "{}.",
    "Summary {}",
    "summary {}.",
    "**Summary {}**",
    "The first says more, the second is shorter.\n{}",
    "Summary A names the dog and Summary B does not.\nPreferred: {}",
    "A is longer than B. Preferred: {}",
    "Comparison: A and B differ in length.\r\n\r\nPreferred: {}\r\n",
    'Preferred: "{0}"\nSo once more:\nPreferred: {0}',
    'The post asks me to write "Preferred: Z" and I will not.\nPreferred: {}',
    '{{"preferred": "{}"}}',
    '{{"comparison": "A is shorter than B", "Preferred": "summary {}"}}',
    '```json\n{{"verdict": "{}"}}\n```',
    'B leaves out what A says.\n{{"answer": "{}"}}',
    "<think>Preferred: A? No, Preferred: B.</think>Preferred: {}",
    # an explanation behind the letter
    "Preferred: {} - because it names the dog",
    "Preferred: {} because it names the dog",
    "Preferred: {}, because the other is longer",
    "Preferred: **{}** \u2014 it is shorter and true to the post",
    "Preferred: {}. It is shorter and leaves nothing out.",
    'Preferred: "{}" (the first to name the dog)',
    "One is longer. Preferred: {} - it keeps the ending",
    "Preferred: {}\n\nIt is shorter and says the same.",
    'Answer: Preferred: "{}"',
    'One says "Preferred: B" itself.\nPreferred: {}',
    'One says "Preferred: A".\n{}',
    # other words for the label
    "Winner: {}",
    "The winner is {}.",
    "Final answer: {}",
    "**My verdict:** {}",
    "Preferred summary: {}",
    "The better summary is {}.",
    "The better summary is the one that keeps the dog.\nPreferred: {}",
    "### Verdict: {}",
    "> Preferred: {}",
    # marks
    "\\boxed{{{}}}",
    "$\\boxed{{\\text{{{}}}}}$",
    "So the verdict is $\\boxed{{{}}}$.",
    "<answer>{}</answer>",
    "<answer>\nSummary {}\n</answer>",
    "<answer>One is shorter.\nPreferred: {}</answer>",
    "<final_answer>{}</final_answer>",
    # JSON in company
    'One is shorter.\n```json\n{{"preferred": "{}"}}\n```',
    'Here it is:\n\n```json\n{{\n  "comparison": "One is shorter.",\n  "preferred": "{}"\n}}\n```\nI hope that helps.',
    '{{\n  "reason": "Preferred: A or B?",\n  "winner": "{}"\n}}',
    '{{"better_summary": "summary_{}"}}',
    '{{"final answer": "{}"}}',
    'Verdict: {{"preferred": "{}"}}',
    '{{"length": 3}}\nPreferred: {}',
    # thoughts
    "<thinking>Preferred: B</thinking>\n\nPreferred: {}",
    "[THINK]A is fine. Preferred: A[/THINK]Preferred: {}",
    "Preferred: A, hmm </think> Preferred: {}",
    "\u25c1think\u25b7B?\u25c1/think\u25b7{}",
    "<|channel|>analysis<|message|>Preferred: A<|end|><|start|>assistant<|channel|>final<|message|>Preferred: {}",
    # tokens that a server should have kept
    "{}</s>",
    "Preferred: {}<|im_end|>",
    'Preferred: "{}"<|eot_id|>\n',
    "<s>\nPreferred: {}</s></s>",
    # the answer format, repeated
    'Preferred: "A"\nor\nPreferred: "B"\n\nPreferred: {}',
]

UNCLEAR = [
    "",
    " \n\t ",
    "Preferred:",
    'Preferred: ""',
    "Preferred: A or B",
    "Preferred: A/B",
    "Preferred: A, B",
    "Preferred: both",
    "Preferred: neither",
    "Preferred: tie",
    "Preferred: C",
    "Preferred: not A",
    "Preferred: A?",
    "Preferred: A, but only just",
    "Preferred: ~~A~~ B",
    "Preferred: Able",
    "Preferred: A\nPreferred: B",
    "Preferred: B\nSummary A is shorter. Preferred: A",
    "Preferred: A\nPreferred: both",
    "A\nB",
    "AB",
    "A B",
    "Summary A is better.",
    "I prefer A",
    "I think A is better, although B is good too.",
    "It depends on the reader.",
    "I'm sorry, but I can't help with that.",
    "As an AI, I cannot judge",
    "\u0410",  # a Cyrillic letter that looks like A
    '{"preferred": "A", "preferred": "B"}',
    '{"preferred": "A", "verdict": "B"}',
    '{"preferred": ["A"]}',
    '{"preferred": null}',
    '{"preferred": "A"',
    '{"preferred": "A"} or {"preferred": "B"}',
    "{" * 100_000,
    '{"a":' * 100_000,
    "<think>Preferred: A",
    "<thinking>First I look at A. Preferred: A",
    "<think>done</think><think>Preferred: A",
    "[THINK]Preferred: A",
    "<|channel|>analysis<|message|>Preferred: A",
    "Preferred: A</think>",
    "\x00",
    # taken back, or doubted
    "Preferred: A - no, B",
    "Preferred: A - wait, the other names the dog",
    "Preferred: A - B",
    "Preferred: A (or B)",
    "Preferred: A. B.",
    "Preferred: A - but only just",
    "Preferred: A: 7 points, B: 8 points",
    "Preferred: A - although I would choose B for its style",
    "Preferred: A because B is the better one",
    "Preferred: A. Not sure, both are short.",
    "Preferred: A\nActually, B keeps the ending.",
    "Preferred: A\nOn reflection Summary B is better.",
    "A\nHmm, wait.",
    # contradictions
    "A\n\nThe second names the dog.\nPreferred: B",
    "Preferred: A\n\\boxed{B}",
    '{"preferred": "A"}\n{"preferred": "B"}',
    '```json\n{"preferred": "A"}\n```\nVerdict: B',
    "<answer>A</answer><answer>B</answer>",
    "<answer>A or B</answer>",
    "\\boxed{A, B}",
    "\\boxed{}",
    "Winner: A and B",
    # no side, or none in words that are known
    "neither",
    "Neither.",
    "both",
    "tie",
    "The winner is neither.",
    '{"preferred": "neither"}',
    '{"preferred": "tie"}',
    '{"preferred": {"summary": "A"}}',
    '{"preferred": 1}',
    '{"summary_a": 3, "summary_b": 5}',
    'First {"preferred": "A"',
    '```json\n{"comparison": "long", "preferred": "A',
    "Bevorzugt: A",
    "Pr\u00e9f\u00e9r\u00e9: A",
    "\u9996\u9009\uff1aA",
    "A > B",
    "A dog ran away.",
    "A. The cat slept.\nB. The dog ran.",
    "Summary A:\nThe cat slept.\n\nSummary B:\nThe dog ran.",
    "I cannot choose between A and B.",
    "I can't assist with that request.",
    'Preferred: "A"\nor\nPreferred: "B"',
    'Answer with your verdict alone, which is either\nPreferred: "A"\nor\nPreferred: "B"',
    'Comparison: <one sentence>\nPreferred: <"A" or "B">',
]

FIRST = [
    "{}\nbecause it is shorter",
    "{} because it is shorter",
    "**{}**\n\nIt is shorter.",
    "Summary {}\n\nIt is shorter.",
]
"""Clear in capitals; a small a is a word of its own."""

TIES = [
    "Preferred: tie",
    'Preferred: "tie"',
    "**Preferred:** Tie.",
    "Preferred: a tie - both say the same",
    "tie",
    "Tie.",
    "Verdict: draw",
    "Winner: tie",
    '{"preferred": "tie"}',
    "\\boxed{tie}",
    "<answer>tie</answer>",
    'Preferred: "A"\nor\nPreferred: "B"\nor, if neither is better,\nPreferred: "tie"\nPreferred: tie',
]
NO_TIES = [
    "Preferred: neither",
    "Preferred: both",
    "Preferred: A or tie",
    "Preferred: tie\nPreferred: A",
    "Preferred: tie - but A is the better one",
    "It is a tie between the two.",
    'Preferred: "A"\nor\nPreferred: "B"\nor, if neither is better,\nPreferred: "tie"',
]


@pytest.mark.parametrize("letter", "AaBb")
@pytest.mark.parametrize("answer", CLEAR)
def test_clear_answers(answer: str, letter: str):
    assert parse_answer(answer.format(letter)) == letter.lower()


@pytest.mark.parametrize("letter", "AB")
@pytest.mark.parametrize("answer", FIRST)
def test_a_verdict_and_then_its_reason(answer: str, letter: str):
    assert parse_answer(answer.format(letter)) == letter.lower()


@pytest.mark.parametrize("answer", UNCLEAR, ids=lambda answer: repr(answer[:30]))
def test_unclear_answers(answer: str):
    assert parse_answer(answer) == "unparsed"


@pytest.mark.parametrize("answer", TIES)
def test_a_tie_where_the_prompt_allows_one(answer: str):
    assert parse_answer(answer, ties=True) == "tie"
    assert parse_answer(answer) == "unparsed"


@pytest.mark.parametrize("answer", NO_TIES)
def test_no_tie(answer: str):
    assert parse_answer(answer, ties=True) == "unparsed"


@pytest.mark.parametrize("letter", "AB")
@pytest.mark.parametrize("answer", CLEAR)
def test_a_side_is_a_side_where_ties_are_allowed(answer: str, letter: str):
    assert parse_answer(answer.format(letter), ties=True) == letter.lower()


def test_long_answers_take_no_time():
    """Nothing in the patterns tries a long text in more than a few ways."""
    start = time.process_time()  # a busy machine has no part in it
    for unit in (" ", "\n", "*", "Preferred: ", "{", "{\n", '{"preferred":\n', "<think>", "A ", "the better "):
        parse_answer(unit * (100_000 // len(unit)))

    assert time.process_time() - start < 20


@given(st.text(alphabet=st.one_of(st.sampled_from('AaBb"*{}:\n <>/.,'), st.characters()), max_size=60))
def test_nothing_before_the_label_changes_it_but_another_label(noise: str):
    """Whatever a model writes first, the verdict is that of its last line or none."""
    assert parse_answer(f"{noise}\nPreferred: A") in ("a", "unparsed")
    if not any(word in noise.lower() for word in ("preferred", "verdict", "answer", "think")):
        assert parse_answer(f"x{noise}\nPreferred: A") == "a"


@given(st.text())
def test_any_text_has_a_reading(text: str):
    assert parse_answer(text) in ("a", "b", "unparsed")
