"""The report's plots: each a panel as wide as a phone's screen, with the same in words.

matplotlib draws them; the page gets inline SVG whose text stays text and whose colours are the page's CSS
variables.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from instructalign.report.number_format import decimals, shorten, signed
from instructalign.report.rendering import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 350  # CSS pixels of a panel: what a phone has room for; wider screens put panels side by side
_NAMES, _UNITS = 116, 84  # CSS pixels for the names at the left of a plot: of languages, of units
_LABEL_HEIGHT = 0.082  # height of a line's label beside a plot, as a share of the axis
_NARROWEST = 2.4  # points that an axis of a scatter plot spans at least
_MAX_IN_WORDS = 12  # points of a line up to which the description has all of them
_GROUP_TITLES = {"L1": "L1 · known", "L2": "L2 · new", "L3": "L3 · related", "": "other"}

# Each of these colours is replaced by a CSS variable, so that the page decides what it looks like, dark or light.
_INK, _MUTED, _RULE, _PAGE = "#010101", "#010102", "#010103", "#010104"
_COLOURS = {"L1": "#010105", "L2": "#010106", "L3": "#010107", "": _MUTED}
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _RULE: "--rule",
    _PAGE: "--page",
    **{_COLOURS[group]: f"--{group.lower()}" for group in ("L1", "L2", "L3")},
}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 12,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.linewidth": 1,
    "axes.axisbelow": True,
}


@dataclass(frozen=True, slots=True)
class LanguageChange:
    """One language before and after training, in points; `low` and `high` bound the value after, where known."""

    label: str
    group: str
    before: float
    after: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """A point of a scatter plot.

    Attributes:
        label: its name.
        x, y: its coordinates.
        group: gives its colour (`L1`, `L2`, `L3`); grey without one.
        mark: shown beside it instead of its name: a number, or nothing.
    """

    label: str
    x: float
    y: float
    group: str = "L3"
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class PlotLine:
    """A line of a plot.

    Attributes:
        label: its name, shown at its end.
        x, y: the points, from left to right.
        low, high: the interval at each point, drawn as a band; empty where there is none.
        group: gives its colour (`L1`, `L2`, `L3`); grey without one.
        strong: whether it is drawn thick.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    group: str = ""
    strong: bool = False


def dumbbells(
    title: str, changes: Sequence[LanguageChange], limits: tuple[float, float], digits: int | None = None
) -> Figure:
    """Before (ring) and after (dot) by language, grouped, with the change beside each line.

    Args:
        title: the panel's title: the run's name.
        changes: the languages in their order, those of a group together.
        limits: of the horizontal axis, in points; the same for panels side by side.
        digits: decimals of the numbers; None for those that points have.
    """
    lines: list[LanguageChange | str] = []
    for change in changes:
        if not lines or (isinstance(lines[-1], LanguageChange) and lines[-1].group != change.group):
            lines.append(change.group)
        lines.append(change)
    shown = decimals(value for c in changes for value in (c.before, c.after)) if digits is None else digits

    def draw(axes: Axes) -> None:
        for y, line in enumerate(lines):
            if isinstance(line, str):
                _label_row(axes, y, _GROUP_TITLES.get(line, line), _COLOURS.get(line, _MUTED), _NAMES, bold=True)
                continue
            colour = _COLOURS.get(line.group, _MUTED)
            if line.low is not None and line.high is not None:
                axes.plot([line.low, line.high], [y, y], color=colour, linewidth=7, alpha=0.22, zorder=1)
            axes.plot([line.before, line.after], [y, y], color=colour, linewidth=2, zorder=2)
            axes.plot(line.before, y, "o", color=_PAGE, markeredgecolor=colour, markeredgewidth=1.6, zorder=3)
            axes.plot(line.after, y, "o", color=colour, markersize=7, zorder=4)
            _label_row(axes, y, line.label, _INK, _NAMES)
            _annotate(axes, signed(line.after - line.before, shown), (1, y), 42, colour, ha="right")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_xlim(*limits)
        axes.grid(axis="x", color=_RULE, linewidth=0.8)

    words = "; ".join(f"{c.label} {c.before:.{shown}f} to {c.after:.{shown}f}" for c in changes)
    description = f"Score before and after by language, {title}: {words}."
    svg = draw_svg(draw, 22 * len(lines) + 34, description, left=_NAMES, right=46)
    return Figure(title, svg, description)


def stacked_shares(title: str, bars: Mapping[str, Mapping[str, float]], planned: Mapping[str, float]) -> Figure:
    """The composition of the training data: one bar per unit, replay first, with its planned share marked.

    Args:
        title: the panel's title: the run's name.
        bars: unit (rows, tokens, loss tokens) → part → share of 1.
        planned: unit → the planned share of replay.
    """
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    parts.sort(key=lambda part: part != "replay")
    fades = {part: 0.55 - 0.4 * i / max(1, len(parts) - 1) for i, part in enumerate(parts)}

    def draw(axes: Axes) -> None:
        for y, (unit, bar) in enumerate(bars.items()):
            _label_row(axes, y, unit, _INK, _UNITS)
            start = 0.0
            for part in parts:
                share = 100 * bar.get(part, 0.0)
                colour = _COLOURS["L1"] if part == "replay" else _MUTED
                axes.barh(y, share, left=start, height=0.72, color=colour, alpha=fades[part], linewidth=0)
                axes.plot([start, start], [y - 0.36, y + 0.36], color=_PAGE, linewidth=1.5)
                if share >= max(7, 3.2 * len(part)):  # room for the name inside
                    axes.text(start + share / 2, y, part, ha="center", va="center", fontsize=11)
                start += share
            if unit in planned:
                at = [100 * planned[unit]] * 2
                axes.plot(at, [y - 0.46, y + 0.46], color=_INK, linewidth=1.4, linestyle=(0, (3, 2)))
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_xlim(0, 100)
        axes.set_xlabel("percent; dashed: replay as planned" if planned else "percent")

    words = "; ".join(
        f"{unit}: " + ", ".join(f"{part} {100 * bar.get(part, 0):.1f} %" for part in parts)
        for unit, bar in bars.items()
    )
    description = f"Shares of the training data, {title}: {words}."
    if planned:
        shares = ", ".join(f"{100 * share:.1f} % of the {unit}" for unit, share in planned.items())
        description += f" Planned for replay: {shares}."
    svg = draw_svg(draw, 30 * len(bars) + 48, description, left=_UNITS, right=14, bottom=42)
    return Figure(title, svg, description)


def scatter(
    title: str, points: Sequence[PlotPoint], *, x: str, y: str, note: str = "", best: tuple[str, str] | None = None
) -> Figure:
    """Labelled points.

    Args:
        title: the panel's title.
        points: at least one.
        x, y: what the axes show, with units.
        note: what the plot says, in words.
        best: which end of each axis is better (`low` or `high`); draws the Pareto front of the points.
    """
    front = pareto_front([(point.x, point.y) for point in points], best) if best else []

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=_RULE, linewidth=1)
        axes.axvline(0, color=_RULE, linewidth=1)
        if len(front) > 1:
            line = [(points[i].x, points[i].y) for i in front]
            axes.plot(*zip(*line, strict=True), color=_MUTED, linewidth=1.2, linestyle=(0, (3, 2)), zorder=1)
        for point in points:
            axes.plot(point.x, point.y, "o", color=_COLOURS.get(point.group, _MUTED), markersize=8)
        axes.margins(0.18)
        # An axis spans a few points of the score at least, or points on top of one another would look far apart.
        for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
            more = max(0.0, _NARROWEST - (limits[1] - limits[0])) / 2
            set_limits(limits[0] - more, limits[1] + more)
        axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
        _label_points(axes, points)
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    words = "; ".join(f"{point.label}: {x} {signed(point.x)}, {y} {signed(point.y)}" for point in points)
    ahead = f" Pareto front: {', '.join(points[i].label for i in front)}." if front else ""
    description = f"{note} {words}.{ahead}".strip()
    return Figure(title, draw_svg(draw, 270, description, left=58, right=10, bottom=44), description)


def pareto_front(points: Sequence[tuple[float, float]], best: tuple[str, str]) -> list[int]:
    """The indices of the points that no other dominates, by their first number; none where all are equal.

    Args:
        points: pairs of numbers.
        best: for each number, which end is better: `low` or `high`.
    """
    signs = [1 if way == "high" else -1 for way in best]
    # Sums of floating-point numbers: equal scores may differ in the last digits.
    gains = [(round(signs[0] * x, 9), round(signs[1] * y, 9)) for x, y in points]
    if len(gains) > 1 and len(set(gains)) == 1:
        return []
    dominated = [any(o[0] >= g[0] and o[1] >= g[1] and o != g for o in gains) for g in gains]
    return sorted(
        (i for i, is_dominated in enumerate(dominated) if not is_dominated), key=lambda i: (points[i], i)
    )


def line_plot(
    title: str,
    lines: Sequence[PlotLine],
    *,
    x: str,
    limits: tuple[float, float],
    ticks: Sequence[str] | None = None,
    note: str = "",
) -> Figure:
    """Lines with their names at their ends, and bands for their intervals.

    Args:
        title: the panel's title.
        lines: at least one.
        x: what the horizontal axis shows.
        limits: of the vertical axis, shared by panels side by side.
        ticks: the names of the places 0, 1, 2 … on the horizontal axis, for values that are no numbers or far
            apart; the points are then marked.
        note: what the plot shows, in words.
    """

    def draw(axes: Axes) -> None:
        for line in lines:
            colour = _COLOURS.get(line.group, _MUTED)
            if line.low and line.high:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
            mark = "" if ticks is None else "o"
            axes.plot(line.x, line.y, mark + "-", color=colour, linewidth=2 if line.strong else 1.2, markersize=5)
        gap = (limits[1] - limits[0]) * _LABEL_HEIGHT
        ends = spread_labels([line.y[-1] for line in lines], gap)
        lift = max(0.0, limits[0] + 0.3 * gap - min(ends))
        for line, end in zip(lines, ends, strict=True):
            _annotate(axes, shorten(line.label, 14), (1, end + lift), 6, _COLOURS.get(line.group, _MUTED))
        axes.set_ylim(*limits)
        if ticks is None:
            axes.set_xlim(min(line.x[0] for line in lines), max(line.x[-1] for line in lines))
        else:
            axes.set_xlim(-0.15, len(ticks) - 0.85)
            axes.set_xticks(range(len(ticks)), [shorten(tick, 12) for tick in ticks])
        axes.grid(axis="y", color=_RULE, linewidth=0.8)
        axes.set_xlabel(x)

    description = f"{note or title}: {'; '.join(_line_in_words(line, x, ticks) for line in lines)}."
    return Figure(title, draw_svg(draw, 210, description, left=34, right=92, bottom=44), description)


def _line_in_words(line: PlotLine, x: str, ticks: Sequence[str] | None) -> str:
    if ticks is not None and len(line.x) <= _MAX_IN_WORDS:
        places = zip(line.x, line.y, strict=True)
        return f"{line.label} " + ", ".join(f"{y:.1f} at {ticks[int(at)]}" for at, y in places)
    return f"{line.label} from {line.y[0]:.2f} to {line.y[-1]:.2f} at {x} {line.x[-1]:g}"


def _label_row(axes: Axes, y: int, text: str, colour: str, width: int, bold: bool = False) -> None:
    """Writes a name at the left of a row."""
    _annotate(axes, shorten(text, 17), (0, y), -width, colour, weight="bold" if bold else "normal")


def _annotate(axes: Axes, text: str, place: tuple[float, float], shift: int, colour: str, **style: Any) -> None:
    """Writes beside the axes: `place` is (share of the width, value), `shift` in CSS pixels."""
    axes.annotate(
        text,
        place,
        (shift, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=colour,
        annotation_clip=False,
        **style,
    )


def _label_points(axes: Axes, points: Sequence[PlotPoint]) -> None:
    """Writes names towards the middle, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    middle = sum(axes.get_xlim()) / 2
    for offset, align in ((8, "left"), (-8, "right")):
        side = [point for point in points if point.mark != "" and (point.x > middle) == (offset < 0)]
        places = spread_labels([point.y for point in side], 0.065 * (high - low))
        for point, place in zip(side, places, strict=True):
            text = shorten(point.label if point.mark is None else point.mark, 24)
            at = {"xytext": (offset, 0), "textcoords": "offset points"}
            axes.annotate(text, (point.x, place), ha=align, va="center", color=_INK, **at)  # type: ignore[arg-type]


def spread_labels(values: Sequence[float], gap: float) -> list[float]:
    """Positions for labels near their values, at least `gap` apart, in the order of the values.

    Labels that are too close form a cluster, centred on the mean of its values; clusters that touch merge.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    clusters: list[tuple[float, list[int]]] = []  # (the lowest position, the labels from low to high)
    for i in order:
        members, lowest = [i], values[i]
        while clusters and clusters[-1][0] + gap * len(clusters[-1][1]) > lowest:
            members = clusters.pop()[1] + members
            lowest = sum(values[j] for j in members) / len(members) - gap * (len(members) - 1) / 2
        clusters.append((lowest, members))
    placed = [0.0] * len(values)
    for lowest, members in clusters:
        for place, i in enumerate(members):
            placed[i] = lowest + place * gap
    return placed


def draw_svg(
    draw: Callable[[Axes], None], height: int, salt: str, *, left: int, right: int, bottom: int = 26
) -> Markup:
    """Draws on a fresh pair of axes and returns the SVG element; sizes in CSS pixels.

    The salt makes the ids inside differ from those of other plots, and the same every time.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    # matplotlib's defaults, so that a user's own style changes nothing; the backend key would load one.
    settings: dict[Any, Any] = {key: mpl.rcParamsDefault[key] for key in mpl.rcParamsDefault if key != "backend"}
    settings.update(_STYLE, **{"svg.hashsalt": salt})
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the glyphs; only the measuring of the text lacks them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = Canvas(figsize=(_WIDTH / 72, height / 72))
        FigureCanvasSVG(canvas)
        axes = canvas.add_axes(
            (left / _WIDTH, bottom / height, (_WIDTH - left - right) / _WIDTH, (height - bottom - 8) / height)
        )
        draw(axes)
        text = StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), height)


def _inline(text: str, height: int) -> Markup:
    """The bare `<svg>` element of matplotlib's file, without what would affect the page around it."""
    root = ElementTree.fromstring(text)
    used = {value[1:] for element in root.iter() for value in element.attrib.values() if value[:1] == "#"}
    for element in list(root.iter()):
        for child in list(element):
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
        element.tag = element.tag.rpartition("}")[2]  # without namespaces
        element.attrib = {
            key.rpartition("}")[2]: _themed(value) if key == "style" else re.sub(r"(\d+\.\d\d)\d+", r"\1", value)
            for key, value in element.attrib.items()
            if (key != "id" or value in used or element.tag == "clipPath")
            and not (key == "transform" and value.startswith("rotate(-0"))
        }
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    root.attrib = {"viewBox": f"0 0 {_WIDTH} {height}", "width": str(_WIDTH), "aria-hidden": "true"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _themed(style: str) -> str:
    """A style with CSS variables as colours, and with the page's font."""
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, f"var({variable})")
    return re.sub(r"font-family: [^;]*; |font-weight: 400; ", "", style)
