"""A report as Markdown: the same sections, with the plots in words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from instructalign.report.content import Block, Cell, Code, Fold, Panels, Paragraph, Section, Table
from instructalign.report.plots import Figure

NEWLINE = "\n"
_ISOLATE, _POP = "\u2068", "\u2069"  # first strong isolate, pop directional isolate


def render_markdown(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole report."""
    parts = [f"# {escape(title)}", escape(subtitle)]
    for section in sections:
        blocks = [text for block in section.blocks if (text := _block(block))]
        if blocks:
            parts += [f"## {section.title}", *blocks]
    return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """A table with its caption, numbers to the right."""
    head = [escape(f"{c.title} ({c.note})" if c.note else c.title) for c in table.columns]
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [head, rule, *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join([escape(table.caption), "", *(f"| {' | '.join(line)} |" for line in lines)])


def escape(text: str) -> str:
    """A text that Markdown shows as it is; one with right-to-left letters is isolated from its surroundings."""
    plain = re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        return f"{_ISOLATE}{plain}{_POP}"
    return plain


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"**{escape(block.name)}** {escape(block.text)}" if block.name else escape(block.text)
    if isinstance(block, Code):
        longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}\n{block.text.rstrip()}\n{fence}"
    if isinstance(block, Table):
        return table_markdown(block)
    if isinstance(block, Panels):
        between = "\n" if all(isinstance(item, Figure) for item in block.items) else "\n\n"
        return between.join(_panel(item) for item in block.items)
    return _fold(block)


def _panel(item: Figure | Table) -> str:
    return table_markdown(item) if isinstance(item, Table) else f"- {escape(item.description)}"


def _fold(fold: Fold) -> str:
    inner = [text for block in fold.blocks if (text := _block(block))]
    return "\n\n".join([f"### {escape(fold.title)}", *inner])


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.best:
        text = f"**{text}**"
    return f"{text} ({', '.join(map(escape, cell.note.split(NEWLINE)))})" if cell.note else text
