import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from bench.errors import DataError
from bench.evaluate import lcs
from bench.evaluate.rouge import Rouge, one_sentence_per_line, rouge_estimates, rouge_scores

REFERENCE = "the cat sat on the mat"  # 6 tokens, 5 bigrams
PREDICTION = "the cat on a mat"  # 5 tokens, 4 bigrams


def f1(overlap: int, predicted: int, referenced: int) -> float:
    return 2 * overlap / (predicted + referenced)


def test_overlaps_counted_by_hand():
    scores = rouge_scores([PREDICTION], [REFERENCE])
    assert scores["rouge1"] == [pytest.approx(f1(4, 5, 6))]  # the (once), cat, on, mat
    assert scores["rouge2"] == [pytest.approx(f1(1, 4, 5))]  # the cat
    assert scores["rougeL"] == [pytest.approx(f1(4, 5, 6))]  # the cat .. on .. mat
    assert scores["rougeLsum"] == [pytest.approx(f1(4, 5, 6))]  # one sentence each


@pytest.mark.parametrize("between", [" ", "\n"])
def test_lsum_forgives_the_order_of_sentences_and_l_does_not(between):
    scores = rouge_scores([f"dogs bark loud.{between}cats sleep long!"], ["cats sleep long! dogs bark loud."])
    assert scores["rougeL"] == [pytest.approx(f1(3, 6, 6))]
    assert scores["rougeLsum"] == [pytest.approx(f1(6, 6, 6))]


def test_lsum_of_lines_is_the_union_of_their_common_subsequences():
    # Lin 2004, section 3.2: the lines share w1 w3 w5 and w1 w2 with the reference, in union 4 of its 5 words, and have
    # 10 words. A sentence's end is a line's end.
    reference, written = "w1 w2 w3 w4 w5", ("w1 w3 w8 w9 w5", "w1 w2 w6 w7 w8")
    for prediction in ("\n".join(written), ". ".join(written)):
        scores = rouge_scores([prediction], [reference])
        assert scores["rougeLsum"] == [pytest.approx(f1(4, 10, 5))]
        assert scores["rougeL"] == [pytest.approx(f1(3, 10, 5))]  # w1 w3 w5, as one text


def test_values_of_the_metric_card():
    """The examples of the card of `evaluate`'s own rouge."""
    same = rouge_scores(["hello there", "general kenobi"], ["hello there", "general kenobi"], use_stemmer=False)
    assert same == {name: [1.0, 1.0] for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")}
    # The card prints 0.5 for the first, which is its precision; 1 word of 2 written and 1 asked for has F1 2/3.
    other = rouge_scores(["hello goodbye", "ankh morpork"], ["goodbye", "general kenobi"], use_stemmer=False)
    assert other["rouge1"] == [pytest.approx(f1(1, 2, 1)), 0.0]


@pytest.mark.parametrize("use_stemmer", [True, False])
def test_it_is_rouge_score(use_stemmer):
    predictions = ["The cats sat.\nDogs barked loudly", "Nothing of this", "cat, dog; CAT", "???", "café naïve"]
    references = ["A cat sits and the dogs bark.\nIt was loud", "all of that!", "dog cat", "what", "cafe naive"]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=use_stemmer)
    expected = [scorer.score(reference, text) for reference, text in zip(references, predictions, strict=True)]
    found = rouge_scores(predictions, references, use_stemmer)
    for name, scores in found.items():
        assert scores == [score[name].fmeasure for score in expected]
    assert 0 < found["rouge1"][0] < 1


@pytest.mark.parametrize("use_stemmer", [True, False])
def test_it_is_rouge_score_whatever_the_texts(use_stemmer):
    """Words come again and again, so that many longest common subsequences are to choose from."""
    rng, words = random.Random(0), "a b cats cat running runs x.y Don't \n ?".split(" ")
    ends = ["", "", ".", "!\n"]
    texts = [" ".join(rng.choice(words) + rng.choice(ends) for _ in range(rng.randint(0, 40))) for _ in range(600)]
    references, predictions = texts[::2], texts[1::2]
    types = ["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"]
    scorer = RougeScorer(types, use_stemmer=use_stemmer)
    expected = [
        scorer.score(one_sentence_per_line(reference), one_sentence_per_line(text))
        for reference, text in zip(references, predictions, strict=True)
    ]
    for name, scores in rouge_scores(predictions, references, use_stemmer, types).items():
        assert scores == [score[name].fmeasure for score in expected]


def test_steps_grow_with_one_text_alone(monkeypatch):
    """A table has a cell for each two words; here a word of the reference is a step, however long the prediction is."""
    steps = []
    monkeypatch.setattr(lcs, "rows", lambda a, b, length, rows=lcs.rows: steps.append(len(a)) or rows(a, b, length))
    for words in (10, 1000):
        steps.clear()
        rouge_scores([" ".join([REFERENCE.split()[0], *(f"w{i}" for i in range(words))])], [REFERENCE])
        assert sum(steps) == 2 * 6  # for rougeL, and for the one sentence of rougeLsum


def test_stemmer_matches_forms_of_a_word():
    assert rouge_scores(["invited"], ["invites"], use_stemmer=True)["rouge1"] == [1.0]
    assert rouge_scores(["invited"], ["invites"], use_stemmer=False)["rouge1"] == [0.0]


def test_empty_prediction_scores_nothing():
    assert {name: scores[0] for name, scores in rouge_scores([""], [REFERENCE]).items()} == {
        "rouge1": 0,
        "rouge2": 0,
        "rougeL": 0,
        "rougeLsum": 0,
    }


def test_estimate_is_the_mean_over_prompts():
    predictions = [PREDICTION, REFERENCE, "dogs"] * 5
    found = rouge_estimates(predictions, [REFERENCE] * 15, seed=0)
    assert list(found) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert found["rouge1"]["value"] == pytest.approx((f1(4, 5, 6) + 1 + 0) / 3)
    assert found["rouge2"]["value"] == pytest.approx((f1(1, 4, 5) + 1 + 0) / 3)
    low, high = found["rouge1"]["ci95"]
    assert low < found["rouge1"]["value"] < high
    assert found["rouge1"]["n"] == 15


def test_metric_collects_batches_as_any_of_evaluate(tmp_path):
    metric = Rouge(keep_in_memory=True, cache_dir=str(tmp_path))
    metric.add_batch(predictions=[PREDICTION], references=[REFERENCE])
    metric.add_batch(predictions=["dogs"], references=[REFERENCE])
    scores = metric.compute()
    assert scores is not None
    assert scores["rouge1"] == [pytest.approx(f1(4, 5, 6)), 0.0]


@pytest.mark.parametrize(("predictions", "references"), [(["a"], ["a", "b"]), ([], [])])
def test_one_reference_per_prediction(predictions, references):
    with pytest.raises(DataError, match=f"{len(predictions)} predictions and {len(references)} references"):
        rouge_scores(predictions, references)
