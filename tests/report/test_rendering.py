from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
from made_up_runs import UNSAFE

from instructalign.report import Report, write_report
from instructalign.report.rendering import (
    Code,
    Fold,
    Panels,
    Paragraph,
    ReportTable,
    Section,
    TableCell,
    TableColumn,
    escape_markdown,
    render,
    text_column,
)


def test_html_shows_text_as_text_and_markdown_as_it_is() -> None:
    cells = (TableCell('<a href="x">', "0–2\n<i>", True, 0.5, foreign=True), TableCell("a|b", shade=-1.0))
    table = ReportTable("10 % & more", (text_column("<Run>"), TableColumn("L1", "known")), (cells, cells[::-1]))
    blocks = (Paragraph("*p*", lead=True, name="<n>"), Code("</code>\n```\n"), Fold("f", (table,), open=True))
    page, text = render("<t>", "s", [Section("S & T", "s-t", blocks), Section("U", "u", [Panels((table,))])])
    assert "<title>&lt;t&gt;</title>" in page
    assert '<p class="lead"><strong><bdi dir="auto">&lt;n&gt;</bdi></strong> *p*</p>' in page
    assert "<code>&lt;/code&gt;\n```\n</code>" in page
    assert '<details open=""><summary>' in page
    assert (
        '<strong><bdi dir="auto">&lt;a href=&#34;x&#34;&gt;</bdi></strong><small>0–2</small><small>&lt;i&gt;'
        in page
    )
    assert '<td class="number worse" style="--shade: 1.00">a|b</td>' in page
    assert "10\u00a0% &amp; more</bdi></caption>" in page
    assert "a|b</th>" in page
    assert page.count('<div class="panels tables">') == 1
    assert r"**\<n\>** \*p\*" in text
    assert "\n````\n</code>\n```\n````\n" in text
    assert text.count("\n10 % \\& more\n\n| \\<Run\\> | L1 (known) |\n| --- | ---: |\n") == 2
    assert '\n| **\\<a href="x"\\>** (0–2, \\<i\\>) | a\\|b |\n' in text


def test_right_to_left_text_is_isolated_in_markdown() -> None:
    assert escape_markdown("a|b *c* <d>\n# e [f](g)") == r"a\|b \*c\* \<d\> \# e \[f\](g)"
    assert escape_markdown("بهسا") == "\u2068بهسا\u2069"


def test_every_markdown_row_has_as_many_cells_as_its_head(run_folder: Path) -> None:
    folder = run_folder.rename(run_folder.parent / "a|b")
    (folder / "run.json").unlink()  # so that the folder's name is the run's
    text = write_report([folder]).markdown.read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) > 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


class Checker(HTMLParser):
    """Follows which elements are open, and notes what an accessible, closed page must or must not have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.seen: set[str] = set()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.seen.add(name)
        if "id" in given:
            self.ids.append(str(given["id"]))
        if name == "th" and given.get("scope") not in ("col", "row"):
            self.faults.append("th without scope")
        if given.get("role") == "img" and not given.get("aria-label"):
            self.faults.append("figure without a description")
        if name in ("script", "img", "iframe", "object", "embed", "form", "base", "audio", "video"):
            self.faults.append(f"<{name}>")
        for key in ("href", "src", "xlink:href"):
            if key in given and not str(given[key]).startswith(("#", "data:,")):
                self.faults.append(f"{key}={given[key]}")
        if any(key.startswith("on") for key in given):
            self.faults.append("an event handler")
        if name not in ("meta", "link"):
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(name, attributes)
        self.open.pop()

    def handle_endtag(self, name: str) -> None:
        if not self.open or self.open.pop() != name:
            self.faults.append(f"</{name}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_accessible_and_closed(demo_report: Report) -> None:
    page = demo_report.html.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.faults == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert {"table", "caption", "svg", "nav", "main", "details"} <= checker.seen
    assert page.count("<caption") == page.count("<table")
    assert UNSAFE in checker.text
    assert "Minang & <b>kabau</b>" in checker.text


def test_colours_have_contrast() -> None:
    style = files("instructalign.report").joinpath("style.css").read_text(encoding="utf-8")
    themes = re.findall(
        r"--page: (#\w+); --ink: (#\w+); --muted: (#\w+).*?--l1: (#\w+); --l2: (#\w+); --l3: (#\w+)",
        style,
        re.DOTALL,
    )
    assert len(themes) == 3  # light, dark, print
    for page, *others in themes:
        for colour in others:
            assert contrast(page, colour) >= 4.5, (page, colour)  # WCAG 2.2, 1.4.3


def test_shaded_cells_have_contrast() -> None:
    style = files("instructalign.report").joinpath("style.css").read_text(encoding="utf-8")
    names = ("page", "ink", "better", "worse", "deep")
    themes = list(zip(*(re.findall(rf"--{name}: ([^;]+);", style) for name in names), strict=True))
    assert len(themes) == 3
    for page, ink, better, worse, deep in themes:
        for shade in (better, worse):
            full = float(deep) * np.array([int(part) for part in shade.split(",")])
            below = full + (1 - float(deep)) * 255 * parts_of(page)
            assert contrast("#" + "".join(f"{round(part):02x}" for part in below), ink) >= 4.5, (shade, ink)


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def parts_of(colour: str) -> np.ndarray:
    """Red, green and blue of a colour, each from 0 to 1."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255


def luminance(colour: str) -> float:
    parts = parts_of(colour)
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
