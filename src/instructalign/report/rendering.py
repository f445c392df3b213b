"""What a report is made of, and its rendering by the templates beside this file: one HTML page, and Markdown.

Sections are built from the blocks below. `report.html.j2` shows them on a page that needs nothing else: no script,
no font, no request. `report.md.j2` shows the same with the plots in words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from instructalign.report.number_format import NBSP

_ISOLATE, _POP = "\u2068", "\u2069"  # first strong isolate, pop directional isolate


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: its content; empty where there is nothing to show.
        note: shown smaller below: an interval, a change; several notes are separated by line breaks.
        best: whether it is bold, because a test supports that it is better than the others.
        shade: how strongly the cell is coloured, from -1 (worse) over 0 (not at all) to 1 (better).
        foreign: whether the text is in an unknown language, and may run from right to left.
    """

    text: str = ""
    note: str = ""
    best: bool = False
    shade: float = 0.0
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column's heading.

    Attributes:
        title: the heading, with `note` shown smaller below.
        numeric: whether the column holds numbers, which are aligned to the right.
        group: the language group that colours it.
        wide: whether it holds sentences, which need room.
    """

    title: str
    note: str = ""
    numeric: bool = True
    group: str = ""
    wide: bool = False


def text_column(title: str, note: str = "", *, wide: bool = False) -> TableColumn:
    """The heading of a column of words, which are aligned to the left."""
    return TableColumn(title, note, numeric=False, wide=wide)


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table; the first cell of a row is the row's heading.

    Attributes:
        caption: what it shows, in which units.
        columns: one heading per column.
        rows: as many cells each as there are columns.
        groups: by row, the language group that colours its heading; `quiet` for a row that only serves for
            comparison; empty for neither.
    """

    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    groups: tuple[str, ...] = ()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot: the drawing, and the same in words for readers who cannot see it."""

    title: str
    svg: Markup
    description: str
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; `lead` text is larger, and `name` is put in bold at its beginning."""

    text: str
    lead: bool = False
    name: str = ""
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a fixed-width font: a command, a file."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True, slots=True)
class Panels:
    """Plots or small tables side by side where there is room; `legend` says how to read the plots."""

    items: tuple[Figure | ReportTable, ...]
    legend: str = ""
    kind: ClassVar[str] = "panels"


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that a reader opens with a click; open in print, and from the beginning where `open`."""

    title: str
    blocks: tuple[Block, ...]
    open: bool = False
    kind: ClassVar[str] = "fold"


Block = Paragraph | Code | ReportTable | Panels | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with the blocks below it; `anchor` is its id in the page."""

    title: str
    anchor: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def render(title: str, subtitle: str, sections: Sequence[Section]) -> tuple[str, str]:
    """The report as an HTML page and as Markdown.

    Args:
        title: the heading.
        subtitle: a line below it.
        sections: in their order.
    """
    environment = template_environment("instructalign.report")
    # The style sheet is ours and the only text, with the plots, that is not escaped.
    style = Markup(files("instructalign.report").joinpath("style.css").read_text(encoding="utf-8"))
    context = {"title": title, "subtitle": subtitle, "sections": sections, "style": style}
    page, text = (environment.get_template(f"report.{kind}.j2").render(context) for kind in ("html", "md"))
    return page, text.strip() + "\n"


def template_environment(package: str) -> Environment:
    """Loads a package's templates; text is escaped in those of HTML, in Markdown by the filter `md`."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "md": escape_markdown,
        "fence": _fence,
        "nbsp": lambda text: text.replace(" %", f"{NBSP}%"),
    }
    return environment


def markdown_of(blocks: Sequence[Block]) -> str:
    """Blocks as Markdown, without a heading."""
    return render("", "", [Section("Blocks", "blocks", blocks)])[1].partition("## Blocks")[2].strip()


def escape_markdown(text: str) -> str:
    """A text that Markdown shows as it is; one with right-to-left letters is isolated from its surroundings."""
    plain = re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        return f"{_ISOLATE}{plain}{_POP}"
    return plain


def _fence(text: str) -> str:
    """Backticks that open and close a code block: more than any run of them inside it."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
