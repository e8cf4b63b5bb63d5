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
    "A\nbecause it is shorter",
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
    '{"winner": "A"}',
    '{"preferred": "A"',
    '{"preferred": "A"} or {"preferred": "B"}',
    "{" * 100_000,
    '{"a":' * 100_000,
    "<think>Preferred: A",
    "Preferred: A</think>",
    "\x00",
]


@pytest.mark.parametrize("letter", "AaBb")
@pytest.mark.parametrize("answer", CLEAR)
def test_clear_answers(answer: str, letter: str):
    assert parse_answer(answer.format(letter)) == letter.lower()


@pytest.mark.parametrize("answer", UNCLEAR, ids=lambda answer: repr(answer[:30]))
def test_unclear_answers(answer: str):
    assert parse_answer(answer) == "unparsed"


@given(st.text(alphabet=st.one_of(st.sampled_from('AaBb"*{}:\n <>/.,'), st.characters()), max_size=60))
def test_nothing_before_the_label_changes_it_but_another_label(noise: str):
    """Whatever a model writes first, the verdict is that of its last line or none."""
    assert parse_answer(f"{noise}\nPreferred: A") in ("a", "unparsed")
    if not any(word in noise.lower() for word in ("preferred", "verdict", "answer", "think")):
        assert parse_answer(f"x{noise}\nPreferred: A") == "a"


@given(st.text())
def test_any_text_has_a_reading(text: str):
    assert parse_answer(text) in ("a", "b", "unparsed")
