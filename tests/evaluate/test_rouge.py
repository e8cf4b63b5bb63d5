import pytest

from bench.errors import DataError
from bench.evaluate.rouge import Rouge, rouge_estimates, rouge_scores

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
