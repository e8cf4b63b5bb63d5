"""The table of metrics: each row gives the number that its own function gives, with its interval and n."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

from bench.data.prompts import cnn_dm_prompt, tldr_prompt
from bench.errors import ConfigError, ResourceError
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.statistics import bootstrap_mean, proportion_interval
from bench.evaluate.summary_metrics import (
    DEFAULT_METRICS,
    METRICS,
    Summary,
    check_models,
    descriptions,
    summary_estimates,
)
from bench.evaluate.text_models import TextModels
from bench.evaluate.words import words

PROMPT = tldr_prompt("family", "My sister", "She sold my guitar in Denver for 200 dollars. Should I call a lawyer?")
TEXTS = [
    "my sister sold my guitar",  # all its words are there; 5 words of 15
    "she sold it in Boston for 300 dollars",  # a number and a name that are not
    "Sold Guitar, Need A Lawyer",  # a title: names cannot be told
    "",
]


@pytest.fixture
def no_models(tmp_path: Path) -> TextModels:
    return TextModels({"embedding_model": None, "nli_model": None}, torch.device("cpu"), tmp_path)


def test_what_a_writer_could_read():
    assert Summary.of(PROMPT, "x").source == (
        "My sister\nShe sold my guitar in Denver for 200 dollars. Should I call a lawyer?"
    )
    assert Summary.of(cnn_dm_prompt("A storm."), "x").source == "A storm."
    assert Summary.of("A prompt of another kind:", "x").source == "A prompt of another kind:"


def test_estimates_are_means_over_those_that_a_metric_applies_to(no_models: TextModels):
    rows = [Summary.of(PROMPT, text) for text in TEXTS]
    found = summary_estimates(rows, DEFAULT_METRICS, no_models, seed=3, resamples=200)

    assert list(found) == list(DEFAULT_METRICS)
    numbers = proportion_interval([0, 1, 0, 0], 3, 200)
    assert found["novel_numbers"] == {"value": 0.25, "ci95": [numbers.low, numbers.high], "n": 4}
    assert (found["novel_names"]["value"], found["novel_names"]["n"]) == (1 / 3, 3)
    # my sister, sold my guitar; she sold, in, for, dollars; sold, guitar, a lawyer.
    assert found["coverage"]["value"] == pytest.approx((5 / 5 + 5 / 8 + 4 / 5) / 3)
    compressions = bootstrap_mean([16 / 5, 16 / 8, 16 / 5], 3, 200)
    assert found["compression"]["value"] == pytest.approx(compressions.value)
    assert found["compression"]["ci95"] == [compressions.low, compressions.high]
    assert found["distinct_1"]["value"] == pytest.approx(14 / 18)
    assert found["density"]["n"] == found["novel_trigrams"]["n"] == 3


def test_a_post_is_read_once_for_all_metrics_of_its_summary(no_models: TextModels):
    """Of more posts than are remembered: were they read for one metric after the other, each would be read 5 times."""
    rows = [Summary(f"summary {i}", f"a post about {i}") for i in range(1500)]
    metrics = ["coverage", "density", "compression", "novel_bigrams", "novel_trigrams"]
    words.cache_clear()
    summary_estimates(rows, metrics, no_models, seed=0, resamples=100)
    assert words.cache_info().misses == 2 * 1500


def test_without_words_there_is_no_value(no_models: TextModels):
    found = summary_estimates([Summary.of(PROMPT, "")], ["density", "novel_bigrams"], no_models, seed=0)
    assert list(found.values()) == [{"value": None, "ci95": None, "n": 0}] * 2


def test_a_row_tells_a_reader_what_it_is():
    assert set(descriptions(METRICS)) == set(METRICS)  # pyright: ignore[reportArgumentType]
    for told in descriptions(METRICS).values():  # pyright: ignore[reportArgumentType]
        assert set(told) == {"title", "unit", "note"} and told["title"] and told["unit"] in ("share", "number")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ("coverage", "bleu")}, "^evaluation.metrics must be among novel_numbers, .*, got 'bleu'"),
        ({"metrics": ("coverage", "coverage")}, "^evaluation.metrics must name each metric once"),
        ({"metrics": "coverage"}, "^evaluation.metrics must be a list of metrics"),
        ({"metrics": ("nli",)}, "^evaluation.nli_model must name a model, which the metric nli needs, got None"),
    ],
)
def test_metrics_that_cannot_be_are_refused(values: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**values)


VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] my sister sold guitar she a lawyer called . he left".split()


@pytest.fixture
def bert(tmp_path: Path):
    """bert(labels): a folder with a tiny BERT of random weights; without labels one that embeds."""

    def build(labels: Sequence[str] = ()) -> Path:
        folder = tmp_path / f"bert{len(labels)}"
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
            initializer_range=0.2,
            id2label=dict(enumerate(labels)) or None,
        )
        torch.manual_seed(0)
        (BertForSequenceClassification(config) if labels else BertModel(config)).save_pretrained(folder)
        return folder

    return build


def models(tmp_path: Path, **names: Path) -> TextModels:
    return TextModels({name: str(path) for name, path in names.items()}, torch.device("cpu"), tmp_path)


def test_similarity_is_the_cosine_of_mean_states(bert, tmp_path: Path):
    """In batches with padding as one by one without."""
    folder = bert()
    model, tokenizer = BertModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def mean_state(text: str) -> torch.Tensor:
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)

    posts = ["my sister sold my guitar", "he left . she called a lawyer .", "he"]
    texts = ["she sold a guitar", "he left", "lawyer lawyer lawyer"]
    rows = [Summary(text, post) for text, post in zip([*texts, ""], [*posts, "he"], strict=True)]
    found = METRICS["embedding"].measure(rows, models(tmp_path, embedding_model=folder))

    pairs = zip(texts, posts, strict=True)
    expected = [torch.cosine_similarity(mean_state(text), mean_state(post), dim=0).item() for text, post in pairs]
    assert found[:3] == pytest.approx(expected, abs=1e-5)  # other batches, other kernels
    assert found[3] is None
    assert max(expected) - min(expected) > 0.01  # they are told apart


def test_entailment_is_of_the_best_sentence_for_each(bert, tmp_path: Path):
    """SummaC-ZS: the mean, over the summary's sentences, of the largest P(entailment) over the post's."""
    labels = ["contradiction", "Entailment", "neutral"]
    folder = bert(labels)
    model, tokenizer = (
        BertForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )

    def probability(premise: str, hypothesis: str) -> float:
        with torch.no_grad():
            logits = model(**tokenizer(premise, hypothesis, return_tensors="pt")).logits[0].tolist()
        return math.exp(logits[1]) / sum(map(math.exp, logits))

    post = ["my sister sold my guitar.", "he left.", "she called a lawyer."]
    summary = ["my sister left.", "he called."]
    rows = [Summary(" ".join(summary), " ".join(post)), Summary("", "he left."), Summary("he left.", "she called.")]
    found = METRICS["nli"].measure(rows, models(tmp_path, nli_model=folder))

    best = [max(probability(premise, sentence) for premise in post) for sentence in summary]
    assert found == [
        pytest.approx(sum(best) / 2, abs=1e-5),
        None,
        pytest.approx(probability("she called.", "he left."), abs=1e-5),
    ]


def test_a_model_that_cannot_tell_entailment_is_refused_before_anything_runs(bert, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^evaluation.nli_model must have a label 'entailment', got .* good, bad"):
        check_models(["nli"], models(tmp_path, nli_model=bert(["good", "bad"])))


def test_a_model_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path):
    with pytest.raises(ResourceError, match=r"is not there: .*or use evaluation.metrics without the metric"):
        check_models(["coverage", "embedding"], models(tmp_path, embedding_model=tmp_path / "nowhere"))
    check_models(["coverage"], models(tmp_path, embedding_model=tmp_path / "nowhere"))  # nobody asks for it
