"""Where a study's time went, from made-up records."""

from pathlib import Path

import pytest

from bench.errors import DataError
from bench.files import write_json
from bench.perf.study import Part, parts, run_study, table


def run(dpo_key: str, **evaluation):
    """A run's record: SFT is shared, DPO is its own."""
    stages = {"sft": {"wall_s": 60.0, "cpu_s": 40.0, "apart_wall_s": 5.0}, "dpo": {"wall_s": 20.0, "cpu_s": 10.0}}
    stages |= {"generate_dpo": {"wall_s": 4.0, "cpu_s": 2.0}, "reference_logps": {"wall_s": 2.0, "cpu_s": 1.0}}
    keys = {"sft": "s", "reference_logps": "r", "dpo": dpo_key, "generate_dpo": f"g{dpo_key}"}
    cost = {"stages": stages, "evaluation": {"wall_s": 6.0, **evaluation}, "other": {"wall_s": 3.0}}
    return cost, {name: {"key": key} for name, key in keys.items()}


def test_a_stage_that_runs_share_is_counted_once():
    found = parts([run("a", cpu_s=4.0), run("b", cpu_s=2.0)])
    assert found["training"] == {"sft": Part(1, 60.0, 40.0), "dpo": Part(2, 40.0, 20.0)}
    assert found["samples on the way"] == {"of sft": Part(1, 5.0, None)}
    assert found["completions"] == {"generate_dpo": Part(2, 8.0, 4.0)}
    assert found["reference log-probs and labels"] == {"reference_logps": Part(1, 2.0, 1.0)}
    assert found["evaluation"] == {"judges, metrics, intervals": Part(2, 12.0, 6.0)}
    assert found["everything else"] == {"data, start, files": Part(2, 6.0, None)}


def test_shares_are_of_all_that_was_measured():
    # 60 + 40 + 5 + 8 + 2 + 12 + 6 = 133 s of wall; 40 + 20 + 4 + 1 = 65 CPU s, of evaluation nobody measured them.
    text = table("two", parts([run("a"), run("b", cpu_s=2.0)]))
    assert text.startswith("### two: 2 runs, 133 s, 65 CPU s measured\n")
    assert f"| **training** | 3 | 100.0 | {100 / 133:.1%} | 60.0 | {60 / 65:.1%} |" in text
    assert f"| **evaluation** | 2 | 12.0 | {12 / 133:.1%} | - | - |" in text


def test_runs_are_read_from_their_folders(tmp_path: Path):
    for name in ("a", "b"):
        cost, stages = run(name, cpu_s=1.0)
        write_json(tmp_path / "study" / name / "metrics.json", {"cost": cost})
        write_json(tmp_path / "study" / name / "run.json", {"stages": stages})
    text = run_study([tmp_path / "study", tmp_path / "study" / "b"], tmp_path / "out")
    assert "### study: 2 runs" in text and "### b: 1 run," in text
    assert (tmp_path / "out" / "study.md").read_text() == text
    with pytest.raises(DataError, match="is no run and holds none"):
        run_study([tmp_path / "out"], tmp_path / "out")
