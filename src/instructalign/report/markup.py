"""HTML built from nested calls, in which text is escaped unless it is already HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

EMPTY = ("meta", "link", "br", "hr", "col", "img")


class Html(str):
    """A string that is HTML already; made by `tag` and `raw`, and not escaped again."""

    __slots__ = ()


Child = str | int | float | None | Sequence["Child"]


def raw(text: str) -> Html:
    """Marks a string as HTML. For our own style sheet and plots only, never for a user's text."""
    return Html(text)


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """One element.

    Args:
        name: `p`, `table`, …
        children: text (escaped), elements, or lists of them; None is left out.
        attributes: as in HTML; a trailing underscore is dropped and inner ones become hyphens
            (`class_`, `aria_label`); True gives a bare attribute, None and False none.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(label if value is True else f'{label}="{html.escape(str(value))}"')
    opening = f"<{' '.join(parts)}>"
    if name in EMPTY:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Elements and text one after another."""
    return Html("".join(map(_render, children)))


def user_text(text: str) -> Html:
    """A text of unknown language, isolated so that its direction does not turn its surroundings."""
    return tag("bdi", text, dir="auto")


def _render(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, (list, tuple)):
        return "".join(map(_render, child))
    return html.escape(str(child), quote=False)
