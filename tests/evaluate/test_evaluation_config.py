from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from bench.errors import ConfigError
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.judges.config import JudgeConfig

CONF = Path(__file__).parents[2] / "conf"
FILES = [
    (EvaluationConfig, CONF / "evaluation" / "default.yaml"),
    (JudgeConfig, CONF / "judge" / "default.yaml"),
]


@pytest.mark.parametrize(("config", "path"), FILES)
def test_yaml_has_the_fields_of_the_dataclass_each_with_a_comment(config, path):
    lines = path.read_text(encoding="utf-8").splitlines()
    values = yaml.safe_load("\n".join(lines))
    assert list(values) == [field.name for field in fields(config)]
    config(**values)
    for name in values:
        above = lines[next(i for i, line in enumerate(lines) if line.startswith(f"{name}:")) - 1]
        assert above.startswith("# ")


def test_default_yaml_is_the_default():
    values = yaml.safe_load((CONF / "evaluation" / "default.yaml").read_text(encoding="utf-8"))
    assert EvaluationConfig(**values) == EvaluationConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bootstrap_resamples": 99}, r"evaluation\.bootstrap_resamples must be at least 100 .*, got 99"),
        ({"noninferiority_margin": -0.1}, r"evaluation\.noninferiority_margin must be .*, got -0\.1"),
        ({"noninferiority_margin": 0.5}, r"evaluation\.noninferiority_margin must be .*, got 0\.5"),
        ({"cost_tolerance": -1.0}, r"evaluation\.cost_tolerance must be at least 0, got -1\.0"),
        ({"samples_in_report": -1}, r"evaluation\.samples_in_report must be at least 0, got -1"),
    ],
)
def test_evaluation_values_out_of_range(values, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": []}, "judge.names must name at least one judge"),
        (
            {"names": ["gold", "oracle"]},
            "judge.names must be among gold, reward_model, openai, local_llm, human, got 'oracle'",
        ),
        ({"names": ["gold", "gold"]}, "judge.names must name each judge once"),
        ({"names": "gold"}, "judge.names must be a list of judges, got 'gold'"),
        ({"orders": "random"}, "judge.orders must be 'both' or 'one', got 'random'"),
    ],
)
def test_judge_values_out_of_range(values, message):
    with pytest.raises(ConfigError, match=message):
        JudgeConfig(**values)


def test_judge_names_from_yaml_are_kept_in_order():
    assert JudgeConfig(names=["reward_model", "gold"]).names == ("reward_model", "gold")  # pyright: ignore
