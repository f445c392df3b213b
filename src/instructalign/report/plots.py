"""The plots of the report, each a panel as wide as a phone's screen, with the same in words.

Plots of one number against another are in `xy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING

from instructalign.report.markup import Html
from instructalign.report.svg import GROUPS, INK, MUTED, PAGE, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNBROKEN = "\u00a0"  # a space at which no line ends
NAMES, UNITS = 116, 84  # CSS pixels for the names at the left of a plot: of languages, of units
GROUP_WORDS = {"L1": "L1 · known", "L2": "L2 · new", "L3": "L3 · related", "": "other"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot: the drawing, and the same in words for those who cannot see it."""

    title: str
    svg: Html
    description: str


@dataclass(frozen=True, slots=True)
class Change:
    """One language before and after, in points; `low` and `high` bound the value after, where known."""

    label: str
    group: str
    before: float
    after: float
    low: float | None = None
    high: float | None = None


def dumbbells(title: str, changes: Sequence[Change], limits: tuple[float, float]) -> Figure:
    """Before (ring) and after (dot) by language, grouped; the change stands beside each line.

    Args:
        title: what the panel is of: the run's name.
        changes: in the order in which they are to stand, languages of a group together.
        limits: of the horizontal axis, in points; the same for panels that stand side by side.
    """
    lines: list[Change | str] = []
    for change in changes:
        if not lines or (isinstance(lines[-1], Change) and lines[-1].group != change.group):
            lines.append(change.group)
        lines.append(change)
    digits = decimals(value for c in changes for value in (c.before, c.after))

    def draw(axes: Axes) -> None:
        for y, line in enumerate(lines):
            if isinstance(line, str):
                _beside(axes, y, GROUP_WORDS.get(line, line), GROUPS.get(line, MUTED), NAMES, bold=True)
            else:
                _dumbbell(axes, y, line, digits)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_xlim(*limits)
        axes.grid(axis="x", color=RULE, linewidth=0.8)

    words = "; ".join(f"{c.label} {c.before:.{digits}f} to {c.after:.{digits}f}" for c in changes)
    description = f"Score before and after by language, {title}: {words}."
    svg = draw_svg(draw, 22 * len(lines) + 34, description, left=NAMES, right=46)
    return Figure(title, svg, description)


def _dumbbell(axes: Axes, y: int, change: Change, digits: int) -> None:
    colour = GROUPS.get(change.group, MUTED)
    if change.low is not None and change.high is not None:
        axes.plot([change.low, change.high], [y, y], color=colour, linewidth=7, alpha=0.22, zorder=1)
    axes.plot([change.before, change.after], [y, y], color=colour, linewidth=2, zorder=2)
    axes.plot(change.before, y, "o", color=PAGE, markeredgecolor=colour, markeredgewidth=1.6, zorder=3)
    axes.plot(change.after, y, "o", color=colour, markersize=7, zorder=4)
    _beside(axes, y, change.label, INK, NAMES)
    axes.annotate(
        signed(change.after - change.before, digits),
        (1, y),
        (42, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        color=colour,
        annotation_clip=False,
    )


def _beside(axes: Axes, y: int, text: str, colour: str, width: int, bold: bool = False) -> None:
    axes.annotate(
        shorten(text, 17),
        (0, y),
        (-width, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=colour,
        weight="bold" if bold else "normal",
        annotation_clip=False,
    )


def shares(title: str, bars: Mapping[str, Mapping[str, float]], planned: Mapping[str, float]) -> Figure:
    """What the training data consisted of: a bar a unit, replay in front, the planned share marked.

    Args:
        title: the panel's title: the run's name.
        bars: unit (rows, tokens, loss tokens) → part → share of 1.
        planned: unit → the share of replay that was planned.
    """
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    parts.sort(key=lambda part: part != "replay")
    fades = {part: 0.55 - 0.4 * i / max(1, len(parts) - 1) for i, part in enumerate(parts)}

    def draw(axes: Axes) -> None:
        for y, (unit, bar) in enumerate(bars.items()):
            _beside(axes, y, unit, INK, UNITS)
            start = 0.0
            for part in parts:
                share = 100 * bar.get(part, 0.0)
                colour = GROUPS["L1"] if part == "replay" else MUTED
                axes.barh(y, share, left=start, height=0.72, color=colour, alpha=fades[part], linewidth=0)
                axes.plot([start, start], [y - 0.36, y + 0.36], color=PAGE, linewidth=1.5)
                if share >= max(7, 3.2 * len(part)):
                    axes.text(start + share / 2, y, part, ha="center", va="center", fontsize=11)
                start += share
            if unit in planned:
                wish = 100 * planned[unit]
                axes.plot([wish, wish], [y - 0.46, y + 0.46], color=INK, linewidth=1.4, linestyle=(0, (3, 2)))
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_xlim(0, 100)
        axes.set_xlabel("percent; dashed: replay as planned" if planned else "percent")

    words = "; ".join(
        f"{unit}: " + ", ".join(f"{part} {100 * bar.get(part, 0):.1f} %" for part in parts)
        for unit, bar in bars.items()
    )
    wishes = ", ".join(f"{100 * share:.1f} % of the {unit}" for unit, share in planned.items())
    description = f"Shares of the training data, {title}: {words}." + f" Planned for replay: {wishes}." * bool(
        wishes
    )
    svg = draw_svg(draw, 30 * len(bars) + 48, description, left=UNITS, right=14, bottom=42)
    return Figure(title, svg, description)


def signed(value: float, digits: int = 1) -> str:
    """A change with its sign: `+3.1`, `−0.4`, and `0.0` without one."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def decimals(points: Iterable[float]) -> int:
    """How many decimals numbers in points are shown with: one; of numbers all below a point, two digits' worth."""
    largest = max(map(abs, points), default=0.0)
    return 1 if largest >= 1 or largest < 1e-6 else 1 - floor(log10(largest))


def shorten(text: str, length: int) -> str:
    """A text cut to a number of characters, with an ellipsis where something is missing."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Positions for labels near their values, at least `gap` apart, in the order of the values."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    clusters: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        clusters.append([i])
        centres.append(values[i])
        while len(clusters) > 1 and _top(centres[-2], clusters[-2], gap) + gap > _bottom(
            centres[-1], clusters[-1], gap
        ):
            joined = clusters[-2] + clusters[-1]
            clusters[-2:] = [joined]
            centres[-2:] = [sum(values[j] for j in joined) / len(joined)]
    placed = [0.0] * len(values)
    for centre, cluster in zip(centres, clusters, strict=True):
        for place, i in enumerate(cluster):
            placed[i] = _bottom(centre, cluster, gap) + place * gap
    return placed


def _bottom(centre: float, cluster: Sequence[int], gap: float) -> float:
    return centre - gap * (len(cluster) - 1) / 2


def _top(centre: float, cluster: Sequence[int], gap: float) -> float:
    return centre + gap * (len(cluster) - 1) / 2
