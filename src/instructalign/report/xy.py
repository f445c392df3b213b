"""Plots of one number against another: points, and lines with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instructalign.report.plots import Figure, shorten, signed, spread
from instructalign.report.svg import GROUPS, INK, MUTED, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.082  # height of a line of text beside a plot, as a share of the axis
NARROWEST = 2.4  # points that an axis of a scatter plot spans at least
FEW = 12  # points of a line up to which all of them are put into words


@dataclass(frozen=True, slots=True)
class Point:
    """A named point.

    Attributes:
        label: its name.
        x, y: where it stands.
        group: gives its colour (`L1`, `L2`, `L3`); none is quiet.
        mark: what stands beside it in the place of its name: a number, or nothing.
    """

    label: str
    x: float
    y: float
    group: str = "L3"
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a plot.

    Attributes:
        label: stands at the end of the line.
        x, y: the points, from left to right.
        low, high: by point, the interval, drawn as a band; empty where there is none.
        group: gives the colour (`L1`, `L2`, `L3`); none is quiet.
        strong: whether the line stands out.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    group: str = ""
    strong: bool = False


def scatter(
    title: str, points: Sequence[Point], *, x: str, y: str, note: str = "", best: tuple[str, str] | None = None
) -> Figure:
    """Labelled points.

    Args:
        title: the panel's title.
        points: at least one.
        x, y: what the axes show, with units.
        note: what the plot says, in words.
        best: which way is better on either axis (`low` or `high`); draws the Pareto front through the points
            that no other point beats on both.
    """
    front = pareto_front([(point.x, point.y) for point in points], best) if best else []

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=RULE, linewidth=1)
        axes.axvline(0, color=RULE, linewidth=1)
        if len(front) > 1:
            line = [(points[i].x, points[i].y) for i in front]
            axes.plot(*zip(*line, strict=True), color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)), zorder=1)
        for point in points:
            axes.plot(point.x, point.y, "o", color=GROUPS.get(point.group, MUTED), markersize=8)
        axes.margins(0.18)
        axes.set_xlim(_wide_enough(axes.get_xlim()))
        axes.set_ylim(_wide_enough(axes.get_ylim()))
        axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
        _label_points(axes, points)
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    words = "; ".join(f"{point.label}: {x} {signed(point.x)}, {y} {signed(point.y)}" for point in points)
    ahead = f" Beaten by no other on both: {', '.join(points[i].label for i in front)}." if best else ""
    description = f"{note} {words}.{ahead}".strip()
    return Figure(title, draw_svg(draw, 270, description, left=58, right=10, bottom=44), description)


def _wide_enough(limits: tuple[float, float]) -> tuple[float, float]:
    """An axis of some points of the score at least: points that lie on one another must not look far apart."""
    more = max(0.0, NARROWEST - (limits[1] - limits[0])) / 2
    return limits[0] - more, limits[1] + more


def pareto_front(points: Sequence[tuple[float, float]], best: tuple[str, str]) -> list[int]:
    """The points that no other is better than in one respect and as good as in the other, by their first number.

    Args:
        points: pairs of numbers.
        best: by number, `low` or `high`: which way is better.
    """
    signs = [1 if way == "high" else -1 for way in best]
    gains = [(signs[0] * x, signs[1] * y) for x, y in points]
    beaten = [any(o[0] >= g[0] and o[1] >= g[1] and o != g for o in gains) for g in gains]
    return sorted((i for i, is_beaten in enumerate(beaten) if not is_beaten), key=lambda i: (points[i], i))


def _label_points(axes: Axes, points: Sequence[Point]) -> None:
    """Writes names towards the middle, moved apart where they would lie on one another."""
    low, high = axes.get_ylim()
    middle = sum(axes.get_xlim()) / 2
    for offset, align in ((8, "left"), (-8, "right")):
        side = [point for point in points if point.mark != "" and (point.x > middle) == (offset < 0)]
        places = spread([point.y for point in side], 0.065 * (high - low))
        for point, place in zip(side, places, strict=True):
            axes.annotate(
                shorten(point.label if point.mark is None else point.mark, 24),
                (point.x, place),
                (offset, 0),
                textcoords="offset points",
                ha=align,
                va="center",
                color=INK,
            )


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x: str,
    limits: tuple[float, float],
    ticks: Sequence[str] | None = None,
    note: str = "",
) -> Figure:
    """Lines with their names at their ends, and bands for their intervals.

    Args:
        title: the panel's title.
        series: the lines.
        x: what the horizontal axis shows.
        limits: of the vertical axis, shared by the panels beside.
        ticks: the names of the places 0, 1, 2 … on the horizontal axis, for values that are no numbers or
            stand far apart; the points are then marked.
        note: what the plot says, in words.
    """

    def draw(axes: Axes) -> None:
        for line in series:
            colour = GROUPS.get(line.group, MUTED)
            if line.low and line.high:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
            mark = "" if ticks is None else "o"
            axes.plot(line.x, line.y, mark + "-", color=colour, linewidth=2 if line.strong else 1.2, markersize=5)
        _name_ends(axes, series, limits)
        axes.set_ylim(*limits)
        if ticks is None:
            axes.set_xlim(min(line.x[0] for line in series), max(line.x[-1] for line in series))
        else:
            axes.set_xlim(-0.15, len(ticks) - 0.85)
            axes.set_xticks(range(len(ticks)), [shorten(tick, 12) for tick in ticks])
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_xlabel(x)

    words = "; ".join(_line_in_words(line, x, ticks) for line in series)
    description = f"{note or title}: {words}."
    return Figure(title, draw_svg(draw, 210, description, left=34, right=92, bottom=44), description)


def _name_ends(axes: Axes, series: Sequence[Series], limits: tuple[float, float]) -> None:
    low, high = limits
    gap = (high - low) * LINE
    ends = spread([line.y[-1] for line in series], gap)
    ends = [end + max(0.0, low + 0.3 * gap - min(ends)) for end in ends]
    for line, end in zip(series, ends, strict=True):
        axes.annotate(
            shorten(line.label, 14),
            (1, end),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=GROUPS.get(line.group, MUTED),
            annotation_clip=False,
        )


def _line_in_words(line: Series, x: str, ticks: Sequence[str] | None) -> str:
    if ticks is not None and len(line.x) <= FEW:
        return f"{line.label} " + ", ".join(
            f"{y:.1f} at {ticks[int(at)]}" for at, y in zip(line.x, line.y, strict=True)
        )
    return f"{line.label} from {line.y[0]:.2f} to {line.y[-1]:.2f} at {x} {line.x[-1]:g}"
