"""The tables of a report for a paper: LaTeX with booktabs, every text escaped."""

from bench.report.page import Page, Table
from bench.report.words import Cell, plain

_HEAD = """\
% Tables of: {title}, {subtitle}
% Needs \\usepackage{{booktabs}}. Of a table that is too wide: \\small, or \\resizebox (graphicx), before its tabular.
"""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    # What text fonts lack, or what LaTeX writes otherwise.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "\u201c": "``",
    "\u201d": "''",
    "\u2013": "--",
    "\u2026": r"\ldots{}",
    "\u2212": "$-$",
    "\u00b1": r"$\pm$",
    "\u00d7": r"$\times$",
    "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
    "\u2192": r"$\to$",
    "\n": " ",
    "\t": " ",
}


def to_latex(page: Page) -> str:
    """Every table of the page, in its order, as a `table` with a label (`tab:results-1`)."""
    parts = [_HEAD.format(title=_comment(page.title), subtitle=_comment(page.subtitle))]
    for section in page.sections:
        tables = [block for block in section.blocks if isinstance(block, Table) and block.rows]
        parts += [_table(table, f"{section.anchor}-{place}") for place, table in enumerate(tables, start=1)]
    return "\n".join(parts)


def escape(text: str) -> str:
    """The text as LaTeX sets it literally."""
    return "".join(_SPECIAL.get(char, char) for char in plain(text))


def _table(table: Table, label: str) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.caption)}.}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in table.of_numbers)}}}",
        r"\toprule",
        _row([escape(column) for column in table.columns]),
        r"\midrule",
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\smallskip {escape(table.note)}"] if table.note else []),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"{text} {{\\footnotesize {escape(cell.interval)}}}" if cell.interval else text


def _row(cells: list[str]) -> str:
    # A bracket right behind \\ would be read as a length.
    return f"{'{}' if cells[0].startswith('[') else ''}{' & '.join(cells)} \\\\"


def _comment(text: str) -> str:
    return " ".join(plain(text).split())
