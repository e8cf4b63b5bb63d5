"""A report as data: sections of blocks, written once as a self-contained HTML file and once as Markdown."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jinja2
from markupsafe import Markup

from bench.errors import ResourceError
from bench.report.plot import Plot
from bench.report.words import NONE, Cell, plain

_TEMPLATES = Path(__file__).parent / "templates"
_NUMBER = re.compile(r"(at most |< )?-?\d[\d,.]*(e[+-]\d+)?( %)?")
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Note:
    """A paragraph set apart: something that the reader must not miss."""

    text: str
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; `folded` away where it is long and few will read it."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False
    kind: ClassVar[str] = "table"

    @property
    def of_numbers(self) -> list[bool]:
        """Of each column, whether all that it says is numbers."""
        texts = [[row[place].text for row in self.rows] for place in range(len(self.columns))]
        return [
            all(text == NONE or _NUMBER.fullmatch(text) for text in of_column) and set(of_column) != {NONE}
            for of_column in texts
        ]


@dataclass(frozen=True)
class Figures:
    """Plots side by side where the screen is wide enough."""

    plots: Sequence[Plot]
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True)
class Sample:
    """One prompt with the summaries written for it: (who, summary), the reference summary first."""

    prompt_id: str
    prompt: str
    summaries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Browser:
    """Samples to search and filter (`browser.Samples.json`); without its script, and in Markdown, the first of them."""

    json: str
    first: Sequence[Sample]
    kind: ClassVar[str] = "browser"


@dataclass(frozen=True)
class Details:
    """Long literal text, folded away."""

    summary: str
    text: str
    kind: ClassVar[str] = "details"


Block = Text | Note | Table | Figures | Browser | Details


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """A report. `answer` is what a reader in a hurry takes away: one or two plain sentences."""

    title: str
    subtitle: str
    answer: Sequence[str]
    sections: Sequence[Section]


def require_folder(out_dir: Path) -> None:
    """Refuse what cannot be a folder, before anything is drawn.

    Raises:
        ResourceError: a file stands there, or above it.
    """
    for path in (out_dir, *out_dir.parents):
        if path.exists() and not path.is_dir():
            raise ResourceError(f"cannot write into {out_dir}: {path} is a file; name a folder")


def to_html(page: Page) -> str:
    """One HTML file that needs nothing else: figures, style, and where there are samples the script of their browser.

    No other script runs in it and nothing is asked of a network: its content security policy says so to the browser.
    """
    script = (_TEMPLATES / "browser.js").read_text(encoding="utf-8")
    has_browser = any(isinstance(block, Browser) for section in page.sections for block in section.blocks)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() if has_browser else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_plain_unless_markup,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(page=page, Markup=Markup, script=script, allowed=allowed)


def to_markdown(page: Page) -> str:
    """The page in GitHub's Markdown; figures are links to figures/*.svg, data texts are escaped."""
    parts = [
        f"# {_escape(page.title)}",
        _escape(page.subtitle),
        *(f"**{_escape(line)}**" for line in page.answer),
    ]
    for section in page.sections:
        parts.append(f"## {_escape(section.title)}")
        parts += [_block_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def mapping_table(caption: str, rows: Mapping[str, object]) -> Table:
    """A two-column table of names and values; names without a value are left out."""
    return Table(
        caption,
        ("what", "value"),
        [(Cell(name), Cell(str(value))) for name, value in rows.items() if value is not None],
    )


def _block_markdown(block: Block) -> str:
    match block:
        case Text(text):
            return _escape(text)
        case Note(text):
            return f"> {_escape(text)}"
        case Table():
            rows = [[_escape(f"{cell.text} {cell.interval}".strip()) for cell in row] for row in block.rows]
            table = _pipe_table([_escape(column) for column in block.columns], rows, block.of_numbers)
            return "\n\n".join(part for part in (f"*{_escape(block.caption)}*", table, _escape(block.note)) if part)
        case Figures(plots):
            return "\n\n".join(
                f"![{_escape(plot.alt)}](figures/{plot.name}.svg)\n\n*{_escape(plot.caption)}*" for plot in plots
            )
        case Browser(first=first):
            return "\n\n".join(_sample_markdown(sample) for sample in first)
        case Details(summary, text):
            # Indented code: no text can close it, as it could a fence.
            code = "\n".join(f"    {line}" for line in plain(text).split("\n"))
            return f"{_escape(summary)}:\n\n{code}"


def _sample_markdown(sample: Sample) -> str:
    rows = [(_escape(who), _escape(summary)) for who, summary in sample.summaries]
    rows.append(("prompt", _escape(sample.prompt)))
    return f"### {_escape(sample.prompt_id)}\n\n{_pipe_table(('by', 'summary'), rows)}"


def _pipe_table(columns: Sequence[str], rows: Sequence[Sequence[str]], of_numbers: Sequence[bool] = ()) -> str:
    """Columns of numbers stand to the right."""
    rules = ["---:" if place < len(of_numbers) and of_numbers[place] else "---" for place in range(len(columns))]
    lines = [columns, rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """`text` as literal text on one line of Markdown: nothing in it is markup, HTML or a cell border."""
    literal = html.escape(_MARKDOWN_SPECIAL.sub(r"\\\1", plain(text)), quote=False)
    return literal.replace("\n", "<br>")


def _plain_unless_markup(value: object) -> object:
    return value if isinstance(value, Markup) else plain(value)
