"""Tables in a pipeline: networks, prefixes, rows that hold for a time, who and why; and what is refused, and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.batch import Batch, Column
from operators.expressions import ExpressionOperator
from operators.plan import Plan
from operators.windows.operator import WindowOperator
from state.errors import ConfigError
from streamproc.language import explain
from tests.language.helpers import changed, compiled

NETS = "network,expires\n10.0.0.0/8,\n10.1.0.0/16,1970-01-01T00:00:01Z\n2001:db8::/32,2000\n"
BINS = "bin,country,valid_from,reason\n41,FR,,fallback\n4111,BE,500,\n"
TABLES = """
tables:
  nets: {key: network, file: nets.csv, columns: {network: cidr}}
  bins: {key: bin, file: bins.csv, columns: {bin: prefix, country: string}}
partition_by: card_id"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.csv").write_text(NETS)
    (tmp_path / "bins.csv").write_text(BINS)
    return tmp_path


def pipeline(*more: tuple[str, str]) -> str:
    return changed(("\npartition_by: card_id", TABLES), *more)


def plan_of(folder: Path, *more: tuple[str, str]) -> Plan:
    return compiled(pipeline(*more), str(folder / "p.yaml"))


def refused(folder: Path, *more: tuple[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan_of(folder, *more)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def results(plan: Plan, name: str, rows: list[Mapping[str, Any]]) -> list[Any]:
    """The column `name` over rows of country and event_time (as ms)."""
    step = next(step for step in plan.steps if name in [field.name for field in step.outputs])
    assert isinstance(step, ExpressionOperator)
    alone = ExpressionOperator([one for one in step.expressions if one[0] == name], step.lookups)
    countries = [row["country"] for row in rows]
    columns = {
        field.name: Column(field.type, np.array([field.type.dtype and ""] * len(rows), np.object_))
        for field in plan.stream.fields
    }
    text = np.array([country or "" for country in countries], np.object_)
    columns["country"] = Column(
        plan.stream.field("country").type, text, np.array([country is not None for country in countries])
    )
    times = np.array([row["event_time"] for row in rows], np.int64)
    batch = Batch(size=len(rows), tasks=(), event_time=times, keys=[""] * len(rows), columns=columns)
    alone.process(batch, None)  # type: ignore[arg-type]
    made = batch.columns[name]
    valid = np.ones(len(rows), bool) if made.valid is None else made.valid
    return [value if there else None for value, there in zip(made.values.tolist(), valid.tolist(), strict=True)]


def at(time: int, *countries: str | None) -> list[Mapping[str, Any]]:
    return [{"country": country, "event_time": time} for country in countries]


def feature(expression: str) -> tuple[str, str]:
    return "jump: amount / previous(amount)", f'jump: "{expression}"'


def test_networks_prefixes_and_times_in_expressions(folder: Path) -> None:
    asked = at(999, "10.1.0.9", "10.2.0.9", "2001:db8::9", "here", None) + at(1000, "10.1.0.9")
    plan = plan_of(folder, feature("country in table(nets)"))
    assert results(plan, "jump", asked) == [True, True, True, False, None, True]
    assert results(plan, "jump", at(2000, "2001:db8::9", "10.1.0.9")) == [False, True]
    plan = plan_of(folder, feature("table(nets, country).network"))
    wanted = ["10.1.0.0/16", "10.0.0.0/8", "2001:db8::/32", None, None, "10.0.0.0/8"]
    assert results(plan, "jump", asked) == wanted
    plan = plan_of(folder, feature("table(bins, country).country"))
    assert results(plan, "jump", at(500, "41112", "412", "42") + at(499, "41112")) == ["BE", "FR", None, "FR"]
    plan = plan_of(folder, feature("table(bins, country).reason"))
    assert results(plan, "jump", at(500, "41112", "412")) == [None, "fallback"]


def test_a_constant_key_is_looked_up_at_each_rows_time(folder: Path) -> None:
    rows = at(999, "", "") + at(2000, "")
    plan = plan_of(folder, feature("'2001:db8::1' in table(nets)"))
    assert results(plan, "jump", rows) == [True, True, False]
    plan = plan_of(folder, feature("table(bins, '41112').country"))
    assert results(plan, "jump", at(499, "") + at(500, "")) == ["FR", "BE"]
    plan = plan_of(folder, feature("NULL in table(nets)"))
    assert results(plan, "jump", rows) == [None, None, None]


def test_a_rows_own_time_is_used_in_a_window_too(folder: Path) -> None:
    plan = plan_of(folder, ("over: [1m, 5m]", "over: [1m, 5m], where: country in table(nets)"))
    hidden = next(
        name
        for step in plan.steps
        if isinstance(step, ExpressionOperator)
        for name, one in step.expressions
        if one.tables
    )
    assert any(f.where == hidden for step in plan.steps if isinstance(step, WindowOperator) for f in step.spec.features)
    assert results(plan, hidden, at(1999, "2001:db8::1") + at(2000, "2001:db8::1")) == [True, False]


def test_it_is_explained(folder: Path) -> None:
    plan = plan_of(folder, feature("country in table(nets) and country in table(bins)"))
    told = explain(plan).splitlines()
    assert "table nets: 3 rows by network (cidr), some for a time only" in told
    assert "table bins: 2 rows by bin (prefix), some for a time only" in told


def test_who_when_and_why_need_no_declaration(folder: Path) -> None:
    (folder / "nets.csv").write_text("network,added_by,added_at,reason,note\n10.0.0.0/8,ana,last May,  botnet ,x\n")
    for column, wanted in (("added_by", "ana"), ("added_at", "last May"), ("reason", "botnet")):
        plan = plan_of(folder, feature(f"table(nets, country).{column}"))
        assert results(plan, "jump", at(0, "10.0.0.1")) == [wanted]
    missing = refused(folder, feature("table(nets, country).note"))
    assert missing == ["p.yaml:19:10: there is no column of the table nets note"]
    plan = plan_of(
        folder,
        feature("table(nets, country).added_at"),
        ("columns: {network: cidr}", "columns: {network: cidr, added_at: string}"),
    )
    assert results(plan, "jump", at(0, "10.0.0.1")) == ["last May"]
    typed = ("columns: {network: cidr}", "columns: {network: cidr, added_at: timestamp}")
    assert refused(folder, typed) == [
        "nets.csv:2:1: a value of added_at is not timestamp (2026-05-03T10:00:00Z, or ms since 1970)"
    ]


def test_one_key_may_hold_at_several_times(folder: Path) -> None:
    (folder / "bins.csv").write_text("bin,country,valid_from,expires\n41,A,,10\n41,B,10,20\n41,C,30,\n")
    plan = plan_of(folder, feature("table(bins, country).country"))
    asked = [row for time in (9, 10, 19, 20, 29, 30) for row in at(time, "411")]
    assert results(plan, "jump", asked) == ["A", "B", "B", None, None, "C"]


FILES = [
    (
        "nets.csv",
        "10.1.0.0/16",
        "10.1.0.1/16",
        "nets.csv:3:1: a value of network is not cidr (10.0.0.0/8, 2001:db8::/32",
    ),
    (
        "nets.csv",
        "10.1.0.0/16",
        "10.0.0.0/8",
        "nets.csv:3:1: the key stands there twice for the same time (first in line",
    ),
    (
        "nets.csv",
        "10.1.0.0/16",
        "::ffff:a00:0/104",
        "nets.csv:3:1: the key stands there twice for the same time (first",
    ),
    ("nets.csv", "10.1.0.0/16", "", "nets.csv:3:1: the key network is empty"),
    ("nets.csv", "2000", "tomorrow", "nets.csv:4:1: a value of expires is not timestamp (2026-05-03T10:00:00Z, or ms"),
    (
        "nets.csv",
        "2000",
        "2026-05-03",
        "nets.csv:4:1: a value of expires is not timestamp (2026-05-03T10:00:00Z, or ms",
    ),
    ("nets.csv", "network,", "net,", "nets.csv:1:1: there is no column 'network' (did you mean net?)"),
    ("bins.csv", "4111", "4" * 65, "bins.csv:3:1: a value of bin is not prefix (at most 64 bytes)"),
    (
        "bins.csv",
        "country,valid_from,reason\n41,FR,",
        "country,valid_from,expires\n41,FR,9,9",
        "bins.csv:2:1: expires is",
    ),
    ("bins.csv", "valid_from", "from", ""),
]


@pytest.mark.parametrize(("file", "old", "new", "error"), FILES)
def test_a_wrong_row_is_refused_with_its_line(folder: Path, file: str, old: str, new: str, error: str) -> None:
    text = (folder / file).read_text()
    assert text.count(old) == 1
    (folder / file).write_text(text.replace(old, new))
    if not error:
        plan_of(folder)  # not a name that says when a row holds: a comment
        return
    assert [line[: len(error)] for line in refused(folder)] == [error]


@pytest.mark.parametrize(
    ("contents", "error"),
    [
        (
            b'network\n10.0.0.0/8\n"10.1.0.0/16\n10.2.0.0/16\n',
            "nets.csv:3:1: this is no row of CSV: unexpected end of data (",
        ),
        (b'network\n10.0.0.0/8\n"10.1.0.0/16" x\n', "nets.csv:3:1: this is no row of CSV: "),
        (b'"network\n', "nets.csv:1:1: this is no row of CSV: "),
        (b"network\n10.0.0.0/8\xe9\n", "table nets: nets.csv is not UTF-8 text (save it as UTF-8)"),
        (NETS.encode("utf-16"), "table nets: nets.csv is not UTF-8 text (save it as UTF-8)"),
        (NETS.replace(",", ";").encode(), "no column 'network' (cells are separated by commas, not by ;)"),
        (None, "table nets: nets.csv cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_no_table(folder: Path, contents: bytes | None, error: str) -> None:
    (folder / "nets.csv").unlink()
    if contents is None:
        (folder / "nets.csv").mkdir()
    else:
        (folder / "nets.csv").write_bytes(contents)
    (said,) = refused(folder)
    assert error in said


def test_a_wrong_file_does_not_make_its_columns_unknown(folder: Path) -> None:
    (folder / "nets.csv").write_text("network,reason\n10.0.0.1/8,x\n")
    errors = refused(folder, feature("table(nets, country).reason"))
    assert [error[:12] for error in errors] == ["nets.csv:2:1"]


TEXTS = [
    (
        "network, file: nets.csv, columns: {network:",
        "expires, file: nets.csv, columns: {expires:",
        "p.yaml:14:15: expires says when a row holds: it cannot be the key",
    ),
    ("{network: cidr}", "{network: cird}", "p.yaml:14:59: unknown type 'cird'; did you mean cidr?"),
    ("{network: cidr}", "{network: inet}", "p.yaml:14:59: unknown type 'inet'; did you mean cidr?"),
    ("{network: cidr}", "{network: cidr, expires: string}", "p.yaml:14:74: expires says when a row holds: it is a"),
    ("{network: cidr}", "{network: cidr, expires: cidr}", "p.yaml:14:74: only the key of a table can be a cidr"),
    ("amount: decimal(2)", "amount: prefix", "p.yaml:9:15: only the key of a table can be a prefix"),
    ("spend_count_1m >= 5", "amount in table(nets)", "p.yaml:21:23: string is wanted here, not decimal(2)"),
    ("spend_count_1m >= 5", "spend_count_1m in table(bins)", "p.yaml:21:23: a prefix table looks texts up, not int64"),
    (
        "spend_count_1m >= 5",
        "'table(nets, country).resaon is null'",
        "p.yaml:21:24: there is no column of the table nets",
    ),
    (
        "spend_count_1m >= 5",
        "'table(nets, country).added_by is null'",
        "p.yaml:21:24: the file of the table nets has no column added_by",
    ),
    ("spend_count_1m >= 5", "country in table(netz)", "p.yaml:21:34: there is no table netz (did you mean nets?)"),
]


@pytest.mark.parametrize(("old", "new", "error"), TEXTS)
def test_wrong_use_is_refused_with_its_place(folder: Path, old: str, new: str, error: str) -> None:
    assert [line[: len(error)] for line in refused(folder, (old, new))] == [error]


def test_the_hint_for_a_whole_number(folder: Path) -> None:
    [error] = refused(folder, ("spend_count_1m >= 5", "spend_count_1m in table(bins)"))
    assert error.endswith("not int64 (CAST(... AS varchar))")
    plan_of(folder, ("spend_count_1m >= 5", "cast(spend_count_1m as varchar) in table(bins)"))


def prints(folder: Path) -> tuple[str, str]:
    plan = plan_of(folder, feature("country in table(nets)"))
    return plan.decision_fingerprint, plan.state_fingerprint


def test_how_and_when_a_table_matches_belongs_to_the_decisions_fingerprint(folder: Path) -> None:
    decision, state = prints(folder)
    lines = NETS.splitlines()
    (folder / "nets.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert prints(folder) == (decision, state)
    (folder / "nets.csv").write_text(NETS.replace("2000", "2001"))
    assert prints(folder)[0] != decision
    assert prints(folder)[1] == state
    (folder / "nets.csv").write_text(NETS)
    as_prefix = compiled(pipeline().replace("network: cidr", "network: prefix"), str(folder / "p.yaml"))
    assert as_prefix.decision_fingerprint != plan_of(folder).decision_fingerprint


def test_plain_tables_keep_their_fingerprint(folder: Path) -> None:
    """A release must not change it: it would be a change of the pipeline for all that run."""
    (folder / "nets.csv").write_text("network,limit\nb,1.50\na,\n")
    plain = pipeline(("columns: {network: cidr}", "columns: {limit: decimal(2)}")).replace(
        "  bins: {key: bin, file: bins.csv, columns: {bin: prefix, country: string}}\n", ""
    )
    assert compiled(plain, str(folder / "p.yaml")).decision_fingerprint == PLAIN


PLAIN = "b6398e09ca7fdfbd347b3f28bc3fd9445733f7e4c23850a08836518fc5f40370"
"""Of the release before tables had networks, prefixes and times."""
