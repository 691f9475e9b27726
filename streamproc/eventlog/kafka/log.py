"""The event log on Kafka: what the composition root makes, and all other parts come from."""

from __future__ import annotations

__all__ = ["KafkaLog"]

from collections.abc import Sequence
from typing import Any, Self

import msgspec

from state.errors import ConfigError
from streamproc.eventlog.contract import AssignmentListener
from streamproc.eventlog.kafka.admin import KafkaAdmin
from streamproc.eventlog.kafka.appender import KafkaAppender
from streamproc.eventlog.kafka.reader import KafkaReader
from streamproc.eventlog.kafka.scanner import KafkaScanner
from streamproc.eventlog.kafka.settings import Settings, parse_url
from streamproc.eventlog.kafka.writer import KafkaWriter


class KafkaLog:
    """Keeps the contract's `EventLog`.

    Nothing connects before it is used; an address where nobody answers is an EventLogError then.

    Args:
        bootstrap: `host:port[,host:port]`.
        settings: fields of `Settings`.

    Raises:
        ConfigError: the address or a setting is wrong.
    """

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        self._bootstrap = parse_url(f"kafka://{bootstrap}")
        try:
            self._settings = msgspec.convert(settings, Settings, strict=True)
        except msgspec.ValidationError as error:
            raise ConfigError(f"Kafka settings: {error}") from error
        if unknown := sorted(settings.keys() - set(Settings.__struct_fields__)):
            raise ConfigError(
                f"no such Kafka setting: {', '.join(unknown)}", hint=", ".join(Settings.__struct_fields__)
            )
        self._admin: KafkaAdmin | None = None

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> Self:
        """From `kafka://host:port[,host:port]`."""
        return cls(parse_url(url), **settings)

    @property
    def url(self) -> str:
        return f"kafka://{self._bootstrap}"

    def reader(
        self, group: str, topics: Sequence[str], listener: AssignmentListener, *, instance: str, index: int, count: int
    ) -> KafkaReader:
        """`instance` is the group.instance.id; `index` and `count` are not needed: the group shares out."""
        return KafkaReader(self._bootstrap, self._settings, group, topics, listener, instance=instance)

    def writer(self, transactional_id: str) -> KafkaWriter:
        return KafkaWriter(self._bootstrap, self._settings, transactional_id)

    def appender(self) -> KafkaAppender:
        return KafkaAppender(self._bootstrap, self._settings)

    def scanner(self) -> KafkaScanner:
        return KafkaScanner(self._bootstrap, self._settings)

    def admin(self) -> KafkaAdmin:
        if self._admin is None:
            self._admin = KafkaAdmin(self._bootstrap, self._settings)
        return self._admin

    async def close(self) -> None:
        """Close the admin; readers, writers and scanners belong to who opened them."""
        if self._admin is not None:
            await self._admin.close()
