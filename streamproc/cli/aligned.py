"""Small tables for people: columns aligned, numbers to the right."""

from __future__ import annotations

__all__ = ["SAME_OR_OTHER", "aligned"]

from collections.abc import Sequence

SAME_OR_OTHER = {True: "same", False: "other", None: None}
"""Whether something is of the plan at hand, as a cell."""


def aligned(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The lines of a table.

    >>> print(aligned(["task", "keys"], [[0, 12], ["all", 1234]]), end="")
    task   keys
       0     12
     all  1,234
    """
    cells = [list(header), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "".join(line.rstrip() + "\n" for line in lines)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if type(value) is int else str(value)
