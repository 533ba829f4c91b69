"""Makes HTML in which nothing that came from elsewhere can be markup: a text is escaped unless this module made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from uuid import UUID

_EMPTY = frozenset({"input", "link", "meta"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | float | UUID | None | Sequence["Child"]


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return "".join(_text(one) for one in child)
    return escape(str(child))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Return an element; an attribute's `_` is a dash (a last one is left out), True stands alone, None and False are left out."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{shown}>" if name in _EMPTY else f"<{name}{shown}>{_text(children)}</{name}>")


def table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[Child]], empty: str = "Nothing.") -> Markup:
    """Return a table with a caption, or a sentence where there are no rows."""
    body = [tag("tr", [cell if _is_cell(cell) else tag("td", cell) for cell in row]) for row in rows]
    if not body:
        return tag("section", tag("h2", caption), tag("p", empty, class_="quiet"))
    head = tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads]))
    return tag("div", tag("table", tag("caption", caption), head, tag("tbody", body)), class_="scroll", tabindex=0)


def _is_cell(child: Child) -> bool:
    return isinstance(child, Markup) and child.startswith(("<td", "<th"))


def badge(text: str, mood: str) -> Markup:
    """Return a state that is told by its word and shown by its colour: good, bad, warn, quiet."""
    return tag("span", text, class_=f"badge {mood}")
