"""docs/language/expressions.md lists every function as the registry has it, with its example's result.

python -m tests.language.expression.test_docs     # writes the list
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from operators.expressions.clock import format_timestamp
from operators.schema import DataType, Kind
from streamproc.language.expression.functions import FUNCTIONS, Function
from tests.language.expression.support import COLUMNS, Reference, compiled, ours, same

PAGE = Path(__file__).parents[3] / "docs" / "language" / "expressions.md"
START, END = "<!-- functions -->\n", "<!-- end -->\n"
ROW = dict.fromkeys(COLUMNS) | {"ki": 0, "kf": 0.0, "km": 0, "ks": "", "kb": False, "kt": 0}
ROW["event_time"] = 1_777_808_400_000  # 2026-05-03T11:40:00Z


def shown(value: object, kind: DataType) -> str:
    if value is None:
        return "NULL"
    if kind.kind is Kind.STRING:
        return f"'{value}'"
    if kind.kind is Kind.DECIMAL:
        assert isinstance(value, int)
        return str(Decimal(value).scaleb(-kind.scale))
    if kind.kind is Kind.TIMESTAMP:
        assert isinstance(value, int)
        return format_timestamp(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value).upper() if isinstance(value, bool) else str(value)


def unique() -> list[Function]:
    return list(dict.fromkeys(FUNCTIONS.values()))


def listing() -> str:
    lines = ["| function | what it gives | example | result |", "|---|---|---|---|"]
    for function in unique():
        value = shown(ours([function.example], [ROW])[0][0], compiled(function.example).type)
        summary = function.summary.replace("|", "\\|")
        lines.append(f"| `{function.signature}` | {summary} | `{function.example}` | `{value}` |")
    return "\n".join(lines) + "\n"


def test_the_page_lists_every_function() -> None:
    page = PAGE.read_text()
    written = page[page.index(START) + len(START) : page.index(END)]
    assert written == listing(), "run: python -m tests.language.expression.test_docs"


@pytest.mark.parametrize("function", unique(), ids=lambda function: function.signature.split("(")[0])
def test_each_example_is_duckdbs(function: Function) -> None:
    (expected,) = Reference().values([function.example], [ROW])[0]
    (found,) = ours([function.example], [ROW])[0]
    assert same(found, expected)


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(START) + len(START)] + listing() + page[page.index(END) :])
