"""Controlled TL;DR at smoke size: real kinds of files, a tiny encoder made on the fly, and the reward's ranking."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import BertConfig, BertModel, BertTokenizer

from bench.cli import known_reward, plan
from bench.cli.bind import bind
from bench.cli.conf_dir import conf_dir
from bench.cli.settings import resolved
from bench.data import load
from bench.files import read_json, read_jsonl, write_jsonl
from bench.pipeline.preflight import contents
from bench.stages import label

NAMES = "anna ben cara dan emma finn gina hugo iris jack kate liam".split()
THINGS = "guitar bike lamp coat phone chair".split()
TRIVIAL = {"empty", "title", "first_sentence", "title_first", "lead_two", "longest", "post", "other_post"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Posts in the default layout, each told by its person and thing, and an encoder of random weights."""
    root, made = tmp_path_factory.mktemp("controlled"), 0
    for group in ("demonstrations", "preferences"):
        for split, count in (("train", 4), ("validation", 3), ("test", 3)):
            rows = []
            for _ in range(count):
                who, what = NAMES[made % len(NAMES)], THINGS[made // 4]
                post = f"my friend {who} sold the {what} of mine . now i want {made} things back ."
                prompt = f"SUBREDDIT: r/advice\n\nTITLE: {who} and the {what}\n\nPOST: {post}\n\nTL;DR:"
                human, other = f"{who} sold my {what}, help", f"{who} has a {what}"
                row = {"id": f"{group}-{made}", "prompt": prompt}
                if group == "demonstrations":
                    rows.append(row | {"completion": human})
                else:
                    rows.append(row | {"chosen": human, "rejected": other, "reference": human})
                made += 1
            write_jsonl(root / group / f"{split}.jsonl", rows)
    words = "my friend sold the of mine now i want things back help and has a advice".split()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *NAMES, *THINGS, ".", ","]
    (root / "bert").mkdir()
    (root / "bert" / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(root / "bert" / "vocab.txt")).save_pretrained(root / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(root / "bert")
    return root


@pytest.fixture
def controlled(root: Path) -> list[str]:
    return ["experiment=tldr_controlled", f"data.root={root}", f"data.reward.settings.model={root / 'bert'}"]


def test_the_experiment_at_smoke_size(
    command: Callable,
    smallest: list[str],
    controlled: list[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    all_rows = [f"budget.{name}=null" for name in ("demonstrations", "pairs", "validation_pairs", "eval_prompts")]
    news = root / "news.jsonl"  # in CNN/DM's schema: the known reward knows what is good there too
    article = "{} keeps the {} . officials said on monday that things are back ."
    articles = [{"id": f"n{i}", "article": article.format(NAMES[i], THINGS[i]), "highlights": NAMES[i]} for i in (0, 1)]
    write_jsonl(news, articles)
    of_news = ["+data@sets.news.data=articles", f"sets.news.data.path={news}", "+sets.news.text=news"]
    outcome = command(*controlled, *smallest, *all_rows, *of_news)
    assert outcome.exit_code == 0, outcome.stderr
    # What takes minutes of a model of some size has a bar, behind training and sampling too.
    for bar in ("generate sft, KL", "reward, shift", "best of n, scores", "pairs, reward models", "pairs, implicit"):
        assert f" {bar}" in outcome.stderr or f"\r{bar}" in outcome.stderr, bar
    folder = Path(outcome.stdout.splitlines()[-1]).parent
    metrics, record = read_json(folder / "metrics.json"), read_json(folder / "run.json")

    # 8 training and 6 validation posts give at most two pairs each; test and validation posts are 6 each.
    counts = metrics["data"]["counts"]
    assert counts["demonstrations"] == {"train": 8, "validation": 6} and counts["eval_prompts"] == 6
    assert 0 < counts["preferences"]["train"] <= 16 and 0 < counts["preferences"]["validation"] <= 12
    assert [(row["set"], row["n_prompts"]) for row in metrics["grid"]] == [("validation", 6), ("news", 2)]
    labels = metrics["labels"]
    assert {split: found["pairs"] for split, found in labels.items()} == {
        split: counts["preferences"][split] for split in ("train", "validation")
    }
    assert metrics["reward_model"]["accuracy"]["n"] == counts["preferences"]["validation"]
    assert metrics["reward_model"]["longer_wins"]["value"] is not None

    # The known reward is the judge and the gold reward of every arm, on both sets.
    assert set(metrics["judges"]) == {"gold"} and set(metrics["world"]) == {"trivial"}
    assert set(metrics["world"]["trivial"]) == TRIVIAL
    for row, n in zip((metrics, *metrics["grid"]), (6, 6, 2), strict=True):
        for arm in ("sft", "preferred_ft", "best_of_n", "ppo", "dpo", "reference"):
            assert row["arms"][arm]["reward"]["gold"]["n"] == n
        assert row["arms"]["dpo"]["win_rate"]["gold"]["n"] == n
    assert metrics["best_of_n"]["by_n"]["4"]["reward"]["gold"]["n"] == 6
    assert all("gold" in row for row in read_jsonl(folder / "training" / "ppo.jsonl"))
    assert "Known reward" in (folder / "report.md").read_text()
    assert "Built-in world" not in (folder / "report.md").read_text()

    # What the pairs cost is shared, as the SFT model is; the reward's code is on record.
    assert "label" in metrics["cost"]["stages"] and "known_reward" in record["code"]
    assert all("label" not in numbers["cost"]["stages"] for numbers in metrics["arms"].values() if "cost" in numbers)
    again = command(*controlled, *smallest, *all_rows, *of_news)
    assert again.exit_code == 0 and "finished: nothing to do" in again.stderr

    # Another beta finds the labels that are there, and its plan does too.
    monkeypatch.setattr(
        "sys.argv", ["bench.plan", *controlled, *smallest, *all_rows, "dpo.beta=0.7", "plan.measure=false"]
    )
    assert plan.main() == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert all("cached" in rows[stage] for stage in ("sft", "label", "reward")) and "cached" not in rows["dpo"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.reward.scorer=nowhere:Reward", "data.reward.scorer nowhere:Reward cannot be imported"),
        ("data.reward.settings.model=/nowhere", "model '/nowhere' is not there"),
        ("data.pairs_per_post=7", "data.pairs_per_post must be at least 1 and at most 6"),
        ("judge.names=[gold,reward_model]", "the data has no preferences/judge, which arms"),
        ("judge.names=[gold,reward_model]", "data.judge_fraction=0.3 makes some for the judge"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_trained(
    command: Callable, smallest: list[str], controlled: list[str], setting: str, message: str, tmp_path: Path
):
    outcome = command(*controlled, *smallest, f"results_dir={tmp_path}", setting)
    assert outcome.exit_code != 0 and message in outcome.stderr
    assert len([line for line in outcome.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert not list(tmp_path.glob(".cache/stages/*"))


def test_samples_that_are_all_equal_make_no_pairs_and_that_is_said(
    command: Callable, smallest: list[str], controlled: list[str], tmp_path: Path
):
    """Nearly greedy: nothing to learn from where an arm would, and none in the numbers where none does."""
    cold = [*controlled, *smallest, f"results_dir={tmp_path}", "data.sampling_temperature=1e-6", "sets={}"]
    outcome = command(*cold, "arms=[sft,dpo]")
    assert outcome.exit_code == 2
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert "all samples of each of its posts are equal: raise data.sampling_temperature" in line
    outcome = command(*cold, "arms=[base,sft]", "samples_in_training.points=0")
    assert outcome.exit_code == 0, outcome.stderr
    metrics = read_json(Path(outcome.stdout.splitlines()[-1]).parent / "metrics.json")
    assert metrics["labels"] == {} and set(metrics["data"]["counts"]["preferences"].values()) == {0}
    assert metrics["data"]["dropped"]["pairs whose samples are equal"] > 0


def test_other_weights_of_the_encoder_are_another_truth(controlled: list[str], root: Path, tmp_path: Path):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = bind(resolved(compose("config", overrides=[*controlled, f"results_dir={tmp_path}"])))
    data = load(config.data, 0)
    weights = root / "bert" / "model.safetensors"
    kept = weights.read_bytes()
    before = contents(config), label.needs(config, data)["truth"]
    try:
        weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        after = contents(config), label.needs(config, data)["truth"]
    finally:
        weights.write_bytes(kept)
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert before == (contents(config), label.needs(config, data)["truth"])


def test_the_ranking_of_a_known_reward(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], controlled: list[str], tmp_path: Path
):
    """On the training and validation posts of the pairs, best first."""
    monkeypatch.setattr("sys.argv", ["known_reward", *controlled, f"results_dir={tmp_path}"])
    assert known_reward.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert {row[0] for row in rows} == {"human summary", "the pairs' other writer"} | {
        name.replace("_", " ") for name in TRIVIAL
    }
    golds = [float(row[1].split()[0]) for row in rows]
    assert golds == sorted(golds, reverse=True)
    assert "Posts: 7." in lines[-2] and "of the files' 7 labels; the longer one wins in 100.0 %" in lines[-1]


def test_only_controlled_data_has_a_known_reward_to_rank_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["known_reward"])
    assert known_reward.main() == 2
    assert "data.kind is 'synthetic'" in capsys.readouterr().err
