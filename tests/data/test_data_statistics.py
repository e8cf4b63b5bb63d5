from dataclasses import replace

import pytest

from bench.data.statistics import counted_at_once, data_statistics, format_statistics
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair


def count_words(text: str) -> int:
    return len(text.split())


DATA = ComparisonData(
    demonstrations={"train": [Demonstration("d", "one two", "a b")], "validation": []},
    preferences={
        "train": [
            PreferencePair("p", "one two", "a b c", "a"),
            PreferencePair("q", "one two three four", "a", "a b c d"),
            PreferencePair("r", "one two three four", "a b", "b a"),
            PreferencePair("s", "one two three four", "a b c d", "a b"),
        ],
        "judge": [],
        "validation": [PreferencePair("v", "one two three", "a", "a b c d e f g h i j")],
    },
    eval_prompts=[EvalPrompt("t", "one two three four five six", "a b c d e")],
    source={},
    dropped={"ties": 3},
)


def test_statistics_by_hand():
    statistics = data_statistics(DATA, count_words, truncated_prompts=2)
    assert statistics["counts"] == {
        "demonstrations": {"train": 1, "validation": 0},
        "preferences": {"train": 4, "judge": 0, "validation": 1},
        "eval_prompts": 1,
    }
    # distinct prompts have 2, 4, 3 and 6 words; p95 lies 0.85 of the way between the sorted third and fourth
    assert statistics["prompt_tokens"] == {"mean": 15 / 4, "p95": pytest.approx(4 + 0.85 * 2), "max": 6}
    # completions: demonstration 2; pairs 3 1, 1 4, 2 2, 4 2; validation 1 10; reference 5
    lengths = [2, 3, 1, 1, 4, 2, 2, 4, 2, 1, 10, 5]
    assert statistics["completion_tokens"]["mean"] == pytest.approx(sum(lengths) / len(lengths))
    assert statistics["completion_tokens"]["max"] == 10
    # training pairs: longer, shorter, equal, longer
    assert statistics["longer_wins"] == (1 + 0 + 0.5 + 1) / 4
    assert statistics["dropped"] == {"ties": 3}
    assert statistics["truncated_prompts"] == 2


def test_completions_are_counted_with_their_leading_space():
    statistics = data_statistics(DATA, len)
    assert statistics["completion_tokens"]["max"] == len(" a b c d e f g h i j")


def test_data_to_score_only_has_no_training_numbers():
    nothing = ComparisonData(
        demonstrations={"train": [], "validation": []},
        preferences={"train": [], "judge": [], "validation": []},
        eval_prompts=[],
        source={},
    )
    statistics = data_statistics(nothing, count_words)
    assert statistics["longer_wins"] is None
    assert statistics["prompt_tokens"] is None and statistics["completion_tokens"] is None
    assert "rows left out: none" in format_statistics(statistics)


def test_the_table_shows_counts_lengths_and_what_was_left_out():
    lines = format_statistics(data_statistics(DATA, count_words, truncated_prompts=2)).split("\n")
    cells = {line[:20].strip(): line[20:].split() for line in lines if line[:1].isalpha()}
    assert cells["demonstrations"] == ["1", "0"]
    assert cells["preference pairs"] == ["4", "0", "1"]
    assert cells["evaluation prompts"] == ["1"]
    assert cells["prompts"] == ["3.8", "6", "6"]
    text = "\n".join(lines)
    assert "in 62.5% of training pairs" in text
    assert "prompts cut to fit: 2" in text
    assert "rows left out: 3 ties" in text


def test_more_than_a_tenth_of_the_prompts_cut_is_said():
    # DATA has 4 distinct prompts: 0 of them is no note, 2 is half.
    assert data_statistics(DATA, count_words)["notes"] == []
    (note,) = data_statistics(DATA, count_words, truncated_prompts=2)["notes"]
    assert note.startswith("2 of 4 prompts (50%) are cut") and "budget.max_prompt_tokens" in note
    assert f"note: {note}" in format_statistics(data_statistics(DATA, count_words, truncated_prompts=2))


def test_next_to_no_test_prompts_of_own_files_are_said():
    (note,) = data_statistics(replace(DATA, source={"name": "files"}), count_words)["notes"]
    assert note.startswith("1 test prompts decide next to nothing") and "data.test_fraction=0.3" in note


def test_texts_are_tokenised_together_and_others_when_they_come():
    calls: list[list[str]] = []

    def tokenize(texts: list[str]) -> list[list[int]]:
        calls.append(texts)
        return [list(range(len(text.split()))) for text in texts]

    count = counted_at_once(DATA, tokenize)
    assert len(calls) == 1 and len(calls[0]) == len(set(calls[0]))
    for prompt in DATA.eval_prompts:
        assert count(prompt.prompt) == len(prompt.prompt.split())
    assert len(calls) == 1
    assert count("three other words") == 3 and calls[1:] == [["three other words"]]
