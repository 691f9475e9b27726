"""`call:` between two stages: what it compiles to, what is refused and where, what is a barrier."""

from __future__ import annotations

import pytest

from operators.call import Breaking, CallSpec, HttpRequest, SqlQuery
from operators.plan import Plan, lean
from operators.schema import DataType, FieldSpec, Kind
from state.errors import ConfigError
from streamproc.cli.case_runner import CaseRunner
from streamproc.language import compile_stages, explain, read_pipeline
from streamproc.language.cases import read_cases

TEXT = """\
pipeline: p
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields: {id: string, card: string, device: string, amount: decimal(2), at: timestamp}
stages:
  - name: card
    partition_by: card
    features: {spend: {of: amount, aggregates: [sum], over: [1h]}}
  - name: rep
    call: {url: "https://h.example:9000/r?d={device}&s={spend_sum_1h}", cache: 10m}
    returns: {reputation: float64, known_bad: bool}
    default: {reputation: 0.5}
  - name: last
    partition_by: device
rules:
  - {id: bad, when: known_bad, then: decline}
"""


def stages(text: str) -> tuple[Plan, ...]:
    return compile_stages(read_pipeline(text, "p.yaml"))


def changed(*changes: tuple[str, str]) -> str:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_call_stands_between_two_stages() -> None:
    first, last = stages(TEXT)
    assert first.handoff is not None
    assert (first.handoff.topic, first.handoff.key, first.calls) == ("p.rep", "device", ())
    assert last.calls == (
        CallSpec(
            pipeline="p",
            name="rep",
            source="p.rep",
            target="p.last",
            asks=HttpRequest(("https://h.example:9000/r?d=", "device", "&s=", "spend_sum_1h", "")),
            returns=(
                FieldSpec("reputation", DataType(Kind.FLOAT64), "reputation"),
                FieldSpec("known_bad", DataType(Kind.BOOL), "known_bad"),
            ),
            default=(0.5, None),
            cache_ms=600_000,
        ),
    )
    assert last.stream.topic == "p.last"
    assert [field.name for field in last.stream.fields] == [
        "id", "card", "device", "amount", "at", "spend_sum_1h", "_route", "_digest", "reputation", "known_bad",
        "rep_failed",
    ]  # fmt: skip
    assert [field.name for field in last.stream.fields if field.required][-1] == "rep_failed"
    assert last.decision.calls == ("rep",)


def test_all_keys() -> None:
    call = (
        '{url: "http://[::1]/score", body: {dev: device, amount: amount}, headers: {Authorization: $TOKEN, X-Who: us}, '
        "method: PUT, timeout: 50ms, in_flight: 7, retries: 0, retry_budget: 0.5, "
        "breaker: {failures: 0.2, calls: 9, pause: 1m}}"
    )
    returns = "{reputation: {type: decimal(2), from: data.rep}, known_bad: bool, at2: timestamp}"
    text = changed(
        ('{url: "https://h.example:9000/r?d={device}&s={spend_sum_1h}", cache: 10m}', call),
        ("{reputation: float64, known_bad: bool}", returns),
        ("{reputation: 0.5}", "{reputation: 1.50, known_bad: true, at2: 2026-01-01T00:00:00Z}"),
    )
    (spec,) = stages(text)[1].calls
    assert spec.asks == HttpRequest(
        ("http://[::1]/score",), "PUT", (("Authorization", "$TOKEN"), ("X-Who", "us")),
        (("dev", "device"), ("amount", "amount")),
    )  # fmt: skip
    assert (spec.timeout_ms, spec.in_flight, spec.cache_ms, spec.retries, spec.retry_budget) == (50, 7, 0, 0, 0.5)
    assert spec.breaking == Breaking(0.2, 9, 60_000)
    assert spec.default == (1.5, True, 1_767_225_600_000)
    assert spec.returns[0] == FieldSpec("reputation", DataType(Kind.DECIMAL, 2), "data.rep")


def test_calls_follow_each_other() -> None:
    more = """\
  - name: second
    call: {url: "http://h.example", body: [reputation, rep_failed]}
    returns: {score: float64}
  - name: last
"""
    first, last = stages(changed(("  - name: last\n", more)))
    assert first.handoff is not None
    assert first.handoff.topic == "p.rep"
    assert [(call.name, call.source, call.target) for call in last.calls] == [
        ("rep", "p.rep", "p.second"), ("second", "p.second", "p.last"),
    ]  # fmt: skip
    body = (("reputation", "reputation"), ("rep_failed", "rep_failed"))
    assert last.calls[1].asks == HttpRequest(("http://h.example/",), "POST", body=body)
    assert last.stream.topic == "p.last"
    assert last.decision.calls == ("rep", "second")


def test_without_calls_nothing_changes() -> None:
    head, _, tail = TEXT.partition("  - name: rep\n")
    first, last = stages(head + tail[tail.index("  - name: last") :].replace("known_bad", "amount > 5"))
    assert first.handoff is not None
    assert (first.handoff.topic, last.stream.topic, last.calls, last.decision.calls) == ("p.last", "p.last", (), ())
    assert [field.name for field in last.stream.fields][-2:] == ["_route", "_digest"]


def test_it_is_explained() -> None:
    assert explain(stages(TEXT)[1]).splitlines()[1:5] == [
        "call rep: GET https://h.example:9000/r?d={device}&s={spend_sum_1h}",
        "  100ms at most, 1000 at a time, kept for 10m",
        "  reputation: float64, else 0.5",
        "  known_bad: bool, else NULL",
    ]


@pytest.mark.parametrize(
    ("old", "new", "state", "decision"),
    [
        ("h.example", "other.example", False, True),
        ("{reputation: 0.5}", "{reputation: 0.6}", False, True),
        ("cache: 10m", "cache: 20m, timeout: 1s, retries: 0", False, False),
        ("known_bad: bool}", "known_bad: bool, more: int64}", True, True),
        ("reputation: float64", "reputation: decimal(2)", True, True),
    ],
)
def test_what_is_a_barrier(old: str, new: str, state: bool, decision: bool) -> None:
    one, two = stages(TEXT)[1], stages(changed((old, new)))[1]
    assert (one.state_fingerprint != two.state_fingerprint) is state
    assert (one.decision_fingerprint != two.decision_fingerprint) is decision
    assert stages(TEXT)[0].state_fingerprint == stages(changed((old, new)))[0].state_fingerprint


URL = '"https://h.example:9000/r?d={device}&s={spend_sum_1h}"'
WRONG = [
    ("d={device}", "d={devise}", "p.yaml:13:17: call rep: unknown column 'devise' (did you mean device?)"),
    (URL, '"https://{device}.example/"', "p.yaml:13:17: the host of an address is fixed (http://host:port/path"),
    (URL, '"https://h.example:{device}/"', "p.yaml:13:17: the host of an address is fixed"),
    (URL, '"https://h.example{device}/"', "p.yaml:13:17: the host of an address is fixed"),
    (URL, '"https://me:secret@h.example/"', "p.yaml:13:17: a user in an address would be logged (headers:"),
    (URL, "ftp://h.example/", "p.yaml:13:17: 'ftp' begins no address"),
    (URL, "h.example/x", "p.yaml:13:17: 'h.example/x' begins no address"),
    (URL, '"https://h.example/a b"', "p.yaml:13:17: an address has letters, digits and %, and {column} for a value"),
    (URL, '"https://h.example/{device-id}"', "p.yaml:13:17: an address has letters, digits and %"),
    (URL, '"https://h.example/#x"', "p.yaml:13:17: what follows # is never sent"),
    (f"url: {URL}", "uri: x", "p.yaml:13:12: unknown key 'uri' in call rep (did you mean url?)"),
    (f"url: {URL}, ", "", "p.yaml:13:11: call rep lacks 'url' ({url:"),
    ("cache: 10m", "cache: soon", "p.yaml:13:80: 'soon' is not a duration"),
    ("cache: 10m", "timeout: 2m", "p.yaml:13:82: a time-out is at most a minute"),
    ("cache: 10m", "in_flight: 0", "'0' is not a whole number from 1 to 10000"),
    ("cache: 10m", "retries: 6", "'6' is not a whole number from 0 to 5"),
    ("cache: 10m", "retry_budget: 2", "'2' is not a number from 0 to 1"),
    ("cache: 10m", "breaker: {failure: 1}", "p.yaml:13:83: unknown key 'failure' in breaker (did you mean failures?)"),
    ("cache: 10m", "method: GETT", "p.yaml:13:81: unknown method 'GETT' (did you mean GET?)"),
    ("cache: 10m", "method: GET, body: [device]", "p.yaml:13:86: a GET has no body (method: POST)"),
    ("cache: 10m", "body: [devise]", "p.yaml:13:80: call rep: unknown column 'devise' (did you mean device?)"),
    ("cache: 10m", "body: {d: devise}", "p.yaml:13:83: call rep: unknown column 'devise' (did you mean device?)"),
    ("cache: 10m", "headers: {Authorization: x}", "p.yaml:13:98: header Authorization: a secret does not stand here"),
    ("cache: 10m", "headers: {Host: x}", "p.yaml:13:83: 'Host' cannot be given as a header"),
    ("cache: 10m", 'headers: {X: "a\\nb"}', "header X: a value is one line of ASCII"),
    ("    returns: {reputation: float64, known_bad: bool}\n", "", "p.yaml:12:5: call rep lacks 'returns' (returns:"),
    ("reputation: float64", "reputation: flaot64", "unknown type 'flaot64'; did you mean float64?"),
    ("known_bad: bool", "spend_sum_1h: bool", "p.yaml:14:50: 'spend_sum_1h' exists already (spend_sum_1h_of_rep"),
    ("known_bad: bool", "card: bool", "'card' exists already"),
    ("known_bad: bool", "rep_failed: bool", "returns: rep_failed says whether the call failed"),
    ("known_bad: bool", "known_bad: {type: string, pan: true}", "returns: pan is not for what a service returns"),
    (
        "{reputation: 0.5}",
        "{reputaton: 0.5}",
        "p.yaml:15:15: default: reputaton is not returned (did you mean reputation",
    ),
    ("{reputation: 0.5}", "{reputation: half}", "p.yaml:15:27: default: reputation is float64, not 'half'"),
    ("{reputation: 0.5}", "{reputation: nan}", "default: reputation is float64, not 'nan'"),
    ("{reputation: 0.5}", "{known_bad: yes}", "p.yaml:15:26: default: known_bad is bool, not 'yes'"),
    ("    default: ", "    defaults: ", "p.yaml:15:5: unknown key 'defaults' in call rep (did you mean default?)"),
    ("- name: rep", "- name: card", "a stage 'card' exists already"),
    (
        "- name: rep",
        "- name: decisions",
        "call decisions: p.decisions is the decisions topic too (choose another name)",
    ),
    ("- name: rep", "- name: payments", "call payments: p.payments is the stream's topic too"),
    ("partition_by: device", "partition_by: reputation", "partition_by: reputation is float64, not string or int64"),
    ("known_bad: bool}", "known_bad: bool, area: string}\n    ttl: 1d", "unknown key 'ttl' in call rep"),
    ("when: known_bad", "when: known_bod", "unknown column 'known_bod' (did you mean known_bad?)"),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG)
def test_what_is_wrong_is_said(old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stages(changed((old, new)))
    assert any(says in line for line in str(caught.value).splitlines()), str(caught.value)


def test_a_key_that_is_returned_comes_too_late() -> None:
    text = changed(
        ("known_bad: bool}", "known_bad: bool, area: string}"), ("partition_by: device", "partition_by: area")
    )
    with pytest.raises(ConfigError, match="partition_by: area is returned by rep: rows are on their way by then"):
        stages(text)


SQL = """\
    call:
      sql: select reputation, known_bad from devices where id = {device} and low < {spend_sum_1h} and seen < {at};
      database: $DEVICES
"""


def in_database(*changes: tuple[str, str]) -> str:
    """The call of `TEXT`, of a database."""
    head, call, tail = TEXT.partition("    call:")
    text = head + SQL + tail.partition("\n")[2]
    assert call
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_database_is_asked_by_values_of_their_types() -> None:
    (call,) = stages(in_database())[-1].calls
    assert call.asks == SqlQuery(
        "$DEVICES",
        "select reputation, known_bad from devices where id = $1::text and low < $2::text::numeric"
        " and seen < to_timestamp($3::text::numeric / 1000)",
        ("device", "spend_sum_1h", "at"),
    )
    assert call.in_flight == 10, "each has a connection"
    assert "call rep: $DEVICES, select reputation, known_bad from devices" in explain(stages(in_database())[-1])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{device}", "{devise}", "p.yaml:14:12: call rep: unknown column 'devise' (did you mean device?)"),
        ("{device}", "'{device}'", "p.yaml:14:12: {device} stands in quotes: it is a value (where id = {device})"),
        ("{device}", "$1", "p.yaml:14:12: values are given as {column}, not $1 (where id = {device_id})"),
        ("select reputation", "delete reputation", "p.yaml:14:12: sql is a query (sql: select risk from devices"),
        ("      database: $DEVICES\n", "", "p.yaml:14:7: call rep lacks 'database' (database: $DEVICES_DATABASE"),
        ("$DEVICES", "mysql://h/d", "p.yaml:15:17: 'mysql' begins no address of a database (postgresql://host:port"),
        ("$DEVICES", "postgresql://me:secret@h/d", "a password does not stand here (database: $VARIABLE)"),
        ("$DEVICES", "postgresql://h/d?password=secret", "a password does not stand here (database: $VARIABLE)"),
        ("database: $DEVICES", "database: $DEVICES\n      method: GET", "unknown key 'method' in call rep"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stages(in_database((old, new)))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


LATER = """\
  - name: again
    call: {url: "http://h.example/{card}/{spend_sum_1h}/{uses_count_1h}/{reputation}/{rep_failed}"}
    returns: {verdict: string}
  - {name: end, partition_by: card}
rules:
"""


def later(*changes: tuple[str, str]) -> str:
    """A call before a third stage, which is handed only what the second one adds to a row."""
    uses = "    features: {uses: {of: amount, aggregates: [count], over: [1h]}}\n"
    text = changed(("partition_by: device\n", "partition_by: device\n" + uses)).replace("rules:\n", LATER)
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_call_asks_by_whatever_a_row_has() -> None:
    *_, last = stages(later())
    (call,) = last.calls
    assert call.asks.columns == ("card", "spend_sum_1h", "uses_count_1h", "reputation", "rep_failed")
    assert last.decision.calls == ("rep", "again")


def test_what_a_row_has_is_not_returned_again() -> None:
    for name in ("amount", "spend_sum_1h", "uses_count_1h", "reputation", "rep_failed"):
        with pytest.raises(ConfigError, match=f"'{name}' exists already"):
            stages(later(("verdict", name)))


def test_a_worker_reads_which_calls_failed() -> None:
    """Though nothing in the last stage names these columns."""
    assert {"rep_failed", "again_failed"} <= {field.name for field in lean(stages(later())[-1]).stream.fields}


def test_a_call_stands_neither_first_nor_last() -> None:
    head, call = (
        TEXT.partition("stages:\n")[0] + "stages:\n",
        TEXT[TEXT.index("  - name: rep") : TEXT.index("  - name: last")],
    )
    stage = "  - {name: only, partition_by: card}\n"
    for text, says in (
        (call + stage, "call rep has no stage before it"),
        (stage + call, "call rep has no stage behind it"),
    ):
        with pytest.raises(ConfigError, match=says):
            stages(head + text)


CASES = """\
cases:
  - name: one
    base: {card: c1, device: d1, amount: 1, reputation: 0.25}
    events:
      - {event: known, known_bad: true}
      - {event: other, reputation: 0.125}
      - {event: down, reputation: null}
    expect:
      known: {decision: decline, features: {reputation: 0.25, known_bad: true, rep_failed: false}}
      other: {decision: approve, features: {reputation: 0.125, known_bad: null, rep_failed: false}}
      down: {decision: approve, features: {reputation: 0.5, known_bad: null, rep_failed: true}}
"""


def test_cases_say_what_services_answer() -> None:
    plans = stages(TEXT)
    (case,) = read_cases(CASES, "t.yaml", plans)
    assert [given.answers for given in case.given] == [
        {"reputation": 0.25, "known_bad": True}, {"reputation": 0.125}, {},
    ]  # fmt: skip
    assert all(b"reputation" not in given.value for given in case.given)
    assert CaseRunner(plans).run(case).differences == ()


def test_only_events_that_are_decided_have_answers() -> None:
    logins = (
        "  logins: {id: login_id, event_time: at, fields: {login_id: string, card: string, at: timestamp}}\nstages:\n"
    )
    plans = stages(changed(("stages:\n", logins)))
    (case,) = read_cases(CASES, "t.yaml", plans)
    assert CaseRunner(plans).run(case).differences == ()
    with pytest.raises(ConfigError, match="unknown key 'known_bad' in the event"):
        read_cases(CASES.replace("known_bad: true}\n", "stream: logins, known_bad: true}\n"), "t.yaml", plans)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("known_bad: true}\n", "known_bad: 1}\n", "t.yaml:5:35: known_bad is bool, and '1' is not"),
        ("reputation: 0.125}\n", "reputation: 1e999}\n", "t.yaml:6:36: reputation is float64, no service can say this"),
        (
            "reputation: null}",
            "reputaton: 1}",
            "t.yaml:7:23: unknown key 'reputaton' in the event (did you mean reputation?)",
        ),
    ],
)
def test_an_answer_that_no_service_can_give_is_refused(old: str, new: str, says: str) -> None:
    assert CASES.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        read_cases(CASES.replace(old, new), "t.yaml", stages(TEXT))
    assert str(caught.value).startswith(says)


def test_a_deadline_is_every_calls_too() -> None:
    found = [
        [call.deadline_ms for call in plan.calls] for plan in stages(TEXT.replace("stages:", "deadline: 80ms\nstages:"))
    ]
    assert found == [[], [80]]
    assert [[call.deadline_ms for call in plan.calls] for plan in stages(TEXT)] == [[], [0]]
