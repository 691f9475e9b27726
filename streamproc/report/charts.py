"""Line charts as inline SVG; colours and fonts are the page's."""

from __future__ import annotations

__all__ = ["Line", "chart"]

import math
from collections.abc import Sequence
from typing import NamedTuple

from streamproc.report.html import Html, joined, tag

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
_TICKS = 5


class Line(NamedTuple):
    """`dots`: a mark at each point. `css`: the class of its colour and dash."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str
    dots: bool = False
    joined: bool = True


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 on, the last at or above `top`.

    >>> _ticks(1.0), _ticks(0.023)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 0.005, 0.01, 0.015, 0.02, 0.025])
    """
    rough = max(top, 1e-9) / _TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    return [round(step * at, 12) for at in range(math.ceil(top / step - 1e-9) + 1)]


def chart(
    title: str,
    axes: tuple[str, str],
    lines: Sequence[Line],
    tops: tuple[float, float],
    *,
    x_names: Sequence[str] = (),
    marker: str | None = None,
) -> Html:
    """A figure with a legend.

    Args:
        title: its caption.
        axes: what runs from left to right, and upwards.
        lines: all from 0 on.
        tops: the highest x and y.
        x_names: in the place of numbers on the x axis: of 0, 1, 2 ...
        marker: the id of a point that a script may move.
    """
    y_ticks = _ticks(tops[1])
    x_ticks = [] if x_names else _ticks(tops[0])
    x_top = max(len(x_names) - 1, 1) if x_names else x_ticks[-1]
    y_top = y_ticks[-1]

    def x(value: float) -> float:
        return round(LEFT + value / x_top * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / y_top * (HEIGHT - TOP - BOTTOM), 1)

    parts = [tag("title", title)]
    for value in y_ticks:
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value), class_="grid"))
        parts.append(tag("text", f"{value:g}", x=LEFT - 6, y=y(value) + 4, text_anchor="end"))
    for at, name in _x_labels(x_ticks, x_names):
        parts.append(tag("line", x1=x(at), x2=x(at), y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        last = at == x_top
        anchor = "end" if last and x_names else "middle"
        parts.append(tag("text", name, x=x(at), y=HEIGHT - BOTTOM + 17, text_anchor=anchor))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(0), y2=y(0), class_="axis"))
    parts.append(tag("text", axes[0], x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle", class_="name"))
    turned = f"rotate(-90 12 {middle})"
    parts.append(tag("text", axes[1], x=12, y=middle, text_anchor="middle", class_="name", transform=turned))
    for line in lines:
        parts += _drawn(line, [(x(a), y(b)) for a, b in line.points])
    if marker:
        parts.append(tag("circle", id=marker, r=5, cx=x(0), cy=y(0), class_="marker", visibility="hidden",
                         data_left=LEFT, data_right=x(1.0), data_bottom=y(0), data_top=y(1.0)))  # fmt: skip
    svg = tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
    return tag("figure", tag("figcaption", title), svg, _legend(lines))


def _x_labels(ticks: Sequence[float], names: Sequence[str]) -> list[tuple[float, str]]:
    if not names:
        return [(value, f"{value:g}") for value in ticks]
    step = max(1, math.ceil(len(names) / _TICKS))
    return [(at, names[at]) for at in range(0, len(names), step)]


def _drawn(line: Line, places: Sequence[tuple[float, float]]) -> list[Html]:
    parts = []
    if line.joined and len(places) > 1:
        text = " ".join(f"{a},{b}" for a, b in places)
        parts.append(tag("polyline", points=text, class_=f"curve {line.css}"))
    if line.dots or len(places) == 1:
        parts += [tag("circle", cx=a, cy=b, r=3.5, class_=f"dot {line.css}") for a, b in places]
    return parts


def _legend(lines: Sequence[Line]) -> Html | None:
    if len(lines) < 2:
        return None
    items = []
    for line in lines:
        sample: list[tuple[float, float]] = [(2.0, 6.0), (26.0, 6.0)] if line.joined else [(14.0, 6.0)]
        mark = tag("svg", *_drawn(line, sample), viewBox="0 0 28 12", class_="sample", aria_hidden="true")
        items.append(tag("span", mark, line.name))
    return tag("div", joined(items), class_="legend")
