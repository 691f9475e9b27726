"""The client of PostgreSQL against a real server that is slow, locks, errs, floods and goes away."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from operators.call import SqlQuery
from operators.schema import DataType, FieldSpec, Kind
from state.errors import ConfigError
from streamproc.calls.metrics import CallRegistry
from streamproc.calls.postgres import PostgresTransport, tls_of
from streamproc.calls.service import Service
from streamproc.clock import SystemClock
from tests.calls.postgres import Postgres, missing
from tests.calls.specs import record, spec

pytestmark = [
    pytest.mark.skipif(missing(), reason="PostgreSQL is not installed"), pytest.mark.timeout(120),
]  # fmt: skip
FAILED = {"reputation": 0.5, "known_bad": None, "device_failed": True}
ABSENT = {"reputation": None, "known_bad": None, "device_failed": False}
BY_ID = "select reputation, known_bad from devices where id = $1::text"
TABLE = """
create table devices (id text primary key, reputation float8, known_bad boolean, amount numeric, seen timestamptz);
insert into devices select 'd' || n, n / 1000.0, n % 7 = 0, n / 100.0, to_timestamp(n) from generate_series(1, 300) n;
insert into devices values ('Zürich & ''co''', 0.75, null, -12345678901.25, '2026-05-01T12:00:00.5+02');
create function writes() returns float8 language sql as $$ delete from devices returning 1.0::float8 $$;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        server.execute(TABLE)
        yield server


class Asking:
    """A database that is asked, for as long as the block lasts."""

    def __init__(self, server: Postgres, text: str = BY_ID, **changes: Any) -> None:
        query = SqlQuery("$DATABASE", text, ("device",))
        given: dict[str, Any] = {"asks": query, "timeout_ms": 20_000, "in_flight": 5} | changes
        made = spec(**given)
        self.registry = CollectorRegistry()
        self.transport = PostgresTransport(made, {"DATABASE": server.url})
        self.service = Service(made, self.transport, SystemClock(), CallRegistry(self.registry).of("device"))

    async def __aenter__(self) -> Asking:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.service.close()

    async def told(self, *devices: Any) -> list[dict[str, Any]]:
        answers = [self.service.answer(record(device)) for device in devices]
        found = [answer if isinstance(answer, bytes) else await answer for answer in answers]
        return [json.loads(b"{%b}" % members) for members in found]

    def results(self) -> dict[str, float]:
        samples = next(iter(metric for metric in self.registry.collect() if metric.name == "streamproc_calls")).samples
        return {sample.labels["result"]: sample.value for sample in samples if sample.name.endswith("_total")}


async def test_each_row_gets_its_own(server: Postgres) -> None:
    numbers = [*range(1, 300), 1, 2, 3]
    async with Asking(server) as asking:
        found = await asking.told(*(f"d{n}" for n in numbers))
        assert found == [{"reputation": n / 1000, "known_bad": n % 7 == 0, "device_failed": False} for n in numbers]
        assert len(asking.transport._idle) <= 5, "as many connections as calls at a time"


async def test_a_value_is_never_a_piece_of_the_query(server: Postgres) -> None:
    devices = ["Zürich & 'co'", "' or true --", "d1'; drop table devices; --", "$1", "{device}", "%s", "", None]
    async with Asking(server) as asking:
        found = await asking.told(*devices)
    assert found == [{"reputation": 0.75, "known_bad": None, "device_failed": False}, *[ABSENT] * 7]


async def test_types_come_through_exactly(server: Postgres) -> None:
    kinds = (("amount", DataType(Kind.DECIMAL, 2)), ("seen", DataType(Kind.TIMESTAMP)), ("n", DataType(Kind.INT64)))
    returns = tuple(FieldSpec(name, kind, name) for name, kind in kinds)
    text = "select amount, seen, 9223372036854775807 as n from devices where id = $1::text"
    async with Asking(server, text, returns=returns, default=(None, None, None)) as asking:
        (found,) = await asking.told("Zürich & 'co'")
    assert (found["amount"], found["seen"], found["n"]) == (-12345678901.25, 1777629600500, 9223372036854775807)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("select reputation, known_bad from devices where id <> $1::text", "several_rows"),
        ("select reputation from devices where id = $1::text", "bad_answer"),
        ("select 'high' as reputation, known_bad from devices where id = $1::text", "bad_answer"),
        ("select repeat('x', 70000) as reputation, true as known_bad where $1::text is not null", "too_large"),
        ("select reputation, known_bad from machines where id = $1::text", "refused"),
        ("select $1::text::int as reputation, true as known_bad", "refused"),
        ("select writes() as reputation, true as known_bad where $1::text is not null", "server_error"),
        ("select 1.0 / 0 as reputation, true as known_bad where $1::text is not null", "refused"),
    ],
)
async def test_what_is_no_answer_is_the_default(server: Postgres, text: str, result: str) -> None:
    async with Asking(server, text) as asking:
        with capture_logs() as logs:
            assert await asking.told("d1") == [FAILED]
        assert asking.results()[result] == 1
    assert "d1" not in str(logs)


async def test_a_slow_query_is_ended_by_the_database_too(server: Postgres) -> None:
    slow = "select 1.0 as reputation, true as known_bad from pg_sleep(600) where $1::text is not null"
    async with Asking(server, slow, timeout_ms=200) as asking:
        assert await asking.told("d1", "d2") == [FAILED] * 2
        assert asking.results()["timeout"] == 2
    left = "select count(*)::float8 as reputation, $1::text is null as known_bad from pg_stat_activity where query like"
    async with Asking(server, f"{left} '%pg_sleep(600)%' and query not like '%activity%'") as asking:
        for _ in range(100):
            (found,) = await asking.told("d1")
            if found["reputation"] == 0:
                return
    raise AssertionError("the database still works for nobody")


async def test_it_goes_away_and_comes_back(server: Postgres) -> None:
    good = {"reputation": 0.001, "known_bad": False, "device_failed": False}
    async with Asking(server) as asking:
        assert await asking.told("d1") == [good]
        server.stop()
        try:
            assert await asking.told("d1") == [FAILED]
            assert await asking.told("d1") == [FAILED]
        finally:
            server.start()
        assert await asking.told("d1") == [good]
        assert asking.results()["no_connection"] == 2


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"call device: database is \$DATABASE, and the environment has no DATABASE"):
        PostgresTransport(spec(asks=SqlQuery("$DATABASE", BY_ID, ("device",))), {"OTHER": "x"})
    with pytest.raises(ConfigError, match="what DATABASE says is no address of a database") as caught:
        PostgresTransport(spec(asks=SqlQuery("$DATABASE", BY_ID, ("device",))), {"DATABASE": "me:s3cret@h"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "secured"),
    [
        ("postgresql://me@127.0.0.1:5432/d", False),
        ("postgresql://me@localhost/d", False),
        ("postgresql:///d", False),
        ("postgresql://me@db.example/d", True),
        ("postgresql://me@db.example/d?sslmode=disable", False),
        ("postgresql://me@localhost/d?sslmode=verify-full", True),
    ],
)
def test_what_leaves_the_machine_is_secured(address: str, secured: bool) -> None:
    found = tls_of(spec(), address)
    assert isinstance(found, ssl.SSLContext) is secured
    if isinstance(found, ssl.SSLContext):
        assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_half_secured_is_refused() -> None:
    with pytest.raises(ConfigError, match="call device: sslmode is disable or verify-full"):
        tls_of(spec(), "postgresql://me@db.example/d?sslmode=require")


async def test_what_the_server_does_not_secure_is_not_asked(server: Postgres) -> None:
    changed = Asking(server)
    changed.transport._tls = ssl.create_default_context()
    async with changed as asking:
        assert await asking.told("d1") == [FAILED]
        assert asking.results()["no_connection"] == 1
