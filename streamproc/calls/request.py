"""A record -> what the service is asked, as bytes. Pure."""

from __future__ import annotations

__all__ = ["Asks", "Query", "Request", "RequestWriter", "writer_of"]

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from operators.call import HttpRequest, SqlQuery

_NULL = msgspec.Raw(b"null")
_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Request(NamedTuple):
    """One request; `body` None: without one."""

    method: str
    url: str
    body: bytes | None = None

    @property
    def digest(self) -> bytes:
        """What equal requests, and only they, have in common; 16 bytes."""
        text = f"{self.method} {self.url}\n".encode()
        return hashlib.blake2b(text + (self.body or b""), digest_size=16).digest()


class Query(NamedTuple):
    """The texts that a query is asked with."""

    values: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        """As of a `Request`."""
        return hashlib.blake2b(msgspec.json.encode(self.values), digest_size=16).digest()


class Asks(Protocol):
    """Writes what is asked about a record."""

    def write(self, record: bytes) -> Request | Query | None:
        """What to ask about `record`; None: nothing, for a column in the address, or in the query, is NULL.

        Raises:
            ValueError: it is no record that a stage has handed on.
        """
        ...


def writer_of(asks: HttpRequest | SqlQuery) -> Asks:
    """Who writes what this asks."""
    return RequestWriter(asks) if isinstance(asks, HttpRequest) else QueryWriter(asks)


class _Columns:
    """Reads columns of records, as JSON text."""

    def __init__(self, columns: Sequence[str]) -> None:
        fields: list[Any] = [(f"f{i}", msgspec.Raw, _NULL) for i in range(len(columns))]
        rename = {f"f{i}": name for i, name in enumerate(columns)}
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Asked", fields, rename=rename, gc=False)).decode
        self._columns = tuple(columns)

    def of(self, record: bytes) -> dict[str, bytes]:
        """Raises ValueError as `Asks.write`."""
        try:
            row = self._decode(record)
        except _FAILURES:
            raise ValueError("not a record that a stage has handed on") from None
        return {name: bytes(getattr(row, f"f{i}")) for i, name in enumerate(self._columns)}


class RequestWriter:
    """Writes the requests of one call."""

    def __init__(self, spec: HttpRequest) -> None:
        self._method = spec.method
        self._literals, self._slots = spec.url[0::2], spec.url[1::2]
        self._body, self._columns = spec.body, _Columns(spec.columns)

    def write(self, record: bytes) -> Request | None:
        """See `Asks`."""
        row = self._columns.of(record)
        try:
            return self._written(row)
        except _FAILURES:
            raise ValueError("not a record that a stage has handed on") from None

    def _written(self, row: dict[str, bytes]) -> Request | None:
        url = [self._literals[0]]
        for column, literal in zip(self._slots, self._literals[1:], strict=True):
            if row[column] == b"null":
                return None
            url += [_quoted(row[column]), literal]
        body = None
        if self._body:
            parts = (b'"%b":%b' % (name.encode(), row[column]) for name, column in self._body)
            body = b"{%b}" % b",".join(parts)
        return Request(self._method, "".join(url), body)


class QueryWriter:
    """Writes the values of one query."""

    def __init__(self, spec: SqlQuery) -> None:
        self._names, self._columns = spec.columns, _Columns(tuple(dict.fromkeys(spec.columns)))

    def write(self, record: bytes) -> Query | None:
        """See `Asks`."""
        row = self._columns.of(record)
        if any(row[name] == b"null" for name in self._names):
            return None
        try:
            return Query(tuple(_text(row[name]) for name in self._names))
        except _FAILURES:
            raise ValueError("not a record that a stage has handed on") from None


def _text(raw: bytes) -> str:
    """A JSON value as text: of a string, what it says."""
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()


def _quoted(raw: bytes) -> str:
    """A JSON value as a part of an address: it stays inside its place, whatever it holds."""
    text = _text(raw)
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
