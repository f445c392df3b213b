from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import LABELS, REPLAY, UNSAFE, predictions
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from instructalign.report import Report, main_table, write_report
from instructalign.report.items import confusion, gold_probability, most_changed
from instructalign.report.number_format import shorten, signed
from instructalign.report.plots import (
    LanguageChange,
    PlotLine,
    PlotPoint,
    dumbbells,
    line_plot,
    pareto_front,
    scatter,
    spread_labels,
)
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
from instructalign.report.sweep_parts import brief
from instructalign.report.words import verdicts
from instructalign.types import Prediction, Score

MOOD = predictions("mood", REPLAY, 1)


def score(
    run: str, group: str, metric: str, number: float, low: float | None = None, high: float | None = None
) -> Score:
    return Score(run, "mood", "", group, metric, number, low, high, 100, "s")


def test_main_table_as_data() -> None:
    rows = [
        score("base", "L1", "f1_weighted", 0.9, 0.85, 0.95),
        score("base", "L1", "accuracy", 0.5),
        score("new", "L1", "f1_weighted", 0.8, 0.7, 0.9),
        score("new", "L1", "forgetting", 0.1, -0.02, 0.22),
        replace(score("new", "L1", "f1_weighted", 0.1), language="eng"),
    ]
    table = main_table(rows, {("new", "mood", "forgetting")})
    assert [(c.title, c.note) for c in table.columns] == [("Run", ""), ("L1", "known"), ("Forgetting", "L1 lost")]
    assert [[(c.text, c.note) for c in row] for row in table.rows] == [
        [("base", ""), ("90.0", "85.0–95.0"), ("–", "")],
        [("new", ""), ("80.0", "70.0–90.0"), ("10.0", "−2.0 to 22.0")],
    ]
    assert table.rows[1][2].best
    assert not table.rows[0][1].best


def test_the_headline_is_accuracy_where_there_is_no_f1() -> None:
    table = main_table([score("base", "L2", "accuracy", 0.5)])
    assert table.rows[0][1].text == "50.0"
    assert table.caption.startswith("Accuracy × 100")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "learned"),
        (-0.2, -0.01, "got worse"),
        (-0.1, 0.1, "nothing measurable"),
        (None, None, "nothing"),
    ],
)
def test_a_verdict_follows_the_interval(low: float | None, high: float | None, verdict: str) -> None:
    rows = [score("new", "L2", "gain", 0.05, low, high), score("new", "L2", "f1_weighted", 0.5)]
    ((name, text),) = verdicts(rows)
    assert name == "new"
    assert verdict in text
    assert "45.0\u00a0→\u00a050.0" in text


@pytest.mark.parametrize(
    ("gain", "text"), [(-0.003, "lost less than a point on the known"), (-0.01, "forgot part")]
)
def test_a_change_below_a_point_gets_no_strong_word(gain: float, text: str) -> None:
    ((_, verdict),) = verdicts([score("new", "L1", "gain", gain, gain - 0.001, gain + 0.001)])
    assert text in verdict


def test_gold_probability_is_a_softmax() -> None:
    for prediction in MOOD[:50]:
        shares = dict(zip(prediction.scores, softmax(list(prediction.scores.values())), strict=True))
        assert gold_probability(prediction) == pytest.approx(shares[prediction.gold])


def test_confusion_equals_scikit_learn() -> None:
    table = confusion("all", MOOD)
    assert table is not None
    expected = confusion_matrix(
        [p.gold for p in MOOD], [p.predicted for p in MOOD], labels=LABELS, normalize="true"
    )
    shown = [[int(cell.text) for cell in row[1:]] for row in table.rows]
    assert np.abs(np.array(shown) - 100 * expected).max() <= 0.5
    assert [row[0].text for row in table.rows] == list(LABELS)
    assert confusion("none", []) is None


def test_most_changed_items_are_those_that_moved_most() -> None:
    before = [p for p in MOOD if p.language == "eng"]
    moved = {"5": 4.0, "7": 2.0, "9": -3.0}
    after = [_pushed(p, moved.get(p.item, 0.0)) for p in before if p.item != "11"]
    gained, lost = most_changed(before, after)
    assert {shift.item for shift in gained} == {"5", "7"}
    assert [shift.item for shift in lost] == ["9"]
    assert lost[0].after < lost[0].before
    assert most_changed(before, before) == ([], [])


def _pushed(prediction: Prediction, by: float) -> Prediction:
    scores = dict(prediction.scores)
    scores[prediction.gold] += by
    return replace(prediction, scores=scores)


@given(st.lists(st.floats(-5, 5), max_size=12), st.floats(0.01, 1))
def test_labels_are_spread_without_changing_their_order(values: list[float], gap: float) -> None:
    places = spread_labels(values, gap)
    order = sorted(range(len(values)), key=lambda i: values[i])
    steps = [places[b] - places[a] for a, b in pairwise(order)]
    assert all(step >= gap - 1e-9 for step in steps)
    if len(values) == 1:
        assert places == values


def test_signed() -> None:
    assert [signed(v) for v in (3.14, -0.36, 0.04, -0.04)] == ["+3.1", "−0.4", "0.0", "0.0"]


def test_shorten() -> None:
    assert (shorten("Minangkabau", 11), shorten("Minangkabau", 8)) == ("Minangkabau", "Minangk…")


def test_plots_have_no_colour_of_their_own_and_say_what_they_show() -> None:
    changes = [LanguageChange("English", "L1", 90, 89, 85, 93), LanguageChange("ꦧꦱꦗꦮ", "L2", 50, 70)]
    figure = dumbbells("replay", changes, (40, 100))
    assert not re.search(r"#[0-9a-f]{6}[;\"]", figure.svg)
    assert "var(--l1)" in figure.svg
    assert "font-family" not in figure.svg
    assert figure.description.endswith("English 90.0 to 89.0; ꦧꦱꦗꦮ 50.0 to 70.0.")
    assert ">ꦧꦱꦗꦮ<" in figure.svg


def test_a_colour_as_a_name_stays_a_name() -> None:
    name = "#010105; font-family: x; 1.23456"
    assert "#010105; font-fa…" in dumbbells("r", [LanguageChange(name, "L1", 1, 2)], (0, 9)).svg


def test_points_of_the_scatter_have_their_names() -> None:
    points = [PlotPoint("left", 0.0, 0.0), PlotPoint("right", 9.0, 4.0), PlotPoint("the same as right", 9.0, 4.0)]
    svg = scatter("t", points, x="along", y="up").svg
    found = dict(re.findall(r'<text style="[^"]*" x="[\d.]+" y="([\d.]+)">([a-z][a-z ]+)</text>', svg))
    places = {name: float(y) for y, name in found.items()}
    assert {point.label for point in points} <= set(places)
    assert abs(places["right"] - places["the same as right"]) > 10  # so that neither covers the other


def test_points_on_one_another_do_not_make_an_axis_of_hundredths() -> None:
    svg = scatter("t", [PlotPoint("one", 0.0, 0.0), PlotPoint("other", 0.0, 0.0)], x="along", y="up").svg
    ticks = {text.replace("\u2212", "-") for text in re.findall(r">([\u2212\d.]+)</text>", svg)}
    assert {"0.0", "1.0", "-1.0"} <= ticks
    assert all(len(tick.split(".")[-1]) == 1 for tick in ticks)


def test_cells_are_named_briefly_beside_their_points() -> None:
    assert brief("replay.size=50, training.strategy.ema.decay=0.9") == "size=50, decay=0.9"
    assert brief("tlm+mt") == "tlm+mt"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points, ("low", "high"))
    for i, (x, y) in enumerate(points):
        better = [(a, b) for a, b in points if a <= x and b >= y and (a < x or b > y)]
        assert (i in front) == (not better)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_the_front_is_drawn_and_named() -> None:
    points = [PlotPoint("cheap", 1, 5), PlotPoint("dear", 4, 9), PlotPoint("bad", 3, 2)]
    with_front = scatter("t", points, x="lost", y="gained", best=("low", "high"))
    assert with_front.description.endswith("Pareto front: cheap, dear.")
    assert with_front.svg.count("stroke-dasharray") == 1
    assert "stroke-dasharray" not in scatter("t", points, x="lost", y="gained").svg


def test_lines_over_named_places_have_marks_bands_and_words() -> None:
    line = PlotLine("L2", (0, 1, 2), (30, 50, 40), (25, 45, 35), (35, 55, 45), "L2", strong=True)
    figure = line_plot("replay.size", [line], x="replay.size", limits=(0, 60), ticks=("0", "1000", "10000"))
    assert figure.description == "replay.size: L2 30.0 at 0, 50.0 at 1000, 40.0 at 10000."
    assert all(f">{tick}<" in figure.svg for tick in ("0", "1000", "10000"))
    assert "opacity: 0.16" in figure.svg  # the band
    assert figure.svg.count("<use") >= 3  # a mark a point


def test_text_of_a_plot_is_escaped() -> None:
    line = PlotLine("</svg><b>$x$", (1, 2), (0.5, 0.25))
    figure = line_plot(UNSAFE, [line], x="step", limits=(0, 1))
    assert "&lt;/svg&gt;" in figure.svg
    assert figure.svg.count("</svg>") == 1


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
