"""Words in the scripts that people summarise in; of ASCII those of rouge-score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from bench.data.prompts import tldr_prompt
from bench.evaluate.degeneration import Sampled, copies_post, repeats_itself
from bench.evaluate.rouge import rouge_scores
from bench.evaluate.rules import longer_wins
from bench.evaluate.words import words
from bench.records import PreferencePair


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_those_of_rouge_score(text: str):
    assert list(words(text)) == tokenize(text, None)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Я не знаю, что делать!", ["я", "не", "знаю", "что", "делать"]),
        ("मेरी बिल्ली खो गई।", ["मेरी", "बिल्ली", "खो", "गई"]),  # vowel signs and the virama belong to their word
        ("我的猫丢了。", ["我", "的", "猫", "丢", "了"]),
        ("ねこが3匹", ["ね", "こ", "が", "3", "匹"]),
        ("ที่นี่", ["ที่", "นี่"]),  # a consonant with its marks
        ("고양이가 없어요", ["고양이가", "없어요"]),
        ("قطتي ضاعت؟", ["قطتي", "ضاعت"]),
        ("l\u2019été à Zürich", ["l", "été", "à", "zürich"]),
        ("e\u0301te\u0301", ["été"]),  # composed and decomposed are one
        ("m² 3\ufe0f\u20e3 ½ 😀", ["m", "3"]),  # neither superscripts nor emoji are words, as in rouge-score
    ],
)
def test_words_of_other_scripts(text: str, expected: list[str]):
    assert list(words(text)) == expected


@pytest.mark.parametrize("text", ["我的猫丢了我很难过", "मेरी बिल्ली खो गई", "Моя кошка пропала", "แมวของฉันหาย"])
def test_rouge_of_identical_texts_is_one_in_every_script(text: str):
    assert all(scores == [1.0] for scores in rouge_scores([text], [text]).values())


def test_rouge_of_other_scripts_by_hand():
    # 我的猫 against 我的狗: two of three characters, one of two pairs.
    scores = rouge_scores(["我的猫", "está"], ["我的狗", "estó"])

    assert scores["rouge1"] == pytest.approx([2 / 3, 0])
    assert scores["rouge2"] == pytest.approx([1 / 2, 0])
    assert scores["rougeL"] == pytest.approx([2 / 3, 0])


def test_lsum_takes_chinese_sentences_apart():
    # The sentences of the one stand in the other in another order: each is found whole.
    scores = rouge_scores(["猫丢了。我难过。"], ["我难过。猫丢了。"])

    assert scores["rougeLsum"] == [1.0]
    assert scores["rougeL"] == pytest.approx([1 / 2])  # 3 of 6 in order


def test_the_longer_one_is_longer_in_every_script():
    pairs = [PreferencePair("1", "p", "我的猫昨天丢了", "我的猫"), PreferencePair("2", "p", "кошка", "моя кошка ушла")]

    assert longer_wins(pairs) == [1.0, 0.0]


def test_copying_and_repetition_are_found_in_chinese():
    post = tldr_prompt("cats", "猫", "我的猫昨天晚上从窗户跑出去了 到现在还没有回来。")

    assert copies_post(Sampled(post, "猫昨天晚上从窗户跑出去了"))
    assert not copies_post(Sampled(post, "猫丢了怎么办"))
    assert repeats_itself(Sampled(post, "我不知道我不知道我不知道"))
