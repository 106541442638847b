"""HTML from Python: all text is escaped unless it is markup already."""

import html
from collections.abc import Sequence

VOID = ("img", "meta")  # HTML elements that have no end tag
EMPTY = ("line", "circle", "polyline")  # SVG elements that hold nothing


class Markup(str):
    """HTML that is safe to put into a page as it is."""

    __slots__ = ()


Child = str | None | Sequence[str | None]


def escape(text: str) -> Markup:
    """Returns a text as HTML; markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(text))


def join(children: Sequence[Child]) -> Markup:
    """Returns children one after the other, those of sequences too, None left out."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, str):
            parts.append(escape(child))
        elif child is not None:
            parts.append(join(child))
    return Markup("".join(parts))


def tag(
    name: str, /, *children: Child, **attributes: str | int | float | None
) -> Markup:
    """Returns an element.

    Args:
      name: of the element.
      *children: texts, which are escaped, and markup.
      **attributes: None leaves one out; `class_` is class, other _ become hyphens.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            key = key.rstrip("_").replace("_", "-")
            words.append(f'{key}="{html.escape(str(value))}"')
    if name in VOID:
        return Markup(f"<{' '.join(words)}>")
    if name in EMPTY:
        return Markup(f"<{' '.join(words)}/>")
    return Markup(f"<{' '.join(words)}>{join(children)}</{name}>")
