"""Text of HTML: `tag` escapes what it is given, but for what was made by `tag`."""

from __future__ import annotations

__all__ = ["Html", "joined", "tag"]

from collections.abc import Iterable
from html import escape

_EMPTY = {"meta", "line", "circle", "rect", "path", "input", "polyline", "br"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | float | None


def joined(children: Iterable[Child]) -> Html:
    """One behind the other; None is nothing.

    >>> joined(["a < b", tag("b", "c"), None])
    'a &lt; b<b>c</b>'
    """
    return Html("".join(_text(child) for child in children if child is not None))


def _text(child: str | int | float) -> str:
    return child if isinstance(child, Html) else escape(str(child))


def tag(name: str, /, *children: Child, **attributes: Child | bool) -> Html:
    """An element. In an attribute's name `_` is `-`, and a last one goes; None and False: it has none.

    >>> tag("p", "1 < 2", class_="note", data_x=1.5, hidden=True)
    '<p class="note" data-x="1.5" hidden>1 &lt; 2</p>'
    """
    said = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        said += f" {key.rstrip('_').replace('_', '-')}"
        said += "" if value is True else f'="{escape(str(value))}"'
    if name in _EMPTY:
        return Html(f"<{name}{said}>" if name in ("meta", "input", "br") else f"<{name}{said}/>")
    return Html(f"<{name}{said}>{joined(children)}</{name}>")
