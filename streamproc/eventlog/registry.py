"""Schemas by their id: Confluent's schema registry over HTTP, or a folder of `ID.avsc` files; and a cache of them.

The registry's API: `GET /schemas/ids/{id}`, `POST /subjects/{subject}` (Confluent's documentation, "Schema Registry API
Reference"). Credentials are taken from the URL's user info and never shown. Whoever decodes asks the cache, which does
no I/O: `need` fetches what a batch of records will ask for before it is decoded.
"""

from __future__ import annotations

__all__ = ["FolderRegistry", "HttpRegistry", "SchemaCache", "SchemaSource", "open_registry"]

import asyncio
import base64
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from state.errors import ConfigError, EventLogError
from streamproc.clock import Clock

ATTEMPTS = 3
TIMEOUT_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
_BYTES_MAX = 4 << 20
_AT_ONCE = 8
_ABSENT_SECONDS = 60.0
_ABSENT_MAX = 10_000
_JSON = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND, _REFUSED, _TOO_MANY = 404, (401, 403), 429

T = TypeVar("T")


class SchemaSource(Protocol):
    """Where schemas come from."""

    async def fetch(self, number: int) -> str | None:
        """The schema's JSON; None: there is none of Avro with that id.

        Raises:
            EventLogError: retriable if it does not answer.
        """
        ...

    async def find(self, subject: str, schema: str) -> int | None:
        """The id of a schema that is there already; `subject`: what it is registered under, where that matters.

        Raises:
            EventLogError: retriable if it does not answer.
        """
        ...


class SchemaCache:
    """Schemas that were fetched; an id's schema never changes, so they are kept.

    That there is none is forgotten after a minute.
    """

    def __init__(self, source: SchemaSource, clock: Clock, number_of: Callable[[bytes | None], int | None]) -> None:
        """`number_of`: the id that a record names, None if it names none."""
        self._source = source
        self._clock = clock
        self._number_of = number_of
        self._known: dict[int, str] = {}
        self._absent: dict[int, float] = {}

    def get(self, number: int) -> str | None:
        """The schema's JSON, if it was fetched."""
        return self._known.get(number)

    async def need(self, values: Sequence[bytes | None]) -> None:
        """Fetch the schemas of these records that are not here yet.

        Raises:
            EventLogError: the source fails; nothing is forgotten of what it gave.
        """
        heads = {value[:5] for value in values if value}
        numbers = {number for head in heads if (number := self._number_of(head)) is not None}
        now = self._clock.monotonic()
        missing = [n for n in sorted(numbers) if n not in self._known and self._absent.get(n, -1.0) < now]
        for begin in range(0, len(missing), _AT_ONCE):
            some = missing[begin : begin + _AT_ONCE]
            for number, schema in zip(some, await asyncio.gather(*map(self._source.fetch, some)), strict=True):
                self._keep(number, schema)

    def _keep(self, number: int, schema: str | None) -> None:
        if schema is not None:
            self._known[number] = schema
            return
        if len(self._absent) >= _ABSENT_MAX:
            self._absent.clear()
        self._absent[number] = self._clock.monotonic() + _ABSENT_SECONDS


class FolderRegistry:
    """Files `ID.avsc` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError if there is no such folder."""
        if not folder.is_dir():
            raise ConfigError(f"registry: there is no folder {folder}", hint="a folder of files ID.avsc")
        self._folder = folder

    async def fetch(self, number: int) -> str | None:
        """See `SchemaSource`."""
        return await asyncio.to_thread(self._read, number)

    async def find(self, subject: str, schema: str) -> int | None:
        """See `SchemaSource`: the first file that holds the same JSON."""
        return await asyncio.to_thread(self._find, msgspec.json.decode(schema))

    def _find(self, wanted: Any) -> int | None:
        numbers = sorted(int(path.stem) for path in self._folder.glob("*.avsc") if path.stem.isdecimal())
        for number in numbers:
            try:
                if msgspec.json.decode(self._read(number) or "null") == wanted:
                    return number
            except msgspec.DecodeError:
                continue
        return None

    def _read(self, number: int) -> str | None:
        try:
            return (self._folder / f"{number}.avsc").read_text("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        except OSError as error:
            raise EventLogError(f"registry: schema {number} cannot be read: {error.strerror}", retriable=True) from None


class HttpRegistry:
    """A schema registry over HTTP: each request is bounded in time and size, and tried a few times."""

    def __init__(self, url: str, clock: Clock, *, timeout_s: float = TIMEOUT_SECONDS) -> None:
        """Raises ConfigError if `url` names no registry."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError("registry: this is no URL of a schema registry", hint="http://host:8081 or file:DIR")
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self._shown = f"the schema registry at {host}"
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._headers = {"Accept": _JSON}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        self._clock = clock
        self._timeout_s = timeout_s
        self._open = urllib.request.build_opener(_NoRedirects).open

    async def fetch(self, number: int) -> str | None:
        """See `SchemaSource`."""
        return await self._ask(f"/schemas/ids/{number}", None, _avro)

    async def find(self, subject: str, schema: str) -> int | None:
        """See `SchemaSource`."""
        return await self._ask(f"/subjects/{quote(subject, safe='')}", {"schema": schema}, _number)

    async def _ask(self, path: str, body: Any, read: Callable[[Any], T]) -> T | None:
        """What is missing is asked for again, too: a follower of the registry may not have it yet."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return read(await asyncio.to_thread(self._send, path, body))
            except urllib.error.HTTPError as error:
                error.close()
                self._judge(error.code)
                if attempt == ATTEMPTS:
                    if error.code == _NOT_FOUND:
                        return None
                    raise self._failed(f"answers with status {error.code}") from None
            except (OSError, HTTPException, msgspec.DecodeError, ValueError) as error:
                if attempt == ATTEMPTS:
                    raise self._failed(f"fails: {type(error).__name__}") from None
            await self._clock.sleep(_PAUSE_SECONDS * attempt)
        raise AssertionError("the last attempt returns or raises")

    def _judge(self, status: int) -> None:
        """Raises EventLogError for an answer that another attempt would not change."""
        if status in _REFUSED:
            raise EventLogError(f"{self._shown} refuses us (status {status}): see STREAMPROC_REGISTRY")
        if status < 500 and status not in (_NOT_FOUND, _TOO_MANY, 408):
            raise EventLogError(f"{self._shown} answers with status {status}: is it one?")

    def _failed(self, what: str) -> EventLogError:
        return EventLogError(f"{self._shown} {what}", retriable=True)

    def _send(self, path: str, body: Any) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = self._headers | ({"Content-Type": _JSON} if data else {})
        request = urllib.request.Request(self._base + path, data, headers)  # noqa: S310 - http or https: checked
        with self._open(request, timeout=self._timeout_s) as answer:
            found = answer.read(_BYTES_MAX + 1)
        if len(found) > _BYTES_MAX:
            raise ValueError("the answer is too large")
        return msgspec.json.decode(found)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials go to the registry that was named, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _avro(answer: Any) -> str | None:
    """The schema in an answer; None: it is of another kind, or refers to other schemas (not supported)."""
    if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
        raise ValueError("this is no answer of a schema registry")
    if answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
        return None
    return str(answer["schema"])


def _number(answer: Any) -> int:
    if not isinstance(answer, dict) or type(answer.get("id")) is not int:
        raise ValueError("this is no answer of a schema registry")
    return int(answer["id"])


def open_registry(address: str, clock: Clock) -> SchemaSource:
    """The registry at a URL, or `file:DIR`. Blocks.

    Raises:
        ConfigError: it is neither.
    """
    if address.startswith("file:"):
        return FolderRegistry(Path(address.removeprefix("file:")))
    return HttpRegistry(address, clock)
