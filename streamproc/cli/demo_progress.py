"""The demo's live line on stderr: on a terminal only."""

from __future__ import annotations

__all__ = ["DemoProgress"]

import sys
from types import TracebackType
from typing import Self

from streamproc.cli.demo_reader import DecisionReader
from streamproc.clock import Clock

_TICK_SECONDS = 0.2


class DemoProgress:
    """How many are decided, how fast, and what the decisions are."""

    def __init__(self, total: int, reader: DecisionReader, clock: Clock) -> None:
        from rich.console import Console
        from rich.status import Status

        self._total = total
        self._reader = reader
        self._clock = clock
        self._status = Status("generating payments", console=Console(stderr=True)) if sys.stderr.isatty() else None

    async def run(self) -> None:
        """Update the line until cancelled."""
        before, at = 0, self._clock.monotonic()
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            now, decided = self._clock.monotonic(), self._reader.decisions
            if self._status is not None and decided:
                self._status.update(self._line(decided, (decided - before) / (now - at)))
            before, at = decided, now

    def _line(self, decided: int, speed: float) -> str:
        actions = ", ".join(f"{name} {count:,}" for name, count in self._reader.actions.most_common())
        return f"{decided:,} of {self._total:,} payments decided ({speed:,.0f} a second): {actions}"

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()
