"""A report in the formats that were asked for: to read, to compute with, and to paste into a paper."""

import csv
from collections.abc import Sequence
from pathlib import Path

from bench.files import atomic_open, write_text
from bench.report.latex import to_latex
from bench.report.load import Run
from bench.report.numbers import tidy
from bench.report.page import Figures, Page, to_html, to_markdown

FORMATS = {
    "html": "report.html, one file with all of it",
    "md": "report.md, with figures/*.svg",
    "csv": "numbers.csv, every number in one long table",
    "latex": "tables.tex, the tables for a paper (booktabs)",
    "png": "figures/*.png",
    "pdf": "figures/*.pdf",
}
"""What is written of each, below the folder of the report."""
DEFAULT = ("html", "md")


def write_report(page: Page, runs: Sequence[Run], out_dir: Path, formats: Sequence[str] = DEFAULT) -> Path:
    """Write the page, the figures and the numbers of the runs in these formats; returns the path of the first of
    them, in the order of `FORMATS`.

    Raises:
        ResourceError: the folder cannot be written.
    """
    plots = [
        plot
        for section in page.sections
        for block in section.blocks
        if isinstance(block, Figures)
        for plot in block.plots
    ]
    kinds = [*(["svg"] if {"html", "md"} & set(formats) else []), *(kind for kind in ("png", "pdf") if kind in formats)]
    for plot in plots:
        for kind in kinds:
            with atomic_open(out_dir / "figures" / f"{plot.name}.{kind}", "wb") as handle:
                handle.write(plot.svg().encode() if kind == "svg" else plot.saved(kind))
    paths = {kind: out_dir / "figures" for kind in ("png", "pdf")}
    paths |= {kind: out_dir / FORMATS[kind].partition(",")[0] for kind in ("html", "md", "csv", "latex")}
    if "md" in formats:
        write_text(paths["md"], to_markdown(page))
    if "latex" in formats:
        write_text(paths["latex"], to_latex(page))
    if "csv" in formats:
        text = tidy(runs).to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        write_text(paths["csv"], text)
    if "html" in formats:
        write_text(paths["html"], to_html(page))
    return next(paths[kind] for kind in FORMATS if kind in formats)
