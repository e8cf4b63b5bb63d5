"""`python -m bench.score`: one command from a file of completions to a report, with numbers counted by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import score
from bench.cli.conf_dir import conf_dir
from bench.files import read_json, read_jsonl, write_jsonl
from bench.report.load import load_run

POST = "SUBREDDIT: r/pets\n\nTITLE: a cat {0}\n\nPOST: my cat number {0} ran away and I want it back.\n\nTL;DR:"


def completions(models: dict[str, list[str]], **more: list) -> list[dict]:
    """Long format with columns of its own: `models` -> a text per post; the reference is "cat ran away"."""
    return [
        {"model_type": model, "context": POST.format(i), "ref_text": "cat ran away", "sample": text}
        | {name: values[i] for name, values in more.items()}
        for model, texts in models.items()
        for i, text in enumerate(texts)
    ]


COLUMNS = "columns.arm=model_type columns.prompt=context columns.reference=ref_text columns.completion=sample".split()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable:
    """command(*arguments): exit code, folder of the results (None without one) and stderr."""

    def run(*arguments: str) -> tuple[int, Path | None, str]:
        settings = [f"results_dir={tmp_path / 'results'}", "evaluation.bootstrap_resamples=100"]
        monkeypatch.setattr("sys.argv", ["score", *arguments, *settings])
        capsys.readouterr()
        exit_code = score.main()
        out, err = capsys.readouterr()
        return exit_code, Path(out.splitlines()[-1]).parent if out.strip() else None, err

    return run


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Two arms on four posts: `near` repeats the reference on three of them, `far` on one."""
    same, other = "cat ran away", "no idea whatsoever what happened here"
    write_jsonl(
        tmp_path / "all.jsonl", completions({"near": [same, same, same, other], "far": [same, other, other, other]})
    )
    return str(tmp_path / "all.jsonl")


def test_one_command_from_a_file_to_a_report(command: Callable, file: str):
    exit_code, folder, err = command(file, *COLUMNS, "judge=rouge")
    metrics = read_json(folder / "metrics.json")

    assert exit_code == 0
    # near is nearer on posts 1 and 2, both are equal on 0 and 3: (2 + 2 / 2) / 4, seen from `far`.
    duel = metrics["head_to_head"]["far_vs_near"]
    assert duel["win_rate"]["rouge"]["value"] == pytest.approx(1 / 4)
    assert (duel["win_rate"]["rouge"]["ties"], duel["win_rate"]["rouge"]["n"]) == (2, 4)
    assert duel["p_value"]["rouge"] == pytest.approx(1 / 2)  # two untied prompts, both for near: 2 / 2**2
    assert metrics["arms"]["near"]["rouge"]["rougeL"]["value"] == pytest.approx(3 / 4)
    assert metrics["arms"]["far"]["length_words"]["value"] == pytest.approx((3 + 3 * 6) / 4)
    assert metrics["bradley_terry"]["rouge"]["far"]["value"] == 0
    assert metrics["bradley_terry_zero"] == {"rouge": "far"}
    assert "win_rate" not in metrics["arms"]["near"]  # nobody compared with the reference
    report = (folder / "report.md").read_text(encoding="utf-8")
    for said in ("Completions made elsewhere", "Head to head", "no share that ended with EOS", "far at 0"):
        assert said in report
    assert "not in the run folder" not in report  # its samples are there, in files that are numbered
    assert "no KL" in err


def test_what_no_file_says_has_no_number(command: Callable, file: str):
    _, folder, _ = command(file, *COLUMNS)
    metrics = read_json(folder / "metrics.json")

    for arm in ("near", "far"):
        assert not {"finished", "length_tokens", "kl_ref", "win_rate", "cost"} & set(metrics["arms"][arm])
        assert metrics["arms"][arm]["degeneration"]["no_eos"] == {"value": None, "ci95": None, "n": 0}
    assert metrics["head_to_head"] == {}
    assert any("Nobody judged" in sentence for sentence in metrics["missing"])
    assert all(row["finished"] is None for row in read_jsonl(folder / "completions" / "00-far.jsonl"))


def test_ratings_outcomes_and_log_probs_of_the_file_are_used(command: Callable, tmp_path: Path):
    # x is rated 3, 1, 2 where y is rated 1, 1, 4: a win, a tie and a loss. KL of x: mean of 2, 4, 3 nats.
    rows = completions({"x": ["a", "b", "c"]}, score=[3, 1, 2], beats=["win", "tie", "loss"], logp=[-1, -2, -3],
                       ref_logp=[-3, -6, -6], finished=[True, True, False], n_tokens=[2, 4, 6])  # fmt: skip
    rows += completions({"y": ["d", "e", "f"]}, score=[1, 1, 4], beats=["win", "win", ""], logp=[-1, -2, -3],
                        ref_logp=[-1, -2, -3], finished=[True] * 3, n_tokens=[1, 1, 1])  # fmt: skip
    write_jsonl(tmp_path / "all.jsonl", rows)

    _, folder, _ = command(
        str(tmp_path / "all.jsonl"), *COLUMNS, "columns.ratings=[score]", "columns.beats_reference=[beats]"
    )
    metrics = read_json(folder / "metrics.json")

    assert metrics["head_to_head"]["x_vs_y"]["win_rate"]["score"]["value"] == 0.5
    assert metrics["arms"]["x"]["ratings"]["score"]["value"] == 2
    assert metrics["arms"]["x"]["win_rate"]["beats"]["value"] == 0.5
    assert metrics["arms"]["y"]["win_rate"]["beats"] | {"ci95": None} == {
        "value": 1.0, "ci95": None, "n": 2, "ties": 0, "unparsed": 0, "flip_rate": None, "flip_rate_ci95": None,
    }  # fmt: skip
    assert metrics["arms"]["x"]["kl_ref"]["value"] == pytest.approx(3)
    assert metrics["arms"]["x"]["finished"]["value"] == pytest.approx(2 / 3)
    assert metrics["arms"]["x"]["length_tokens"]["value"] == 4
    assert "position_bias" not in metrics["judges"]["score"]  # nothing was shown in an order
    assert "mean score" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_scorer_in_python_rates_and_judges(
    command: Callable, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_scorer.py").write_text(
        "def few_words(cache_dir, limit):\n"
        "    return lambda prompts, texts: [min(limit, len(text.split())) - len(prompt) / 1e6"
        " for prompt, text in zip(prompts, texts)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    scorer = ["known_reward.scorer=my_scorer:few_words", "known_reward.settings.limit=5"]
    exit_code, folder, _ = command(file, *COLUMNS, *scorer)
    metrics = read_json(folder / "metrics.json")

    assert exit_code == 0 and metrics["judges"]["known_reward"]["kind"] == "ratings"
    # 3 words or 6, of which 5 count, less what the post's length takes off.
    for arm, words in {"near": (3, 3, 3, 5), "far": (3, 5, 5, 5), "reference": (3, 3, 3, 3)}.items():
        expected = sum(words) / 4 - len(POST.format(0)) / 1e6
        assert metrics["arms"][arm]["ratings"]["known_reward"]["value"] == pytest.approx(expected, abs=1e-9)
    # far is above near on two posts and equal on two: (2 + 2 / 2) / 4; above the reference on three of four.
    assert metrics["head_to_head"]["far_vs_near"]["win_rate"]["known_reward"]["value"] == pytest.approx(3 / 4)
    assert metrics["arms"]["far"]["win_rate"]["known_reward"]["value"] == pytest.approx((3 + 1 / 2) / 4)


def test_without_references_arms_are_compared_head_to_head(command: Callable, file: str, tmp_path: Path):
    rows = [{key: value for key, value in row.items() if key != "ref_text"} for row in read_jsonl(Path(file))]
    write_jsonl(tmp_path / "bare.jsonl", rows)

    exit_code, folder, _ = command(
        str(tmp_path / "bare.jsonl"), *(c for c in COLUMNS if "reference" not in c), "judge=longer"
    )
    run = load_run(folder)

    assert exit_code == 0
    assert run.arms == ["far", "near"]
    assert run.metrics["head_to_head"]["far_vs_near"]["win_rate"]["longer"]["value"] == pytest.approx(3 / 4)
    assert "rouge" not in run.metrics["arms"]["near"]


def test_the_same_command_finds_its_folder_and_another_one_does_not(command: Callable, file: str):
    _, first, _ = command(file, *COLUMNS)
    _, again, _ = command(file, *COLUMNS)
    _, other, _ = command(file, *COLUMNS, "judge=rouge")

    assert first == again != other
    assert command(file, *COLUMNS, "name=mine")[0] == 0
    exit_code, _, err = command(file, *COLUMNS, "judge=rouge", "name=mine")
    assert exit_code == 2 and "holds another scoring; choose another name" in err


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "name the files of completions"),
        (["FILE", "judge=rogue"], "there is no such judge"),
        (["FILE", "judge=builtin"], "has gold, which a run of its own arms alone has"),
        (["FILE", "columns.completon=x"], "did you mean columns.completion?"),
        (["FILE", "columns.ratings=score"], "must be a list"),
        (["FILE", "policy.near=DIR"], "policy and reference must be given together"),
        (["FILE", "polcy.near=DIR"], "unknown config key polcy.near"),
        (["FILE", "--foo"], "there is no option --foo"),
        (["FILE", "known_reward.scorer=mine"], "known_reward.scorer must be module:name"),
        (["FILE", *COLUMNS, "known_reward.scorer=nowhere:Mine"], "known_reward.scorer nowhere:Mine cannot be imported"),
        (["FILE", "known_reward.settings.weight=1"], "known_reward.settings must be empty where there is no scorer"),
        (["nowhere.jsonl"], "nowhere.jsonl: cannot be read (No such file or directory)"),
        (["FILE"], "which column is the completion?"),
    ],
)
def test_a_mistake_is_one_line(command: Callable, file: str, arguments: list[str], said: str):
    exit_code, folder, err = command(*(file if argument == "FILE" else argument for argument in arguments))

    assert exit_code == 2 and folder is None
    assert said in err and len(err.strip().splitlines()) == 1


def test_help_lists_judges_and_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["score", "--help"])

    assert score.main() == 0
    said = capsys.readouterr().out
    assert "columns.completion" in said and "openai" in said and (conf_dir() / "score.yaml").read_text()[:40] in said
