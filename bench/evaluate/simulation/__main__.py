"""Do the intervals cover, and do decisions hold? Simulated worlds whose truth is known.

    python -m bench.evaluate.simulation --out results/reference/simulation.json

prints one row per world: the share of repetitions that came out as it should, beside the promise, and a stated limit
where less is promised. With --out the rows are written as JSON and as a Markdown table beside it, study by study: what
the file holds of the same seed, repetitions and code is kept, so that a run that was stopped goes on.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.evaluate.simulation import (
    calibration,
    clusters,
    decisions,
    judge_error,
    length,
    measures,
    seeds,
    shares,
    strengths,
    tails,
)
from bench.evaluate.simulation.row import Row, Study
from bench.files import read_json, write_json, write_text
from bench.progress import StageBar
from bench.reach import code_key

STUDIES: tuple[Study, ...] = tuple(
    study
    for room in (shares, measures, clusters, decisions, strengths, tails, seeds, length, judge_error, calibration)
    for study in room.STUDIES
)


def main(argv: list[str] | None = None) -> int:
    """Print the rows, write them where --out says, and return 0 if all are as promised."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repetitions", type=int, default=1000, help="repetitions of each world (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="studies whose name contains this")
    parser.add_argument("--out", type=Path, help="write the rows here as JSON, and beside it as a table (.md)")
    options = parser.parse_args(argv)
    known = read_json(options.out).get("studies", {}) if options.out is not None and options.out.exists() else {}
    chosen = [study for study in STUDIES if options.only in study.name]
    found: dict[str, dict[str, Any]] = {}
    with StageBar("simulation", len(chosen), "studies") as bar:
        for study in chosen:
            key = {"seed": options.seed, "repetitions": options.repetitions, "code": _code(study)}
            earlier = known.get(study.name)
            if earlier is None or any(earlier[name] != value for name, value in key.items()):
                # Every study has a generator of its own: leaving one out changes no other.
                rng = np.random.default_rng([options.seed, zlib.crc32(study.name.encode())])
                rows = study.measure(options.repetitions, rng)
                earlier = key | {"rows": [asdict(row) | {"ok": row.ok} for row in rows]}
            found[study.name] = earlier
            for row in _rows([earlier]):
                print(_line(row), flush=True)
            if options.out is not None:
                studies = known | found
                write_json(options.out, {"studies": studies})
                in_order = [studies[study.name] for study in STUDIES if study.name in studies]
                write_text(options.out.with_suffix(".md"), table(_rows(in_order)))
            bar.update(1)
    return 0 if all(row.ok for row in _rows(list(found.values()))) else 1


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| what | world | share | promised | | limit |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.world} | {row.share:.1%} | {_promise(row)} | {'ok' if row.ok else 'not as promised'} |"
        f" {row.limit} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    ok = "ok" if row.ok else "NOT AS PROMISED"
    return f"{row.what:34} {row.world:62} {row.share:7.1%}  {_promise(row):16} {ok}  {row.limit}".rstrip()


def _promise(row: Row) -> str:
    low, high = row.promised
    return f"{low:.1%} to {high:.1%}"


def _rows(studies: Sequence[dict[str, Any]]) -> list[Row]:
    return [
        Row(
            **{name: value for name, value in row.items() if name not in ("ok", "promised")},
            promised=tuple(row["promised"]),
        )
        for study in studies
        for row in study["rows"]
    ]


def _code(study: Study) -> str:
    return code_key(study.measure.__module__)[:16]


if __name__ == "__main__":
    sys.exit(main())
