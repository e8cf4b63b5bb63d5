"""What a notebook asks of finished runs beside their numbers: every figure by its name."""

from collections.abc import Sequence

from bench.report.compare import comparison_page
from bench.report.load import Run
from bench.report.page import Figures
from bench.report.plot import Plot
from bench.report.render import run_page


def figures(runs: Run | Sequence[Run]) -> dict[str, Plot]:
    """Name -> figure of the report of one run or, of several, of their comparison, in the order of the page."""
    page = run_page(runs) if isinstance(runs, Run) else comparison_page(runs)
    shown = [block for section in page.sections for block in section.blocks if isinstance(block, Figures)]
    return {plot.name: plot for block in shown for plot in block.plots}
