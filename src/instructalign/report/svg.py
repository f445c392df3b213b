"""Draws with matplotlib and returns inline SVG: text stays text, colours are the page's CSS variables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from instructalign.report.markup import Html, raw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 350  # CSS pixels of a panel: what a phone has room for; wider screens stand panels side by side

# Colours that stand for a CSS variable each, so that the page decides what they look like.
INK, MUTED, RULE, PAGE = "#010101", "#010102", "#010103", "#010104"
GROUPS = {"L1": "#010105", "L2": "#010106", "L3": "#010107", "": MUTED}
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAGE: "--page",
    **{GROUPS[group]: f"--{group.lower()}" for group in ("L1", "L2", "L3")},
}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 12,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.linewidth": 1,
    "axes.axisbelow": True,
}


def draw_svg(
    draw: Callable[[Axes], None], height: int, salt: str, *, left: int, right: int, bottom: int = 26
) -> Html:
    """Draws on axes of their own and returns the SVG element, sizes in CSS pixels.

    The salt makes the ids inside differ from those of other plots, and the same in every run.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    settings: dict[Any, Any] = {key: mpl.rcParamsDefault[key] for key in mpl.rcParamsDefault if key != "backend"}
    settings.update(_STYLE, **{"svg.hashsalt": salt})
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the glyphs; only the measuring of the text lacks them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = Canvas(figsize=(WIDTH / 72, height / 72))
        FigureCanvasSVG(canvas)
        axes = canvas.add_axes(
            (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - 8) / height)
        )
        draw(axes)
        text = StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _clean(text.getvalue(), height)


def _clean(text: str, height: int) -> Html:
    """The bare `<svg>` element of matplotlib's file, without what would act on the page around it."""
    root = ElementTree.fromstring(text)
    used = {value[1:] for element in root.iter() for value in element.attrib.values() if value[:1] == "#"}
    for element in list(root.iter()):
        for child in list(element):
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _styled(value) if key == "style" else _rounded(value)
            for key, value in element.attrib.items()
            if (key != "id" or value in used or element.tag == "clipPath")
            and not (key == "transform" and value.startswith("rotate(-0"))
        }
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    root.attrib = {"viewBox": f"0 0 {WIDTH} {height}", "width": str(WIDTH), "aria-hidden": "true"}
    return raw(ElementTree.tostring(root, encoding="unicode"))


def _styled(style: str) -> str:
    for colour, variable in VARIABLES.items():
        style = style.replace(colour, f"var({variable})")
    return re.sub(r"font-family: [^;]*; |font-weight: 400; ", "", style)


def _rounded(value: str) -> str:
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", value)
