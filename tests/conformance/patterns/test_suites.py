"""The cases of the data files. Expected lines are those of the suites, never our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conformance.patterns.harness import Row, lines

FOLDER = Path(__file__).parent


def cases(name: str) -> list[Any]:
    found = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes())["cases"]
    return [pytest.param(one, id=f"{i}-{one['test']}") for i, one in enumerate(found)]


def statement(suite: str, case: dict[str, Any]) -> tuple[str, list[Row]]:
    """A case as we say it: MATCH_RECOGNIZE's text, and the rows."""
    if suite == "trino":
        return case["match"], [Row(i, value=value) for i, value in enumerate(case["rows"])]
    if suite == "siddhi":
        return case["match"], [Row(*row) for row in case["rows"]]
    rows = case["rows"]
    times = case.get("times") or list(range(1, len(rows) + 1))
    kinds = [] if case.get("free") else sorted({name for name in case["pattern"] if name.isupper()})
    said = {kind: f"kind = '{kind.lower()}'" for kind in kinds} | case.get("define", {})
    defined = [f"{kind} AS {condition}" for kind, condition in said.items()]
    skip = case.get("skip", "NO SKIP")
    within = f"WITHIN INTERVAL '{case['within']}' MILLISECONDS" if "within" in case else ""
    text = f"MEASURES MATCH_NUMBER() AS n ALL ROWS PER MATCH AFTER MATCH {skip} PATTERN ({case['pattern']}) {within}"
    text += f" DEFINE {', '.join(defined)}" if defined else ""
    values = case.get("values") or [None] * len(rows)
    return text, [
        Row(time, kind=row[0], name=row, value=value) for time, row, value in zip(times, rows, values, strict=True)
    ]


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize("case", cases("trino"))
def test_trino(case: dict[str, Any], cut: int) -> None:
    found = lines(*statement("trino", case), cut)
    shown = [[*([line.row + 1] if case["ids"] else []), *line.measures.values()] for line in found]
    assert shown == case["expect"]


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize("case", cases("flink_cep"))
def test_flink_cep(case: dict[str, Any], cut: int) -> None:
    by_match: dict[int, list[str]] = {}
    for line in lines(*statement("flink_cep", case), cut):
        by_match.setdefault(line.measures["n"], []).append(case["rows"][line.row])
    assert sorted(by_match.values()) == sorted(case["expect"])


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize("case", cases("siddhi"))
def test_siddhi(case: dict[str, Any], cut: int) -> None:
    found = lines(*statement("siddhi", case), cut)
    assert [list(line.measures.values()) for line in found] == case["expect"]


def test_there_are_as_many_cases_as_promised() -> None:
    assert [len(cases(name)) for name in ("trino", "flink_cep", "siddhi")] == [96, 114, 52]
