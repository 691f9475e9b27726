"""A call out between two stages: plain data that the language writes, and that runtime and backtest carry out.

A stage hands its rows on to `source`; each is answered by the service, or by the declared defaults, and goes on to
`target` with the answer in it, in the same partition and order. What follows only ever reads the answer.
"""

from __future__ import annotations

__all__ = ["Breaking", "CallSpec", "Fork", "HttpRequest", "SqlQuery", "failed_column"]

from typing import Any

import msgspec

from operators.schema import FieldSpec


class HttpRequest(msgspec.Struct, frozen=True):
    """What an HTTP service is asked.

    `url`: literal, column, literal, column ... literal; scheme, host and port lie in the first. `body`: (name, column)
    pairs of the JSON object that is sent; empty: no body. `headers`: a value `$NAME` is an environment variable's.
    """

    url: tuple[str, ...]
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it needs, each once."""
        return tuple(dict.fromkeys([*self.url[1::2], *(column for _, column in self.body)]))


class SqlQuery(msgspec.Struct, frozen=True):
    """What a PostgreSQL database is asked.

    `text`: a query of at most one row; `$1`, `$2` ... stand for the texts of `columns`. `database`: its address, or
    `$NAME`, an environment variable's.
    """

    database: str
    text: str
    columns: tuple[str, ...]


class Breaking(msgspec.Struct, frozen=True):
    """When a failing service is left alone: `failures` (share) of the last `calls` failed; for `pause_ms`."""

    failures: float = 0.5
    calls: int = 50
    pause_ms: int = 5_000


class Fork(msgspec.Struct, frozen=True):
    """The ways that rows go at once, (topic, column) pairs: each row to the partition of the column's text, of its `id`
    where that is NULL.
    """

    ways: tuple[tuple[str, str], ...]
    id: str


class CallSpec(msgspec.Struct, frozen=True):
    """A call step.

    `target`: where rows go, in the same partition and order. `fork`: they go to several stages at once from here, each
    keyed by a column of its own, and none to `target`; None: they do not.

    `timeout_ms`: a row waits so long for its answer, retries and the wait for a slot included. `in_flight`: slots, that
    is calls at a time, of one worker.
    `cache_ms`: how long an answer serves equal requests; 0: never. `retries`: more attempts of a call, while no more
    than the share `retry_budget` of all calls is retried. `returns`: what the answer adds to the row; a `source` with
    dots leads into nested objects. `default`: JSON values in their place when the call fails, one each. `deadline_ms`:
    rows that came to the log longer ago when a call would begin have the defaults, nobody is asked; 0: all are.
    """

    pipeline: str
    name: str
    source: str
    target: str
    asks: HttpRequest | SqlQuery
    returns: tuple[FieldSpec, ...]
    default: tuple[Any, ...]
    timeout_ms: int = 100
    in_flight: int = 1_000
    cache_ms: int = 0
    retries: int = 1
    retry_budget: float = 0.1
    breaking: Breaking = Breaking()
    deadline_ms: int = 0
    fork: Fork | None = None

    @property
    def group(self) -> str:
        """Whose committed offsets say which rows are answered; no pipeline can be called so."""
        return f"{self.pipeline}:{self.name}"


def failed_column(call: str) -> str:
    """The column that says whether a row has the defaults of `call`.

    >>> failed_column("device_reputation")
    'device_reputation_failed'
    """
    return f"{call}_failed"
