"""What a report is made of, before it is put into HTML, Markdown or a terminal's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from instructalign.report.plots import Figure


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says; empty where there is nothing to say.
        note: said smaller below: an interval, a change; each on a line of its own where there are several.
        best: whether it stands out, because a test supports that it is better than the others.
        shade: how strongly the cell is coloured, from -1 (worse) over 0 (not) to 1 (better).
        foreign: whether the text is of a language that we do not know, and may run from right to left.
    """

    text: str = ""
    note: str = ""
    best: bool = False
    shade: float = 0.0
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading: its text and a note below.

    Attributes:
        numeric: whether numbers stand in it, which are set to the right.
        group: the language group that colours it.
        wide: whether sentences stand in it, which need room.
    """

    title: str
    note: str = ""
    numeric: bool = True
    group: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is the row's heading.

    Attributes:
        caption: what it shows, in units.
        columns: one heading a column.
        rows: as many cells each as there are columns.
        groups: by row, the language group that colours its heading; `quiet` for a row that is there only to be
            compared with; empty for neither.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; lead text is set larger, and a name that begins it stands out."""

    text: str
    lead: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """Text as a computer would have it: a command, a file."""

    text: str


@dataclass(frozen=True, slots=True)
class Panels:
    """Plots or small tables side by side where there is room.

    Attributes:
        items: the panels.
        legend: how to read plots; left out where they are put into words.
    """

    items: tuple[Figure | Table, ...]
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks behind a line that opens them; in print they are open."""

    title: str
    blocks: tuple[Block, ...]
    open: bool = False


Block = Paragraph | Code | Table | Panels | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    anchor: str
    blocks: Sequence[Block] = field(default_factory=tuple)
