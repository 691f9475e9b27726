"""Logs: one JSON object a line on stderr."""

from __future__ import annotations

__all__ = ["OneInAWhile", "configure_logs"]

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO, cast

import structlog

from streamproc.cli.common import LogLevel

_LEVELS = {LogLevel.DEBUG: 10, LogLevel.INFO: 20, LogLevel.WARNING: 30, LogLevel.ERROR: 40}


_QUIET_SECONDS = 5.0


class OneInAWhile(logging.Filter):
    """Of lines about a log that cannot be reached, many a second, one of each kind every five seconds.

    A filter of aiokafka's lines, and a processor of our own; each needs one of its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        return not record.name.startswith("aiokafka") or self._due(str(record.msg))

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The event, if it is written.

        Raises:
            DropEvent: it is not.
        """
        kind = str(event.get("event"))
        if kind.endswith("trying again") and not self._due(kind):
            raise structlog.DropEvent
        return event

    def _due(self, kind: str) -> bool:
        now = self._clock()
        if now < self._next.get(kind, now):
            return False
        self._next[kind] = now + _QUIET_SECONDS
        return True


class _Stderr:
    """Whatever sys.stderr is when something is written: loggers outlive it in tests."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(level: LogLevel = LogLevel.WARNING) -> None:
    """Send our logs, and those of libraries from WARNING on, to stderr."""
    structlog.configure(
        processors=[
            OneInAWhile(),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        foreign_pre_chain=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
    )
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(formatter)
    handler.addFilter(OneInAWhile())
    logging.basicConfig(level=max(_LEVELS[level], logging.WARNING), handlers=[handler], force=True)
