"""The benchmark of length control, on models made here: no published verdicts are part of the project."""

import csv
import gzip
import re

import numpy as np
import pytest
from scipy.special import expit

from bench.evaluate.length_benchmark import Row, main, read, rows, summary

TRUE = {"brief": 0.4, "even": 0.5, "long": 0.55, "better": 0.7, "canned": 0.6}


@pytest.fixture
def published(tmp_path):
    """Five models that a judge who likes length has judged on 300 prompts; published is their true win rate."""
    rng = np.random.default_rng(0)
    baseline = np.round(2000 * np.exp(0.4 * rng.normal(size=300)))
    with gzip.open(tmp_path / "annotations.csv.gz", "wt", newline="") as file:
        out = csv.writer(file)
        out.writerow(["model", "prompt", "preference", "length_chars", "baseline_length_chars"])
        for (model, rate), scale in zip(TRUE.items(), (0.7, 1.0, 1.4, 1.0, 0.0), strict=True):
            length = np.round(scale * baseline * np.exp(0.4 * rng.normal(size=300))) if scale else np.full(300, 900)
            x = np.tanh((length - baseline) / (length - baseline).std())
            won = rng.random(300) < expit(np.log(rate / (1 - rate)) + 1.5 * x)
            out.writerows(
                [model, i, int(w), n, b] for i, (w, n, b) in enumerate(zip(won, length, baseline, strict=True))
            )
    with open(tmp_path / "leaderboard.csv", "w", newline="") as file:
        csv.writer(file).writerows([["model", "length_controlled_win_rate"], *([m, 100 * r] for m, r in TRUE.items())])
    return tmp_path


def test_models_come_out_at_their_true_win_rates_with_the_canned_one_flagged(published, tmp_path, capsys):
    out = tmp_path / "table.md"
    assert main([str(published), "--groups", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert out.read_text() == text
    found = {row.model: row for row in rows(*read(published))}
    for model in ("brief", "even", "long", "better"):
        assert found[model].difference == pytest.approx(0, abs=10)  # 3 standard errors of 300 verdicts
        assert abs(found[model].raw - found[model].published) > 4 or model in ("even", "better")
        assert found[model].why == ""
    assert found["canned"].why.startswith("most of its summaries are equally long")
    assert "5 models, 1 refused or flagged (canned)." in text and "In random groups of 2:\n- 5 models" in text
    shown = re.search(r"\| long \| 300 \| ([\d.]+) \| ([\d.]+) \| .* \| 55\.0 \|", text)
    assert shown and float(shown[2]) == pytest.approx(found["long"].ours, abs=0.05)


def test_the_summary_counts_by_hand():
    made = [
        Row("a", 9, 10.0, 12.0, (11.0, 15.0), 13.0, 0.5, ""),
        Row("b", 9, 20.0, 26.0, (25.0, 27.0), 21.0, 0.5, ""),
        Row("c", 9, 30.0, 31.0, (29.0, 33.0), 32.0, 0.5, "thin"),
        Row("d", 9, 40.0, None, None, 50.0, 0.0, "none"),
    ]
    lines = summary(made)
    assert lines[0] == "4 models, 2 refused or flagged (c, d)."
    assert "mean 2.33 points (raw win rate: 2.00), bias +1.00, largest 5.00" in lines[1]
    assert "without a flag: mean 3.00, largest 5.00, 1 above 4." in lines[1]
    assert lines[2].startswith("Spearman's correlation with the published values: 1.000")
    assert lines[3] == "Intervals that hold the published value: 2 of 3."


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("leaderboard.csv", None, "leaderboard.csv: cannot be read (No such file or directory); PATH must hold it"),
        ("leaderboard.csv", "model,win_rate\na,1\n", "a file has no column 'length_controlled_win_rate'"),
        ("leaderboard.csv", "model,length_controlled_win_rate\nlong,1\n", "no published value of brief, even, better"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(published, capsys, file, text, message):
    (published / file).unlink()
    if text is not None:
        (published / file).write_text(text)
    assert main([str(published)]) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and message in stderr
