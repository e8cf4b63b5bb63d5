from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.cli.bind import bind_to
from bench.errors import ConfigError, DataError, ResourceError
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.config import (
    HumanJudgeConfig,
    JudgeConfig,
    JudgeInstance,
    LocalLLMJudgeConfig,
    OpenAIJudgeConfig,
)
from bench.evaluate.judges.factory import ask_ahead, build_judges, check_judges
from bench.records import one_by_one

OPENAI = OpenAIJudgeConfig(model="m", api_key_env=None)
ITEM = JudgeItem("p", "post", "first", "second")


def test_judges_come_in_the_order_of_their_names(tmp_path: Path):
    config = JudgeConfig(names=("openai", "gold", "reward_model"), openai=OPENAI)

    gold = one_by_one(lambda prompt_id, text: float(len(text)))
    judges = build_judges(config, gold=gold, reward_score=lambda rows: [0.0, 1.0], cache_dir=tmp_path, seed=0)

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


def test_several_judges_of_one_kind(tmp_path: Path):
    concise = replace(OPENAI, prompt="concise")
    people = {f"reader_{i}": JudgeInstance(human=HumanJudgeConfig(str(tmp_path / f"{i}.csv"))) for i in (1, 2)}
    instances = {"concise": JudgeInstance(openai=concise), "elsewhere": JudgeInstance(openai=OPENAI), **people}
    config = JudgeConfig(names=("openai", *instances), orders="one", openai=OPENAI, instances=instances)

    judges = build_judges(config, gold=None, reward_score=None, cache_dir=tmp_path, seed=0)

    assert [judge.name for judge in judges] == ["openai", "concise", "elsewhere", "reader_1", "reader_2"]
    assert judges[0].prompt_hash == judges[2].prompt_hash != judges[1].prompt_hash
    asking = [judge for judge in judges if isinstance(judge, AskingJudge)]
    keys = [judge._question_key(ITEM) for judge in asking]
    assert keys[0] == keys[2] != keys[1]  # the same question by another name is bought once
    assert [judge.key for judge in asking] == [
        "judge.openai", "judge.instances.concise.openai", "judge.instances.elsewhere.openai",
    ]  # fmt: skip
    with pytest.raises(ResourceError, match=r"^judge reader_2: .*2\.csv has no verdict on 1 of 1 pairs"):
        judges[4].judge([ITEM])


def test_an_instance_takes_what_it_does_not_set_from_its_kind():
    values = {
        "names": ["simple", "other"],
        "openai": {"model": "m", "api_key_env": None, "prompt": "simple", "extra_body": {"top_k": 1}},
        "instances": {
            "simple": {"openai": {"prompt": "concise"}},
            "other": {"openai": {"model": "n", "extra_body": {"seed": 1}}},
            "local": {"local_llm": {"name": "x"}},
        },
    }
    config = bind_to(JudgeConfig, values)

    assert config.instances == {
        "simple": JudgeInstance(openai=replace(OPENAI, prompt="concise", extra_body={"top_k": 1})),
        "other": JudgeInstance(openai=replace(OPENAI, model="n", extra_body={"seed": 1})),
        "local": JudgeInstance(local_llm=LocalLLMJudgeConfig("x")),
    }


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ({"a": {}}, "judge.instances.a must hold the settings of one of openai, local_llm, human, got []"),
        ({"a": {"openai": {"model": "m"}, "human": {}}}, "judge.instances.a must hold the settings of one of openai, "),
        ({"gold": {"human": {}}}, "judge.instances.gold must not be the name of something else, got 'gold'"),
        ({"panel": {"human": {}}}, "judge.instances.panel must not be the name of something else, got 'panel'"),
        ({"a/b": {"human": {}}}, "judge.instances.a/b must be a plain name (letters, digits, _ -), got 'a/b'"),
        ({"a": {"openai": {"prompt": "simple"}}}, "judge.instances.a.openai.model must be given"),
        (
            {"a": {"openai": {"model": "m", "promt": "x"}}},
            "unknown config key judge.instances.a.openai.promt; did you ",
        ),
        ({"a": {"openai": {"model": " "}}}, "judge.instances.a.openai.model must name the model to ask, got ' '"),
        ({"a": {"openai": {"model": 3}}}, "judge.instances.a.openai.model must be a text, got 3"),
        ({"a": 3}, "judge.instances.a must be a group of settings, got 3"),
        ([1], "judge.instances must be a group of settings, got [1]"),
    ],
)
def test_instances_that_are_none(instances, message):
    @dataclass(frozen=True)
    class Run:
        judge: JudgeConfig

    with pytest.raises(ConfigError) as refused:
        bind_to(Run, {"judge": {"names": ["gold"], "instances": instances}})
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        (("gold",), "judge.panel must name at least two judges, each once, or be null, got ('gold',)"),
        (("gold", "gold"), "judge.panel must name at least two judges, each once"),
        (("gold", "openai"), "judge.panel must be among judge.names (gold, reward_model), got ['openai']"),
    ],
)
def test_a_panel_that_is_none(panel, message):
    with pytest.raises(ConfigError) as refused:
        JudgeConfig(panel=panel)
    assert str(refused.value).startswith(message)


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
        ({"max_wait_s": -1.0}, "max_wait_s must be at least 0, got -1.0"),
        ({"max_unparsed_in_a_row": 0}, "max_unparsed_in_a_row must be at least 1, or null, got 0"),
        ({"verbatim": True}, "prompt must be a text file with verbatim=true, as simple says nothing of how to answer"),
        ({"extra_body": {"messages": []}}, "extra_body.messages must not be set: the judge sets it itself, got []"),
        ({"max_requests": 0}, "max_requests must be at least 1, or null, got 0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, or null, got 0"),
        ({"price_per_million_prompt_tokens": -0.1}, "price_per_million_prompt_tokens must be at least 0, or null"),
    ],
)
def test_settings_of_openai_out_of_range(values, message):
    with pytest.raises(ConfigError) as refused:
        OpenAIJudgeConfig(**{"model": "m", **values})
    assert str(refused.value).startswith(f"judge.openai.{message}")


SECRET = "abcd-1234-efgh"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"extra_headers": {"Authorization": f"Bearer {SECRET}"}}, "extra_headers.Authorization"),
        ({"extra_headers": {"api-key": SECRET}}, "extra_headers.api-key"),
        ({"extra_headers": {"X-API-Key": SECRET}}, "extra_headers.X-API-Key"),
        ({"extra_headers": {"Ocp-Apim-Subscription-Key": SECRET}}, "extra_headers.Ocp-Apim-Subscription-Key"),
        ({"extra_headers": {"Cookie": SECRET}}, "extra_headers.Cookie"),
        ({"extra_headers": {"X-Session-Token": SECRET}}, "extra_headers.X-Session-Token"),
        ({"extra_headers": {"X-Anything": f"sk-{SECRET}"}}, "extra_headers.X-Anything"),
        ({"extra_headers": {"api-key": f"env:{SECRET}"}}, "extra_headers.api-key"),
        ({"extra_query": {"key": SECRET}}, "extra_query.key"),
        ({"extra_query": {"sig": SECRET}}, "extra_query.sig"),
        ({"extra_body": {"api_key": SECRET}}, "extra_body.api_key"),
        ({"extra_body": {"provider": {"password": SECRET}}}, "extra_body.provider.password"),
        ({"extra_body": {"user": f"sk-{SECRET}"}}, "extra_body.user"),
    ],
)
def test_a_secret_in_a_config_is_refused_and_not_repeated(values, name: str):
    """A config ends up in run.json."""
    with pytest.raises(ConfigError) as refused:
        OpenAIJudgeConfig(**{"model": "m", **values})
    assert str(refused.value).startswith(f"judge.openai.{name} must ") and SECRET not in str(refused.value)


def test_what_is_no_secret_may_stand_in_a_config():
    OpenAIJudgeConfig(
        model="m",
        extra_headers={
            "api-key": "env:AZURE_OPENAI_API_KEY",
            "HTTP-Referer": "https://example.org",
            "X-Title": "judge",
        },
        extra_query={"api-version": "2024-10-21"},
        extra_body={"reasoning": {"max_tokens": 100}, "top_k": 1, "prompt_cache_key": "run", "stop": ["</s>"]},
    )


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
        ({"allow_ties": True}, "allow_ties must be false with method=likelihood; set tie_margin, got True"),
        ({"position": "both"}, "position must be as_shown or free, got 'both'"),
        ({"position": "free", "method": "text"}, "position must be as_shown with method=text, got 'free'"),
        ({"position": "free", "offset": 1.0}, "offset must be 0 with position=free, which has none, got 1.0"),
        ({"max_unparsed_in_a_row": 0}, "max_unparsed_in_a_row must be at least 1, or null, got 0"),
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
