"""`streamproc test`: what it says, what it exits with, and that it decides as `backtest` does."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import msgspec
import pyarrow.parquet as pq
import pytest
from aiokafka.partitioner import murmur2

from tests.cli.conftest import PIPELINE, Cli, payments

GOOD = """\
base: {card: c1, amount: 20.00, country: be}
cases:
  - name: four in an hour
    events:
      - {event: pay, repeat: 4, every: 10m}
      - {event: again, payment_id: p1, at: +2h}
      - {event: twice, payment_id: p1}
      - {event: none, amount: null}
    expect:
      pay[3]: {decision: approve, misses: [many, abroad, dear], reasons: []}
      pay:
        {decision: decline, hits: many, reasons: four payments in an hour, features: {spend_sum_1h: 80, abroad: false}}
      twice: {duplicate: true, decision: approve, features: {spend_sum_1h: null}}
      none: {dead_letter: missing_field}
  - name: dear and abroad
    events: [{event: pay, country: fr, amount: 90.01}]
    expect: {pay: {decision: review, hits: [abroad, dear], features: {share: 1, at: 2026-01-01T12:00:00Z}}}
"""


@pytest.fixture
def tested(tmp_path: Path) -> Path:
    """The pipeline, with a file of cases beside it."""
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE + "tests: cases.yaml\n")
    (tmp_path / "cases.yaml").write_text(GOOD)
    return path


def write(tested: Path, *changes: tuple[str, str]) -> None:
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    tested.with_name("cases.yaml").write_text(text)


def test_cases_that_hold(cli: Cli, tested: Path) -> None:
    done = cli("test", tested)
    file = tested.with_name("cases.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.lines == [f"ok     {file}:3 four in an hour", f"ok     {file}:15 dear and abroad", SUM.format(2, 0)]


SUM = "2 cases: {} ok, {} failed"
WRONG = {
    "decision": (("reasons: []", "reasons: []}\n      pay[2]: {decision: review"), "pay[2]  decision  review  approve"),
    "reasons": (("reasons: []", "reasons: [abroad, id_reused]"), "pay[3]  reasons  abroad, id_reused  none"),
    "hits": (("misses: [many, abroad, dear]", "hits: [many, abroad]"), "pay[3]  hits  many  none"),
    "misses": (("hits: many", "misses: many"), "pay[4]  misses  many  it hits"),
    "shadow": (("hits: [abroad, dear]", "misses: dear"), "pay  misses  dear  it hits"),
    "feature": (("spend_sum_1h: 80", "spend_sum_1h: 60..79.99"), "pay[4]  spend_sum_1h  60..79.99  80.00"),
    "bool": (("abroad: false", "abroad: true"), "pay[4]  abroad  true  false"),
    "float": (("share: 1", "share: ~0.98"), "pay  share  ~0.98  1.0"),
    "time": (("12:00:00Z", "12:00:01Z"), "pay  at  2026-01-01T12:00:01Z  2026-01-01T12:00:00Z"),
    "null": (("spend_sum_1h: null", "spend_sum_1h: 20"), "twice  spend_sum_1h  20  NULL"),
    "duplicate": (("duplicate: true", "duplicate: false"), "twice  duplicate  false  true"),
    "no duplicate": (("pay[3]: {", "pay[3]: {duplicate: true, "), "pay[3]  duplicate  true  false"),
    "no dead letter": (("none, amount: null", "none"), "none  dead_letter  missing_field  decided, as approve"),
    "another dead letter": (
        ("dead_letter: missing_field", "dead_letter: wrong_type"),
        "none  dead_letter  wrong_type  missing_field, amount: expected decimal(2), got nothing",
    ),
    "a dead letter": (
        ("{dead_letter: missing_field}", "{decision: approve}"),
        "none  dead_letter  decided, as approve  missing_field, amount: expected decimal(2), got nothing",
    ),
    "a dead letter nobody looks at": (
        ("{event: none, amount: null}\n", "{event: none, amount: null}\n      - {card: null}\n"),
        "event 5  dead_letter  decided  missing_key, card: expected string, got nothing",
    ),
}  # fmt: skip
"""One change to the cases -> the row of the table that says so."""


@pytest.mark.parametrize("what", WRONG)
def test_a_difference_is_shown(cli: Cli, tested: Path, what: str) -> None:
    change, row = WRONG[what]
    write(tested, change)
    done = cli("test", tested)
    assert done.code == 1, done.out
    assert row in done.cells, done.out
    assert done.cells.count("event  field  expected  found") == 1
    assert done.lines[-1] == SUM.format(1, 1)


def test_json(cli: Cli, tested: Path) -> None:
    write(tested, ("share: 1", "share: 2"))
    done = cli("test", tested, "--json", "--coverage")
    said = json.loads(done.out)
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert [case["ok"] for case in said["cases"]] == [True, False]
    assert said["cases"][1]["differences"] == [{"event": "pay", "field": "share", "expected": "2", "found": "1.0"}]
    assert (said["pipeline"], said["ok"], said["failed"], said["rules_never_hit"]) == ("shop", 1, 1, [])
    assert "rules" not in json.loads(cli("test", tested, "--json").out)


def test_coverage_names_what_is_left_out(cli: Cli, tested: Path) -> None:
    write(tested, ("country: fr, ", ""), ("[abroad, dear]", "dear"), ("decision: review, ", ""))
    done = cli("test", tested, "--coverage")
    assert done.code == 0
    looked_at = {"abroad", "share", "spend_sum_1h"}
    features = ["amount", *(f"spend_{what}_{over}" for over in ("1h", "24h") for what in ("count", "sum", "mean"))]
    features += ["share", "abroad"]
    unseen = [name for name in features if name not in looked_at]
    assert done.lines[-len(unseen) - 3 :] == [
        "rules never hit: 1 of 3", "  abroad", f"features never looked at: {len(unseen)} of 9",
        *(f"  {name}" for name in unseen),
    ]  # fmt: skip


def test_wrong_files_are_all_refused_before_anything_runs(cli: Cli, tested: Path) -> None:
    tested.write_text(PIPELINE + "tests: [cases.yaml, more.yaml]\n")
    write(tested, ("hits: many", "hits: mny"))
    tested.with_name("more.yaml").write_text("cases: []")
    junit = tested.with_name("out.xml")
    done = cli("test", tested, "--junit", junit)
    assert (done.code, done.out, junit.exists()) == (2, "", False)
    first, second = done.err.splitlines()
    assert first.endswith("cases.yaml:12:35: unknown rule 'mny' (did you mean many?)")
    assert "more.yaml:1:1: a case file has a list of cases" in second


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{dir}/no.yaml"], "no.yaml: cannot be read"),
        (["{plain}"], "plain.yaml:1:1: the pipeline names no files of cases (tests: tests/*.yaml, relative"),
        (["{shop}", "--junit", "{dir}/no/out.xml"], "the folder of {dir}/no/out.xml is missing (make it first)"),
        (["{shop}", "--junit", "{dir}"], "--junit: {dir} is a folder"),
        (["{shop}", "--covrage"], "No such option: --covrage"),
    ],
)  # fmt: skip
def test_wrong_use(cli: Cli, tested: Path, arguments: list[str], said: str) -> None:
    plain = tested.with_name("plain.yaml")
    plain.write_text(PIPELINE)
    names = {"dir": tested.parent, "plain": plain, "shop": tested}
    done = cli("test", *(argument.format(**names) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert said.format(**names) in done.err


def test_what_is_not_printable_is_shown_as_text(cli: Cli, tested: Path) -> None:
    write(tested, ("name: dear and abroad", 'name: "\\x1b[2J [red]dear[/red]"'), ("share: 1", "country: '[b]x'"))
    done = cli("test", tested)
    assert "\x1b" not in done.out
    assert "\\x1b[2J [red]dear[/red]" in done.out
    assert "[b]x" in done.out


def test_many_differences_are_not_all_shown(cli: Cli, tested: Path, tmp_path: Path) -> None:
    write(tested, ("      - {event: none,", "      - {amount: null, repeat: 60}\n      - {event: none,"))
    done = cli("test", tested, "--junit", tmp_path / "out.xml")
    assert (done.code, done.out.count("missing_field")) == (1, 50)
    assert "       and 10 more" in done.lines
    assert (tmp_path / "out.xml").read_text().count("expected decided") == 50 + 1
    assert len(json.loads(cli("test", tested, "--json").out)["cases"][0]["differences"]) == 60


def test_card_numbers(cli: Cli, tested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tested.write_text(tested.read_text().replace("card: {type: string,", "card: {type: string, pan: true,"))
    monkeypatch.delenv("STREAMPROC_SECRET", raising=False)
    done = cli("test", tested)
    assert (done.code, done.out) == (2, "")
    assert "set STREAMPROC_SECRET to hash them with" in done.err
    monkeypatch.setenv("STREAMPROC_SECRET", "s" * 32)
    assert cli("test", tested).code == 0
    write(tested, ("share: 1", "card: c1"))
    assert "card is a card number, of which only a hash is kept" in cli("test", tested).err


# ---- JUnit


def elements(root: Xml.Element, path: str = "") -> Iterator[tuple[str, set[str]]]:
    here = f"{path}/{root.tag}"
    yield here, set(root.attrib)
    for child in root:
        yield from elements(child, here)


def test_junit_is_what_pytest_writes(cli: Cli, tested: Path, tmp_path: Path) -> None:
    """Pytest's own report of one good and one bad test says which elements and attributes CI systems get to see."""
    (tmp_path / "test_it.py").write_text("def test_a(): pass\ndef test_b(): assert 0\n")
    theirs = tmp_path / "theirs.xml"
    pytest_ = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        "/dev/null",
        "--junitxml",
        str(theirs),
        str(tmp_path / "test_it.py"),
    ]
    subprocess.run(pytest_, check=False, capture_output=True, cwd=tmp_path)
    write(tested, ("share: 1", "share: 2"))
    ours = tmp_path / "ours.xml"
    assert cli("test", tested, "--junit", ours).code == 1
    wanted: dict[str, set[str]] = dict(elements(Xml.parse(theirs).getroot()))
    found: dict[str, set[str]] = dict(elements(Xml.parse(ours).getroot()))
    assert found.keys() == wanted.keys() == {
        "/testsuites", "/testsuites/testsuite", "/testsuites/testsuite/testcase",
        "/testsuites/testsuite/testcase/failure",
    }  # fmt: skip
    assert {path: names - found[path] for path, names in wanted.items()} == {
        path: {"hostname"} & names for path, names in wanted.items()
    }


def test_junit_says_what_failed(cli: Cli, tested: Path, tmp_path: Path) -> None:
    write(tested, ("share: 1", "share: 2"), ("dear and abroad", "'dear & \"abroad\" <1>'"))
    ours = tmp_path / "ours.xml"
    cli("test", tested, "--junit", ours)
    root = Xml.parse(ours).getroot()
    (suite,) = root
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "2", "failures": "1", "errors": "0", "skipped": "0",
    }  # fmt: skip
    good, bad = suite
    file = str(tested.with_name("cases.yaml"))
    assert (good.get("name"), good.get("classname"), len(good)) == ("four in an hour", "shop.cases", 0)
    assert (bad.get("name"), bad.get("file"), bad.get("line")) == ('dear & "abroad" <1>', file, "15")
    assert bad[0].get("message") == "pay: share: expected 2, found 1.0"
    assert bad[0].text == f"{file}:15\npay: share: expected 2, found 1.0"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# ---- the very plan of `run` and `backtest`


def test_ids_are_known_within_a_partition(cli: Cli, tested: Path) -> None:
    """As in a run; which partition a card goes to is what Kafka's own client says."""
    place = {card: (murmur2(card.encode()) & 0x7FFFFFFF) % 4 for card in (f"c{i}" for i in range(40))}
    here = next(card for card, partition in place.items() if card != "c1" and partition == place["c1"])
    elsewhere = next(card for card, partition in place.items() if partition != place["c1"])
    tested.with_name("cases.yaml").write_text(f"""
base: {{card: c1, amount: 20.00, country: be}}
cases:
  - name: one id, three cards
    events:
      - {{payment_id: p1}}
      - {{event: here, payment_id: p1, card: {here}}}
      - {{event: elsewhere, payment_id: p1, card: {elsewhere}}}
    expect:
      here: {{reasons: id_reused}}
      elsewhere: {{reasons: []}}
""")
    assert cli("test", tested).lines[-1] == "1 case: 1 ok, 0 failed"


def expectation(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a backtest as a case would expect it."""
    said = {name: row[name] for name in ("decision", "reasons")}
    said |= {"duplicate": _text(row["duplicate"]), "hits": row["shadow"]}
    features = {name: row[name] for name in row if name.startswith(("spend", "share", "abroad", "amount", "country"))}
    said["features"] = {name: _text(value) for name, value in features.items()}
    return said


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    return str(value) if isinstance(value, Decimal) else value


def test_it_decides_as_backtest_does(cli: Cli, tested: Path, tmp_path: Path) -> None:
    rows = payments(120, seed=3)
    lines = [msgspec.json.encode({k: v for k, v in row.items() if v is not None}).decode() for row in rows]
    (tmp_path / "in.ndjson").write_text("\n".join(lines))
    assert cli("backtest", tested, "--input", tmp_path / "in.ndjson", "--output", tmp_path / "out.parquet").code == 0
    decided = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(decided) == len(rows)
    case: dict[str, Any] = {
        "name": "a backtest",
        "events": [{"event": f"e{i}", "at": "2026-05-02T00:00:00Z", "record": line} for i, line in enumerate(lines)],
        "expect": {f"e{i}": expectation(row) for i, row in enumerate(decided)},
    }
    cases = tested.with_name("cases.yaml")
    cases.write_text(json.dumps({"cases": [case]}))
    done = cli("test", tested)
    assert done.code == 0, done.out[:3000]
    one, two = [f"e{i}" for i, row in enumerate(decided) if row["share"] not in (None, 1.0)][-2:]
    expect = case["expect"]
    total, share = decided[int(one[1:])]["spend_sum_24h"], decided[int(two[1:])]["share"]
    expect[one]["features"]["spend_sum_24h"] = str(total + Decimal("0.01"))
    expect[two]["features"]["share"] = repr(math.nextafter(share, 1))
    cases.write_text(json.dumps({"cases": [case]}))
    (failed,) = json.loads(cli("test", tested, "--json").out)["cases"]
    assert failed["differences"] == [
        {"event": one, "field": "spend_sum_24h", "expected": str(total + Decimal("0.01")), "found": str(total)},
        {"event": two, "field": "share", "expected": repr(math.nextafter(share, 1)), "found": repr(share)},
    ]


STAGES = """\
pipeline: two
tests: cases.yaml
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 24h
    fields: {payment_id: string, card: string, shop: string, amount: {type: decimal(2), required: true}, at: timestamp}
stages:
  - {name: shops, partition_by: shop, features: {shop_sum: {sum: amount, over: 1h}}}
  - {name: cards, partition_by: card, features: {card_sum: {sum: amount, over: 1h}, share: card_sum / shop_sum}}
rules:
  - {id: busy_shop, when: shop_sum > 50, then: review}
"""
STAGES_CASES = """\
base: {card: c1, shop: s1, amount: 20.00}
cases:
  - name: a shop of three cards
    events:
      - {event: first, payment_id: p1}
      - {card: c2, at: +10m}
      - {event: no_amount, amount: null}
      - {event: third, card: c3, at: +20m}
      - {event: again, payment_id: p1, at: +0s, logged: +30m}
      - {event: home, at: +30m, shop: s2, amount: 5.00}
      - {event: no_card, card: null}
    expect:
      first: {decision: approve, features: {shop_sum: 20, card_sum: 20, share: 1}}
      third: {decision: review, hits: busy_shop, features: {shop_sum: 60, card_sum: 20, share: ~0.333}}
      no_amount: {dead_letter: missing_field}
      again: {duplicate: true, decision: approve}
      home: {misses: busy_shop, features: {shop_sum: 5, card_sum: 25, share: 5}}
      no_card: {decision: review, features: {shop_sum: 80}}
"""


def test_stages(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(STAGES)
    (tmp_path / "cases.yaml").write_text(STAGES_CASES)
    done = cli("test", tmp_path / "two.yaml", "--coverage")
    assert done.code == 0, done.out + done.err
    assert done.lines[-2:] == ["rules never hit: 0 of 1", "features never looked at: 0 of 3"]
    (tmp_path / "cases.yaml").write_text(STAGES_CASES.replace("shop_sum: 60", "shop_sum: 40"))
    assert [line.split() for line in cli("test", tmp_path / "two.yaml").lines][2] == [
        "third",
        "shop_sum",
        "40",
        "60.00",
    ]
