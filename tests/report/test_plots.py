from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import UNSAFE

from instructalign.report.number_format import decimals, shorten, signed
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


@pytest.mark.parametrize(
    ("points", "expected"),
    [([50.0, 0.01], 1), ([1.0], 1), ([0.99], 2), ([0.212, 0.0031], 2), ([-0.033], 3), ([0.0], 1), ([], 1)],
)
def test_decimals(points: list[float], expected: int) -> None:
    assert decimals(points) == expected


def test_signed() -> None:
    assert [signed(v) for v in (3.14, -0.36, 0.04, -0.04)] == ["+3.1", "−0.4", "0.0", "0.0"]


def test_shorten() -> None:
    assert (shorten("Minangkabau", 11), shorten("Minangkabau", 8)) == ("Minangkabau", "Minangk…")


@given(st.lists(st.floats(-5, 5), max_size=12), st.floats(0.01, 1))
def test_labels_are_spread_without_changing_their_order(values: list[float], gap: float) -> None:
    places = spread_labels(values, gap)
    order = sorted(range(len(values)), key=lambda i: values[i])
    steps = [places[b] - places[a] for a, b in pairwise(order)]
    assert all(step >= gap - 1e-9 for step in steps)
    if len(values) == 1:
        assert places == values


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


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points, ("low", "high"))
    if len(points) > 1 and len(set(points)) == 1:
        assert front == []  # where all are equal, none beats another
        return
    for i, (x, y) in enumerate(points):
        better = [(a, b) for a, b in points if a <= x and b >= y and (a < x or b > y)]
        assert (i in front) == (not better)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_no_front_is_drawn_where_all_points_are_equal() -> None:
    points = [PlotPoint("one", 0.1 + 0.2, 5), PlotPoint("two", 0.3, 5)]  # but for rounding
    figure = scatter("t", points, x="lost", y="gained", best=("low", "high"))
    assert "Pareto" not in figure.description
    assert "stroke-dasharray" not in figure.svg


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
