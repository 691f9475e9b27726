"""The parts of the composition that formats besides plain JSON need: decoders, schemas, and a log prepared for them."""

from __future__ import annotations

__all__ = ["REGISTRY_VARIABLE", "blocking_schemas", "find_schema", "prepared_log", "schema_cache", "schema_caches"]

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from operators.schema import StreamSchema
from state.errors import ConfigError
from streamproc.clock import SystemClock

if TYPE_CHECKING:
    from operators.forms import Schemas
    from streamproc.clock import Clock
    from streamproc.eventlog.contract import EventLog
    from streamproc.eventlog.registry import SchemaCache, SchemaSource

REGISTRY_VARIABLE = "STREAMPROC_REGISTRY"


def schema_cache(schema: StreamSchema, clock: Clock) -> SchemaCache | None:
    """Where the stream's schemas are kept; None: its format has none.

    Raises:
        ConfigError: it has, and no registry is named.
    """
    if schema.format != "avro":
        return None
    from operators.avro import schema_id
    from streamproc.eventlog.registry import SchemaCache

    return SchemaCache(_source(schema, clock), clock, schema_id)


def schema_caches(streams: Sequence[StreamSchema], clock: Clock) -> dict[str, SchemaCache]:
    """`schema_cache` of each stream that has one, by topic."""
    found = {stream.topic: schema_cache(stream, clock) for stream in streams}
    return {topic: cache for topic, cache in found.items() if cache is not None}


def blocking_schemas(schema: StreamSchema, clock: Clock) -> Schemas | None:
    """The same for commands that nobody waits for: a schema is fetched when it is asked for."""
    return _Blocking(_source(schema, clock)) if schema.format == "avro" else None


def find_schema(schema: StreamSchema, text: str) -> int:
    """The id of the schema that a file was written by. Blocks, and not on the loop.

    Raises:
        ConfigError: the registry does not have it.
    """
    subject = f"{schema.topic}-value"
    found = asyncio.run(_find(_source(schema, SystemClock()), subject, text))
    if found is None:
        raise ConfigError("the registry does not have the file's schema", hint=f"register it, as {subject}")
    return found


async def _find(source: SchemaSource, subject: str, text: str) -> int | None:
    return await source.find(subject, text)


def prepared_log(log: EventLog, streams: Sequence[StreamSchema], caches: Mapping[str, SchemaCache]) -> EventLog:
    """The log as the streams' formats need it; `caches`: by topic."""
    for stream in streams:
        if stream.format != "json":
            from streamproc.eventlog.prepared import PreparedLog

            cache = caches.get(stream.topic)
            log = PreparedLog(log, stream.topic) if cache is None else PreparedLog(log, stream.topic, cache.need)
    return log


def _source(schema: StreamSchema, clock: Clock) -> SchemaSource:
    from streamproc.eventlog.registry import open_registry

    address = os.environ.get(REGISTRY_VARIABLE) or schema.registry
    if not address:
        hint = f"set {REGISTRY_VARIABLE}, or `registry:` of the stream"
        raise ConfigError(f"stream {schema.name}: format avro needs a schema registry", hint=hint)
    return open_registry(address, clock)


class _Blocking:
    """Fetches within `get`, each schema once."""

    def __init__(self, source: SchemaSource) -> None:
        self._source = source
        self._found: dict[int, str | None] = {}

    def get(self, number: int) -> str | None:
        """See `Schemas`."""
        if number not in self._found:
            self._found[number] = asyncio.run(self._fetch(number))
        return self._found[number]

    async def _fetch(self, number: int) -> str | None:
        return await self._source.fetch(number)
