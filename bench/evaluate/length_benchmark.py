"""Length control held against published numbers: verdicts of AlpacaEval 2 in, our win rates at equal length beside
the published ones out.

    python -m bench.evaluate.length_benchmark PATH --out results/reference/length_benchmark.md

PATH holds annotations.csv.gz (model, prompt, preference, length_chars, baseline_length_chars; preference is 0 for the
baseline, 1 for the model or between) and leaderboard.csv (model, length_controlled_win_rate in percent, other columns
left aside): the verdicts and the leaderboard that github.com/tatsu-lab/alpaca_eval publishes. All models are fitted
together, as the arms of a run are. The published values are those of Dubois et al. (2024, arXiv 2404.04475), a
regression per model with a table of difficulties and two artificial models in it: close, and not the truth.

--groups leaves models out: they are dealt at random into groups of each size, fitted group by group.
"""

import argparse
import csv
import gzip
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bench.errors import DataError, UserError
from bench.evaluate.length_control import Sized, length_controlled_win_rates
from bench.files import write_text

FAR = 4.0
"""Points from the published value beyond which a model is counted."""


@dataclass(frozen=True)
class Row:
    """One model; shares in percent, `ours` and its ends None where it was refused."""

    model: str
    n: int
    raw: float
    ours: float | None
    ci95: tuple[float, float] | None
    published: float
    overlap: float
    why: str
    """Reason of the refusal or flag; empty where there is neither."""

    @property
    def difference(self) -> float | None:
        return None if self.ours is None else self.ours - self.published


def read(folder: Path) -> tuple[dict[str, dict[str, Sized]], dict[str, float]]:
    """Model -> prompt -> verdict and lengths; model -> published length-controlled win rate in percent.

    Raises:
        DataError: a file or column is not there, or a model has no published value.
    """
    models: dict[str, dict[str, Sized]] = {}
    try:
        with gzip.open(folder / "annotations.csv.gz", "rt", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                numbers = (float(row[name]) for name in ("preference", "length_chars", "baseline_length_chars"))
                models.setdefault(row["model"], {})[row["prompt"]] = Sized(*numbers)
        with open(folder / "leaderboard.csv", encoding="utf-8") as file:
            published = {row["model"]: float(row["length_controlled_win_rate"]) for row in csv.DictReader(file)}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); PATH must hold it") from error
    except KeyError as error:
        raise DataError(f"{folder}: a file has no column {error}; python -m {__spec__.name} --help has them") from error
    if missing := [model for model in models if model not in published]:
        raise DataError(f"{folder / 'leaderboard.csv'}: no published value of {', '.join(missing)}")
    return models, published


def rows(models: Mapping[str, Mapping[str, Sized]], published: Mapping[str, float]) -> list[Row]:
    """The models fitted together, in the order given."""
    return [
        _row(model, verdicts, found, published[model])
        for (model, verdicts), found in zip(
            models.items(), length_controlled_win_rates(models, one_opponent=True).values(), strict=True
        )
    ]


def dealt(models: Mapping[str, Mapping[str, Sized]], published: Mapping[str, float], size: int, seed: int) -> list[Row]:
    """The models fitted in groups of `size`, drawn at random; those left over make a smaller group."""
    order = np.random.default_rng(seed).permutation(list(models)).tolist()
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    return [row for group in groups for row in rows({model: models[model] for model in group}, published)]


def summary(found: Sequence[Row]) -> list[str]:
    """What the rows come to, in lines of words and numbers."""
    valued = [row for row in found if row.ours is not None]
    differences = np.array([row.difference for row in valued], dtype=np.float64)
    unflagged = np.array([abs(row.difference or 0.0) for row in valued if not row.why])
    published, ours, raw = (
        np.array([getattr(row, name) for row in valued], dtype=np.float64) for name in ("published", "ours", "raw")
    )
    held = [row.ci95 is not None and row.ci95[0] <= row.published <= row.ci95[1] for row in valued]
    marked = [row.model for row in found if row.why]
    return [
        f"{len(found)} models, {len(marked)} refused or flagged ({', '.join(marked) or 'none'}).",
        f"Difference to the published value, of all with a value: mean {np.abs(differences).mean():.2f} points"
        f" (raw win rate: {np.abs(raw - published).mean():.2f}), bias {differences.mean():+.2f},"
        f" largest {np.abs(differences).max():.2f}; of those without a flag: mean {unflagged.mean():.2f},"
        f" largest {unflagged.max():.2f}, {(unflagged > FAR).sum()} above {FAR:g}.",
        f"Spearman's correlation with the published values: {stats.spearmanr(ours, published).statistic:.3f}"  # pyright: ignore[reportAttributeAccessIssue]
        f" (raw win rate: {stats.spearmanr(raw, published).statistic:.3f}).",  # pyright: ignore[reportAttributeAccessIssue]
        f"Intervals that hold the published value: {sum(held)} of {len(held)}.",
    ]


def table(found: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| model | n | win rate | at equal length | 95 % | published | difference | overlap | refused or flagged |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        ours, interval, difference = "-", "-", "-"
        if row.ours is not None and row.ci95 is not None:
            ours, interval = f"{row.ours:.1f}", f"{row.ci95[0]:.1f} to {row.ci95[1]:.1f}"
            difference = f"{row.ours - row.published:+.1f}"
        numbers = f"{row.raw:.1f} | {ours} | {interval} | {row.published:.1f} | {difference} | {row.overlap:.0%}"
        lines.append(f"| {row.model} | {row.n} | {numbers} | {row.why} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Print the table and its summary, write them where --out says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate.length_benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of annotations.csv.gz and leaderboard.csv")
    parser.add_argument("--groups", type=int, nargs="*", default=[], help="sizes of groups that are fitted apart")
    parser.add_argument("--seed", type=int, default=0, help="deals the groups")
    parser.add_argument("--out", type=Path, help="write the table here as Markdown")
    options = parser.parse_args(argv)
    try:
        models, published = read(options.path)
        found = rows(models, published)
        parts = [_SOURCE, table(found), *summary(found)]
        for size in options.groups:
            lines = summary(dealt(models, published, size, options.seed))
            parts += [f"In random groups of {size}:", *(f"- {line}" for line in lines)]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = "\n\n".join(part.strip() for part in parts).replace("\n\n- ", "\n- ") + "\n"
    print(text, end="")
    if options.out is not None:
        write_text(options.out, text)
    return 0


_SOURCE = (
    "Win rates against one baseline, percent. Verdicts and published values: github.com/tatsu-lab/alpaca_eval,"
    " weighted_alpaca_eval_gpt4_turbo (data CC BY-NC 4.0); method of the published values: arXiv 2404.04475."
)


def _row(model: str, verdicts: Mapping[str, Sized], found: Mapping[str, Any], published: float) -> Row:
    return Row(
        model=model,
        n=found["n"],
        raw=100 * float(np.mean([row.points for row in verdicts.values()])),
        ours=None if found["value"] is None else 100 * found["value"],
        ci95=None if found["ci95"] is None else (100 * found["ci95"][0], 100 * found["ci95"][1]),
        published=published,
        overlap=found["overlap"],
        why=found["reason"] or found["flag"] or "",
    )


if __name__ == "__main__":
    sys.exit(main())
