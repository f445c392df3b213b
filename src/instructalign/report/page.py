"""A report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from instructalign.report.content import Block, Cell, Code, Column, Fold, Paragraph, Section, Table
from instructalign.report.markup import Html, join, raw, tag, user_text
from instructalign.report.plots import UNBROKEN, Figure
from instructalign.report.tables import GROUPS

# Whatever got into the page, the browser loads nothing for it and runs nothing in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: the heading.
        subtitle: a line below it.
        sections: in the order in which they are to stand.
    """
    style = files("instructalign.report").joinpath("style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", raw(style)),
    )
    links = [
        tag("a", section.anchor.replace("-", " ").capitalize(), href=f"#{section.anchor}") for section in sections
    ]
    body = tag(
        "body",
        tag(
            "main",
            tag("header", tag("h1", user_text(title)), tag("p", user_text(subtitle))),
            tag("nav", links, aria_label="Sections"),
            [_section(section) for section in sections],
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _section(section: Section) -> Html:
    blocks = [_block(block) for block in section.blocks]
    label = f"{section.anchor}-title"
    return tag("section", tag("h2", section.title, id=label), blocks, id=section.anchor, aria_labelledby=label)


def _block(block: Block) -> Html:
    if isinstance(block, Paragraph):
        name = [tag("strong", user_text(block.name)), " "] if block.name else None
        return tag("p", name, block.text, class_="lead" if block.lead else None)
    if isinstance(block, Code):
        return tag("pre", tag("code", block.text), tabindex=0, dir="ltr")
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Fold):
        inner = [_block(child) for child in block.blocks]
        return tag("details", tag("summary", user_text(block.title)), inner, open=block.open)
    kind = "plots" if any(isinstance(item, Figure) for item in block.items) else "tables"
    legend = tag("p", block.legend) if block.legend else None
    return join(legend, tag("div", [_panel(item) for item in block.items], class_=f"panels {kind}"))


def _panel(item: Figure | Table) -> Html:
    if isinstance(item, Table):
        return _table(item)
    return tag(
        "figure",
        tag("figcaption", user_text(item.title)),
        tag("div", item.svg, role="img", aria_label=item.description),
    )


def _table(table: Table) -> Html:
    head = [_heading(column) for column in table.columns]
    rows = []
    for i, row in enumerate(table.rows):
        group = table.groups[i] if i < len(table.groups) else ""
        starts = group != "quiet" and 0 < i < len(table.groups) and group != table.groups[i - 1]
        classes = [name for name, wanted in (("starts", starts), ("quiet", group == "quiet")) if wanted]
        cells = [_row_heading(row[0], group)]
        cells += [_cell(cell, column) for cell, column in zip(row[1:], table.columns[1:], strict=True)]
        rows.append(tag("tr", cells, class_=" ".join(classes) or None))
    inner = tag(
        "table",
        tag("caption", user_text(table.caption.replace(" %", f"{UNBROKEN}%"))),
        tag("thead", tag("tr", head)),
        tag("tbody", rows),
    )
    # A table wider than the screen scrolls by itself; with a keyboard too.
    return tag("div", inner, class_="scroll", role="group", aria_label=table.caption, tabindex=0)


def _heading(column: Column) -> Html:
    kinds = ["number" if column.numeric else "", "wide" if column.wide else "", column.group.lower()]
    classes = " ".join(filter(None, kinds))
    note = tag("small", column.note) if column.note else None
    return tag("th", user_text(column.title), note, scope="col", class_=classes or None)


def _row_heading(cell: Cell, group: str) -> Html:
    return tag("th", _content(cell), scope="row", class_=group.lower() if group in GROUPS else None)


def _cell(cell: Cell, column: Column) -> Html:
    classes = ["number" if column.numeric else "", "wide" if column.wide else ""]
    style = None
    if cell.shade:
        classes.append("better" if cell.shade > 0 else "worse")
        style = f"--shade: {abs(cell.shade):.2f}"
    return tag("td", _content(cell), class_=" ".join(filter(None, classes)) or None, style=style)


def _content(cell: Cell) -> Html:
    text: Html | str = user_text(cell.text) if cell.foreign else cell.text
    if cell.best:
        text = tag("strong", text)
    return join(text, [tag("small", line) for line in cell.note.split("\n")] if cell.note else None)
