"""Patience with a log that does not answer."""

from __future__ import annotations

__all__ = ["Patience"]

from collections.abc import Awaitable, Callable

import structlog

from state.errors import EventLogError, FencedError
from streamproc.clock import Clock

_RETRY_SECONDS = 0.2
_UNREACHABLE_SECONDS_MAX = 60.0


class Patience:
    """A log that fails for a moment is borne for a minute, counted from its first failure in a row."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failing_since = 0.0
        self._logger = structlog.get_logger("worker")

    async def with_(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        """What `attempt` says; False if the log did not answer, after a pause.

        Raises:
            EventLogError: it has not answered for a minute, or waiting does not help.
        """
        try:
            result = await attempt()
        except FencedError:
            raise
        except EventLogError as error:
            now = self._clock.monotonic()
            self._failing_since = self._failing_since or now
            if not error.retriable or now - self._failing_since > _UNREACHABLE_SECONDS_MAX:
                raise
            self._logger.warning("the log does not answer, trying again", error=str(error))
            await self._clock.sleep(_RETRY_SECONDS)
            return False
        self._failing_since = 0.0
        return result
