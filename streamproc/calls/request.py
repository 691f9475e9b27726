"""A record -> what the service is asked, as bytes. Pure."""

from __future__ import annotations

__all__ = ["Request", "RequestWriter"]

import hashlib
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from operators.call import HttpRequest

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


class RequestWriter:
    """Writes the requests of one call."""

    def __init__(self, spec: HttpRequest) -> None:
        self._method = spec.method
        self._literals, self._slots = spec.url[0::2], spec.url[1::2]
        self._body = spec.body
        fields: list[Any] = [(f"f{i}", msgspec.Raw, _NULL) for i in range(len(spec.columns))]
        rename = {f"f{i}": name for i, name in enumerate(spec.columns)}
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Asked", fields, rename=rename, gc=False)).decode
        self._places = {name: f"f{i}" for i, name in enumerate(spec.columns)}

    def write(self, record: bytes) -> Request | None:
        """What to ask about `record`; None: nothing, for a column in the address is NULL.

        Raises:
            ValueError: it is no record that a stage has handed on.
        """
        try:
            return self._written(record)
        except _FAILURES:
            raise ValueError("not a record that a stage has handed on") from None

    def _written(self, record: bytes) -> Request | None:
        row = self._decode(record)
        url = [self._literals[0]]
        for column, literal in zip(self._slots, self._literals[1:], strict=True):
            raw = bytes(getattr(row, self._places[column]))
            if raw == b"null":
                return None
            url += [_quoted(raw), literal]
        body = None
        if self._body:
            parts = (b'"%b":%b' % (name.encode(), bytes(getattr(row, self._places[c]))) for name, c in self._body)
            body = b"{%b}" % b",".join(parts)
        return Request(self._method, "".join(url), body)


def _quoted(raw: bytes) -> str:
    """A JSON value as a part of an address: it stays inside its place, whatever it holds."""
    text = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
