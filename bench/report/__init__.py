"""Finished runs as tables, figures, HTML and Markdown: numbers are read from artifacts, without a model.

`figures` and `tidy` give a notebook all that a report shows; the tables behind the page are in
`bench.report.sections`, a file per question.
"""

from bench.report.compare import render_comparison
from bench.report.gallery import FIGURES, render_gallery
from bench.report.load import Run, load_run, newest_run
from bench.report.notebook import figures
from bench.report.numbers import tidy, wide
from bench.report.over_seeds import seed_points, seed_summaries
from bench.report.plot import Plot
from bench.report.policies import policy_points
from bench.report.render import render_run

__all__ = [
    "FIGURES",
    "Plot",
    "Run",
    "figures",
    "load_run",
    "newest_run",
    "policy_points",
    "render_comparison",
    "render_gallery",
    "render_run",
    "seed_points",
    "seed_summaries",
    "tidy",
    "wide",
]
