"""What a run of the built-in settings is expected to give: a range from several seeds, and whether a run lies in it.

Training is chaotic: rounding in the seventh digit, which differs between processors, ends at another model. So the
number to expect is a distribution over seeds, and an interval over prompts says nothing of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import RunFolderError
from bench.evaluate.prediction import range_of_a_further_run
from bench.files import read_json, write_json
from bench.report.load import Run, leaves, load_run, settings
from bench.report.words import arm_name, number

JUDGE = "gold"
LEVEL = 0.95
"""How often a sound run lies in one range; in all of them a little less often."""
_MEASURES = ("sft", "ppo", "dpo", "dpo_vs_ppo")
_PACKAGE = Path(__file__).parents[1]
_PLACES = (
    _PACKAGE / "report" / "expected.json",  # installed
    _PACKAGE.parent / "results" / "reference" / "builtin_seeds" / "expected.json",  # a checkout
)


def write_expectation(run_dirs: Sequence[Path | str], out: Path) -> Path:
    """Write what a further run of the settings that these runs share is expected to give.

    Raises:
        RunFolderError: a folder without a finished run, runs that differ in more than their seed, a seed that is there
            twice or alone, or a run without the arms or the judge.
        ResourceError: the file cannot be written.
    """
    runs = [load_run(folder) for folder in run_dirs]
    shared, seeds = settings(runs[0]), [run.setting("seed") for run in runs]
    for run in runs[1:]:
        other = settings(run)
        for key in sorted({*shared, *other}):
            if shared.get(key) != other.get(key):
                raise RunFolderError(
                    f"{runs[0].path} and {run.path} differ in {key} ({shared.get(key)!r}, {other.get(key)!r});"
                    " give runs that differ in their seed alone"
                )
    if len(set(seeds)) < len(seeds) or len(seeds) < 2:
        raise RunFolderError(f"a range needs two seeds or more, each once; these runs have {seeds}")
    shares = {name: [_share(run, name) for run in runs] for name in _MEASURES}
    content = {
        "judge": JUDGE,
        "level": LEVEL,
        "seeds": sorted(seeds),
        "settings": shared,
        "win_rates": {
            name: {
                "mean": float(np.mean(of)),
                "sd": float(np.std(of, ddof=1)),
                "n": len(of),
                "min": min(of),
                "max": max(of),
                "range": range_of_a_further_run(of, LEVEL),
            }
            for name, of in shares.items()
        },
    }
    write_json(out, content)
    return out


def against_expectation(run_dir: Path | str, places: Sequence[Path] = _PLACES) -> str:
    """One line: whether the run lies in the range that its settings are expected to give; empty for other settings.

    A setting that the expectation does not name (a later version's) may have any value.
    """
    run = load_run(run_dir)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        missing = f"Nothing to hold this run against: {places[0]} is missing; install rlhf-vs-dpo again."
        return missing if run.setting("config.name") == "builtin" else ""
    expected = read_json(file)
    given = dict(leaves(run.setting("config", {})))
    if any(given.get(key) != value for key, value in expected["settings"].items()):
        return ""
    inside, outside = [], []
    for name in _MEASURES:
        share, (low, high) = _share(run, name), expected["win_rates"][name]["range"]
        shown = f"{_in_words(name)} {_points(share)} % ({_points(low)} to {_points(high)})"
        (inside if low <= share <= high else outside).append(shown)
    where = f"the ranges expected from {len(expected['seeds'])} seeds of these settings"
    if not outside:
        return f"Inside {where}: {', '.join(inside)}"
    others = f"; inside: {', '.join(inside)}" if inside else ""
    return f"OUTSIDE {where}, of which each holds {number(100 * LEVEL, 0)} runs of 100: {', '.join(outside)}{others}"


def _share(run: Run, name: str) -> float:
    """The win rate of an arm against the reference summary, or of a pair; half a prompt away from 0 and from 1."""
    found: Mapping[str, Any] = run.metrics["arms"].get(name) or run.metrics.get("head_to_head", {}).get(name, {})
    rate = found.get("win_rate", {}).get(JUDGE)
    if rate is None or rate["value"] is None:
        raise RunFolderError(f"the run in {run.path} has no win rate of {name} by judge {JUDGE}")
    return float(np.clip(rate["value"], 0.5 / rate["n"], 1 - 0.5 / rate["n"]))


def _in_words(name: str) -> str:
    return " over ".join(arm_name(arm, short=True) for arm in name.split("_vs_"))


def _points(share: float) -> str:
    return number(100 * share, 1)
