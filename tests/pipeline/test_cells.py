"""Evaluation sets and temperatures: the same policies, sampled and judged anew and nothing trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config import RunConfig
from bench.data import ArticlesConfig, SyntheticConfig
from bench.data.evaluation_sets import EvalSetConfig
from bench.errors import ConfigError, DataError
from bench.evaluate.best_of_n import BestOfNSettings
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.judges.config import JudgeConfig, JudgeInstance, LocalLLMJudgeConfig
from bench.files import read_json, read_jsonl, write_jsonl
from bench.pipeline.cells import cells, validation_prompts
from bench.pipeline.runner import prepare_data, run
from bench.train.settings.samples import SamplesSettings

ARMS = ("sft", "best_of_n", "dpo")
TEMPERATURES = (0.0, 1.0)


def evaluation(*temperatures: float) -> EvaluationConfig:
    return EvaluationConfig(bootstrap_resamples=100, temperatures=temperatures)


def grid_of(config: RunConfig, tmp_path: Path) -> list[tuple[str, float, int]]:
    data, tokenizer, _ = prepare_data(config, tmp_path)
    headline, grid = cells(config, data, tokenizer)
    assert (headline.set, headline.temperature) == ("test", config.sampling.temperature)
    return [(cell.set, cell.temperature, len(cell.data.eval_prompts)) for cell in grid]


def test_a_run_has_one_cell_unless_it_asks_for_others(make_config: Callable[..., RunConfig], tmp_path: Path):
    assert grid_of(make_config(), tmp_path) == []
    assert grid_of(make_config(evaluation=evaluation(0.7)), tmp_path) == []
    assert grid_of(make_config(evaluation=evaluation(1.0, 0.0)), tmp_path) == [("test", 0.0, 4), ("test", 1.0, 4)]


def test_every_set_has_every_temperature(make_config: Callable[..., RunConfig], tmp_path: Path):
    config = make_config(evaluation=evaluation(1.0), sets={"validation": EvalSetConfig(split="validation", prompts=3)})
    assert grid_of(config, tmp_path) == [("test", 1.0, 4), ("validation", 0.7, 3), ("validation", 1.0, 3)]


def test_validation_posts_are_no_test_posts_and_keep_their_truth(make_config: Callable[..., RunConfig], tmp_path: Path):
    config = make_config(sets={"validation": EvalSetConfig(split="validation")})
    data, tokenizer, _ = prepare_data(config, tmp_path)
    _, (cell,) = cells(config, data, tokenizer)
    assert not {p.id for p in cell.data.eval_prompts} & {p.id for p in data.eval_prompts}
    assert {p.id for p in cell.data.eval_prompts} <= {p.id for p in validation_prompts(data)}
    assert cell.data.gold is not None
    assert cell.data.gold([(cell.data.eval_prompts[0].id, "")]) == [
        0.0
    ]  # as the built-in world has it of an empty summary
    assert cell.data.preferences == data.preferences


def test_a_set_without_prompts(make_config: Callable[..., RunConfig], tmp_path: Path):
    path = tmp_path / "news.jsonl"
    write_jsonl(path, [{"id": "a", "article": "Something.", "highlights": "It."}])
    empty = EvalSetConfig(data=ArticlesConfig(str(path)), split="validation")
    with pytest.raises(DataError, match="evaluation set other has no prompts"):
        grid_of(make_config(sets={"other": empty}), tmp_path)


def test_articles_with_cnn_dm_columns(make_config: Callable[..., RunConfig], tmp_path: Path):
    path = tmp_path / "news.jsonl"
    write_jsonl(
        path, [{"id": f"a{i}", "article": f"The mayor said {i} things.", "highlights": f"{i}."} for i in range(3)]
    )
    config = make_config(
        judge=JudgeConfig(names=("gold", "reward_model")),
        sets={"news": EvalSetConfig(ArticlesConfig(str(path)), text="news")},
        samples_in_training=SamplesSettings(points=2, keep_best="gold"),
    )
    data, tokenizer, _ = prepare_data(config, tmp_path)
    _, (cell,) = cells(config, data, tokenizer)
    assert cell.data.eval_prompts[0].prompt == "Article:\nThe mayor said 0 things.\n\nTL;DR:"
    assert cell.config.judge.names == ("reward_model",)  # nobody knows the truth there
    assert cell.config.samples_in_training.keep_best is None  # chosen is by the headline's judge, once
    with pytest.raises(ConfigError, match=r"sets\.news\.data has no truth for the judge gold"):
        replace(config, judge=JudgeConfig(names=("gold",)))


def test_articles_that_are_none(make_config: Callable[..., RunConfig], tmp_path: Path):
    path = tmp_path / "news.csv"
    config = make_config(sets={"news": EvalSetConfig(ArticlesConfig(str(path)), text="news")})
    with pytest.raises(DataError, match=r"news\.csv: cannot be read .*set path"):
        grid_of(config, tmp_path)
    path.write_text("id,article,summary\n1,Something,short\n")
    with pytest.raises(
        DataError, match=r"no column 'highlights' \(columns: id, article, summary\); set sets\.<name>\.data\.summary"
    ):
        grid_of(config, tmp_path)
    path.write_text("id,article,highlights\n1,Something,short\n1,Other,short\n")
    with pytest.raises(DataError, match=r"news\.csv: two articles have the id '1'.*or set sets\.<name>\.data\.id=null"):
        grid_of(config, tmp_path)
    lines = ['{"article": "half \\ud800 pair", "highlights": "short"}']
    path.with_suffix(".jsonl").write_text("\n".join(lines))
    half = EvalSetConfig(ArticlesConfig(str(path.with_suffix(".jsonl"))))
    with pytest.raises(DataError, match="'article' holds half a surrogate pair"):
        grid_of(replace(config, sets={"news": half}), tmp_path)


def test_articles_are_cleaned_and_must_fit_as_the_runs_own_texts(make_config: Callable[..., RunConfig], tmp_path: Path):
    config, path = make_config(), tmp_path / "news.jsonl"
    data, tokenizer, _ = prepare_data(config, tmp_path)
    config = replace(config, sets={"news": EvalSetConfig(ArticlesConfig(str(path)))})
    ended = {"id": None, "article": "Some thing.", "highlights": f"It is.{tokenizer.eos_token}"}
    write_jsonl(path, [ended, ended | {"article": "Another."}])
    _, (cell,) = cells(config, data, tokenizer)
    assert [(p.id, p.reference) for p in cell.data.eval_prompts] == [("0", "It is."), ("1", "It is.")]
    write_jsonl(path, [ended | {"highlights": "word " * 5000}])
    with pytest.raises(
        DataError, match=r"^evaluation set news, test post 0, reference: prompt and summary are .* tokens"
    ):
        cells(config, data, tokenizer)


def test_posts_that_were_trained_on_are_no_evaluation_set(make_config: Callable[..., RunConfig], tmp_path: Path):
    config = make_config()
    data, _, _ = prepare_data(config, tmp_path)
    path = tmp_path / "news.jsonl"
    text = data.preferences["train"][0].prompt.split("POST: ")[1].split("\n")[0]
    write_jsonl(path, [{"id": "x", "article": text, "highlights": "short"}])
    with pytest.raises(DataError, match="evaluation set news shares 1 posts with the training data"):
        grid_of(replace(config, sets={"news": EvalSetConfig(ArticlesConfig(str(path)))}), tmp_path)


def test_judges_are_asked_about_the_kind_of_text_that_a_set_has():
    asked = LocalLLMJudgeConfig(name="x")
    judge = JudgeConfig(
        names=("local_llm", "terse"),
        local_llm=asked,
        instances={"terse": JudgeInstance(local_llm=replace(asked, prompt="concise"))},
    )
    about = judge.about("news")
    assert about.local_llm is not None and about.local_llm.prompt == "simple_news"
    assert about.instances is not None and about.instances["terse"].local_llm.prompt == "concise_news"
    assert judge.local_llm.prompt == "simple"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"test": EvalSetConfig(split="validation")}, "sets must be a plain name .* other than test"),
        ({"a b": EvalSetConfig(split="validation")}, "sets must be a plain name"),
    ],
)
def test_names_of_sets(sets: Any, message: str, make_config: Callable[..., RunConfig]):
    with pytest.raises(ConfigError, match=message):
        make_config(sets=sets)
    with pytest.raises(ConfigError, match="split must be validation where"):
        EvalSetConfig()


@pytest.mark.long
@pytest.mark.slow
def test_a_temperature_more_costs_sampling_and_judging_alone(make_config: Callable[..., RunConfig]):
    config = make_config(arms=ARMS, best_of_n=BestOfNSettings(n=2))
    first = run(config, "the command")
    before = {path.name for path in (Path(config.results_dir) / ".cache/stages").glob("[a-z]*")}

    folder = run(replace(config, evaluation=evaluation(*TEMPERATURES)), "the command")
    made = {path.name for path in (Path(config.results_dir) / ".cache/stages").glob("[a-z]*")} - before

    assert sorted(name.rpartition("-")[0] for name in made) == sorted(
        2 * [*(f"generate_{arm}" for arm in ARMS), "best_of_n"]
    )
    metrics, alone = read_json(folder / "metrics.json"), read_json(first / "metrics.json")
    assert metrics["cell"] == {"set": "test", "temperature": 0.7}
    for arm in ARMS:  # the headline is what it is without the grid
        assert metrics["arms"][arm]["win_rate"] == alone["arms"][arm]["win_rate"]
    where = [(row["set"], row["temperature"], row["n_prompts"]) for row in metrics["grid"]]
    assert where == [("test", 0, 4), ("test", 1, 4)]
    greedy, warm = metrics["grid"]
    assert greedy["arms"]["dpo"]["kl_ref"]["value"] is None and "greedy" in greedy["arms"]["dpo"]["kl_ref"]["reason"]
    assert warm["arms"]["dpo"]["kl_ref"]["estimator"] == "exact"
    # Greedy samples are all the same: the best of them is the SFT model's own.
    (of_sft, of_best) = (
        [row["completion"] for row in read_jsonl(folder / f"grid/test-t0/completions/{arm}.jsonl")]
        for arm in ("sft", "best_of_n")
    )
    assert of_sft == of_best
    for cell in ("test-t0", "test-t1"):
        assert len(read_jsonl(folder / "grid" / cell / "verdicts/gold.jsonl")) == 2 * 4 * 6
        assert len(read_jsonl(folder / "grid" / cell / "prompts.jsonl")) == 4


def test_the_grid_of_a_finished_run_has_what_the_headline_has(make_config: Callable[..., RunConfig]):
    config = make_config(arms=("sft", "dpo"), sets={"validation": EvalSetConfig(split="validation")})
    metrics = read_json(run(config, "the command") / "metrics.json")
    (row,) = metrics["grid"]
    assert row["set"] == "validation" and row["head_to_head"].keys() == metrics["head_to_head"].keys()
    assert row["arms"].keys() == metrics["arms"].keys()
    for arm in ("sft", "dpo"):
        assert row["arms"][arm].keys() == metrics["arms"][arm].keys() - {"cost"}
    assert row["judges"].keys() == metrics["judges"].keys()
    assert isinstance(config.data, SyntheticConfig)
