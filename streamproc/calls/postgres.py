"""The client of PostgreSQL: the only importer of asyncpg.

The database writes the row as JSON, so an answer is read as a service's is. Sessions are read-only, and the database
itself ends a query that takes longer than the call may. A connection on which anything went wrong is not used again.
"""

from __future__ import annotations

__all__ = ["PostgresTransport", "tls_of"]

import ssl
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import asyncpg

from operators.call import CallSpec, SqlQuery
from state.errors import ConfigError
from streamproc.calls.request import Query
from streamproc.calls.service import CallError

REPLY_CHARACTERS_MAX = 64 * 1024
_WRAPPED = "select left(row_to_json(asked)::text, %d) from (\n%s\n) asked limit 2"
_OUR_MISTAKE = ("22", "42")
"""Classes of SQLSTATE: the data or the query is wrong; the database works."""
_PASSES = ("08", "57")
"""A connection was lost; the database is starting, or going down."""
_CANCELLED = "57014"


class PostgresTransport:
    """Asks the query of one call step, on as many connections as it makes calls at a time.

    Args:
        spec: the step.
        environment: where `$NAME` in the address is looked up.

    Raises:
        ConfigError: the address names a variable that is not set.
    """

    def __init__(self, spec: CallSpec, environment: Mapping[str, str]) -> None:
        assert isinstance(spec.asks, SqlQuery)
        self._address = _address(spec, spec.asks.database, environment)
        self._text = _WRAPPED % (REPLY_CHARACTERS_MAX + 1, spec.asks.text)
        self._settings = {
            "application_name": f"streamproc {spec.pipeline} {spec.name}"[:60],
            "default_transaction_read_only": "on",
            "statement_timeout": str(spec.timeout_ms),
        }
        self._tls = tls_of(spec, self._address)
        # none given: else asyncpg looks for a password file, and the loop waits
        self._password = None if urlsplit(self._address).password else ""
        self._idle: list[asyncpg.Connection] = []

    async def send(self, request: Query) -> bytes | None:
        try:
            found = await self._asked(request)
        except asyncpg.PostgresError as error:
            raise _failed(error.sqlstate or "") from None  # its text may name what was asked
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError):
            raise CallError("no_connection", retriable=True) from None
        if len(found) > 1:
            raise CallError("several_rows", well=True)
        if not found:
            return None
        if len(found[0]) > REPLY_CHARACTERS_MAX:
            raise CallError("too_large")
        return found[0].encode()

    async def _asked(self, request: Query) -> list[str]:
        connection = await self._connection()
        try:
            found = [row[0] for row in await connection.fetch(self._text, *request.values)]
        except asyncpg.PostgresError:
            self._keep(connection)
            raise
        except BaseException:
            connection.terminate()
            raise
        self._keep(connection)
        return found

    async def _connection(self) -> asyncpg.Connection:
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        return await asyncpg.connect(
            self._address, password=self._password, ssl=self._tls, server_settings=self._settings
        )

    def _keep(self, connection: asyncpg.Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)

    async def close(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


def _failed(state: str) -> CallError:
    if state == _CANCELLED:
        return CallError("timeout")
    if state.startswith(_OUR_MISTAKE):
        return CallError("refused", well=True)
    return CallError("server_error", retriable=state.startswith(_PASSES))


def _address(spec: CallSpec, value: str, environment: Mapping[str, str]) -> str:
    if not value.startswith("$"):
        return value
    found = environment.get(value[1:])
    if found is None:
        raise ConfigError(
            f"call {spec.name}: database is {value}, and the environment has no {value[1:]}", hint="set it"
        )
    if not (address := found.strip()).startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"call {spec.name}: what {value[1:]} says is no address of a database", hint="postgresql://user@host/name"
        )
    return address


def tls_of(spec: CallSpec, address: str) -> ssl.SSLContext | bool:
    """How connections are secured: `sslmode` says it; without, those that leave the machine are, and certificates are
    checked.

    Raises:
        ConfigError: it says anything between the two.
    """
    parts = urlsplit(address)
    mode = parse_qs(parts.query).get("sslmode", [""])[-1]
    if mode not in ("", "disable", "verify-full"):
        raise ConfigError(f"call {spec.name}: sslmode is disable or verify-full", hint="?sslmode=verify-full")
    is_near = parts.hostname in (None, "localhost", "127.0.0.1", "::1")
    return False if mode == "disable" or (is_near and not mode) else ssl.create_default_context()
