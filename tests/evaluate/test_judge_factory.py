from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from bench.errors import ConfigError, DataError, ResourceError
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.config import HumanJudgeConfig, JudgeConfig, LocalLLMJudgeConfig, OpenAIJudgeConfig
from bench.evaluate.judges.factory import ask_ahead, build_judges, check_judges

CONF = Path(__file__).parents[2] / "conf" / "judge"
OPENAI = OpenAIJudgeConfig(model="m", api_key_env=None)
ITEM = JudgeItem("p", "post", "first", "second")


def test_judges_come_in_the_order_of_their_names(tmp_path: Path):
    config = JudgeConfig(names=("openai", "gold", "reward_model"), openai=OPENAI)

    judges = build_judges(
        config, gold=lambda _, text: float(len(text)), reward_score=lambda rows: [0.0, 1.0], cache_dir=tmp_path, seed=0
    )

    assert [judge.name for judge in judges] == ["openai", "gold", "reward_model"]
    assert judges[0].prompt_hash and judges[1].prompt_hash == judges[2].prompt_hash == ""
    assert [judge.judge([ITEM]) for judge in judges[1:]] == [["b"], ["b"]]
    assert [path.name for path in (tmp_path / "verdicts").glob("*.sqlite")] == ["answers.sqlite"]


@pytest.mark.parametrize("name", ["gold", "reward_model"])
def test_a_judge_that_has_nothing_to_judge_by(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match=rf"^judge\.names has {name}, "):
        build_judges(JudgeConfig(names=(name,)), gold=None, reward_score=None, cache_dir=tmp_path, seed=0)


def test_people_are_sent_one_file_for_the_whole_run(tmp_path: Path):
    """And the judges that need no announcement are left alone."""
    config = JudgeConfig(names=("gold", "human"), orders="one", human=HumanJudgeConfig(str(tmp_path / "v.csv")))
    judges = build_judges(config, gold=lambda *_: pytest.fail("asked"), reward_score=None, cache_dir=tmp_path, seed=0)
    items = [JudgeItem("p", "post", "first", f"second of arm {i}") for i in range(3)]

    with pytest.raises(ResourceError, match="no verdict on 3 of 3 pairs"):
        ask_ahead(judges, items)


def test_what_would_fail_at_the_end_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ConfigError, match="names JUDGE_KEY, which is not set"):
        check_judges(JudgeConfig(names=("openai",), openai=OpenAIJudgeConfig(model="m", api_key_env="JUDGE_KEY")))
    check_judges(JudgeConfig(openai=OpenAIJudgeConfig(model="m", api_key_env="JUDGE_KEY")))  # it does not judge

    path = tmp_path / "v.csv"
    config = JudgeConfig(names=("human",), orders="one", human=HumanJudgeConfig(str(path)))
    check_judges(config)  # to be exported
    path.write_text("pair_id,verdict\nx,perhaps\n")
    with pytest.raises(DataError, match="row 1: verdict 'perhaps'"):
        check_judges(config)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_is_a_judge(path: Path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    kinds = {"openai": OpenAIJudgeConfig, "local_llm": LocalLLMJudgeConfig, "human": HumanJudgeConfig}
    groups = {name: kind(**values[name]) for name, kind in kinds.items() if values[name] is not None}

    config = JudgeConfig(**{**values, **groups})

    assert set(config.names) & set(kinds) == set(groups)
    for name in groups:
        assert list(values[name]) and set(values[name]) == {field.name for field in fields(kinds[name])}
    prompt = next((values[name]["prompt"] for name in ("openai", "local_llm") if values[name]), None)
    assert prompt == ("concise" if path.stem.endswith("concise") else "simple" if prompt else None)


@pytest.mark.parametrize("name", ["openai", "local_llm", "human"])
def test_a_judge_without_its_settings(name: str):
    with pytest.raises(ConfigError, match=rf"needs the settings judge\.{name}: take them from judge={name}, got"):
        JudgeConfig(names=(name,), orders="one")


def test_people_see_a_pair_once():
    with pytest.raises(ConfigError, match=r"^judge\.orders must be 'one' with the judge human, got 'both'$"):
        JudgeConfig(names=("human",), human=HumanJudgeConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": " "}, "model must name the model to ask, got ' '"),
        ({"base_url": "localhost:8000"}, "base_url must begin with http:// or https://, got 'localhost:8000'"),
        ({"api_key_env": "sk-secret"}, "api_key_env must be the name of an environment variable, got 'something else'"),
        ({"prompt": "simpel"}, "prompt must be one of concise, concise_news, simple, simple_news or a text file"),
        ({"temperature": -1.0}, "temperature must be at least 0, or null, got -1.0"),
        ({"max_answer_tokens": 0}, "max_answer_tokens must be at least 1, got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0, got 0.0"),
        ({"max_attempts": 0}, "max_attempts must be at least 1, got 0"),
        ({"retry_wait_s": -1.0}, "retry_wait_s must be at least 0, got -1.0"),
        ({"max_requests": 0}, "max_requests must be at least 1, or null, got 0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, or null, got 0"),
        ({"price_per_million_prompt_tokens": -0.1}, "price_per_million_prompt_tokens must be at least 0, or null"),
    ],
)
def test_settings_of_openai_out_of_range(values, message):
    with pytest.raises(ConfigError) as refused:
        OpenAIJudgeConfig(**{"model": "m", **values})
    assert str(refused.value).startswith(f"judge.openai.{message}")


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="must hold no secret") as refused:
        OpenAIJudgeConfig(model="m", base_url="https://me:hunter2@example.org/v1")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "name must name a model, got ''"),
        ({"kind": "tiny"}, "kind must be wheel or hub, got 'tiny'"),
        ({"precision": "fp8"}, "precision must be auto, fp32 or bf16, got 'fp8'"),
        ({"prompt": "no such"}, "prompt must be one of concise"),
        ({"method": "vote"}, "method must be likelihood or text, got 'vote'"),
        ({"tie_margin": -1.0}, "tie_margin must be at least 0 (nats), got -1.0"),
        ({"max_answer_tokens": 0}, "max_answer_tokens must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_settings_of_local_llm_out_of_range(values, message):
    with pytest.raises(ConfigError) as refused:
        LocalLLMJudgeConfig(**{"name": "m", **values})
    assert str(refused.value).startswith(f"judge.local_llm.{message}")


def test_verdicts_of_people_have_a_known_format():
    with pytest.raises(ConfigError, match=r"^judge\.human\.verdicts must be a \.csv or \.jsonl file, got 'v\.xlsx'$"):
        HumanJudgeConfig("v.xlsx")
