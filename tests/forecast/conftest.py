"""A small built-in world and its tokenizer; `forecast_world` has the run."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from bench.config import RunConfig
from bench.forecast.rows import RunRows, rows_of_run
from bench.forecast.shape import ModelShape, model_shape
from bench.pipeline.runner import prepare_data
from bench.records import ComparisonData

sys.path.append(str(Path(__file__).parent))  # forecast_world, which the tests share

from forecast_world import CONFIG


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[ComparisonData, PreTrainedTokenizerBase, Path]:
    """The world's data, the tokenizer, and a cache folder."""
    folder = tmp_path_factory.mktemp("forecast")
    data, tokenizer, _ = prepare_data(CONFIG, folder)
    return data, tokenizer, folder


@pytest.fixture(scope="session")
def rows(prepared: tuple[ComparisonData, PreTrainedTokenizerBase, Path]) -> RunRows:
    return rows_of_run(prepared[0], prepared[1])


@pytest.fixture(scope="session")
def shape(prepared: tuple[ComparisonData, PreTrainedTokenizerBase, Path]) -> ModelShape:
    _, tokenizer, folder = prepared
    return model_shape(CONFIG.model, tokenizer, folder)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., RunConfig]:
    """make_config(field=value, ...): the run with these fields changed."""
    return lambda **changes: replace(CONFIG, **{"results_dir": str(tmp_path), **changes})
