"""The tables of a report for a paper: LaTeX with booktabs, every text escaped, none wider than the line."""

import textwrap

from bench.report.page import Page, Table
from bench.report.words import Cell, plain

_HEAD = """\
% Tables of: {title}, {subtitle}
% Needs \\usepackage{{booktabs,graphicx}}. What is wider than the line is set smaller.
"""
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_HEAD_CHARACTERS = 14
"""A column's head is broken at words that do not fit into so many."""
_PROSE_CHARACTERS = 40
"""A column with a longer text is set as paragraphs."""
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
    "\u03b1": r"$\alpha$",
    "\u03b2": r"$\beta$",
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
    longest = [max(len(row[place].text) for row in table.rows) for place in range(len(table.columns))]
    kinds = [
        "r" if right else "p{.4\\linewidth}" if length > _PROSE_CHARACTERS else "l"
        for right, length in zip(table.of_numbers, longest, strict=True)
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.caption)}.}}",
        rf"\label{{tab:{label}}}",
        _FIT,
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        _row([_head(column, kind) for column, kind in zip(table.columns, kinds, strict=True)]),
        r"\midrule",
        *(_row([_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *([rf"\par\smallskip {{\footnotesize\raggedright {escape(table.note)}\par}}"] if table.note else []),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _cell(cell: Cell, kind: str) -> str:
    """The interval stands under its number."""
    if kind[0] != "p":
        under = [rf"\footnotesize {escape(cell.interval)}"] if cell.interval else []
        return _stacked([escape(cell.text), *under], kind, "t")
    # A word that is longer than the column, as a hash is, may be broken.
    pieces = [textwrap.wrap(word, _HEAD_CHARACTERS) for word in cell.text.split(" ")]
    text = " ".join(r"\hspace{0pt}".join(map(escape, of_word)) for of_word in pieces)
    return rf"{text} \newline {{\footnotesize {escape(cell.interval)}}}" if cell.interval else text


def _head(column: str, kind: str) -> str:
    lines = textwrap.wrap(column, _HEAD_CHARACTERS, break_long_words=False) or [""]
    return _stacked([escape(line) for line in lines], kind[0].replace("p", "l"), "b")


def _stacked(lines: list[str], side: str, place: str) -> str:
    if len(lines) == 1:
        return lines[0]
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def _row(cells: list[str]) -> str:
    # A bracket right behind \\ would be read as a length.
    return f"{'{}' if cells[0].startswith('[') else ''}{' & '.join(cells)} \\\\"


def _comment(text: str) -> str:
    return " ".join(plain(text).split())
