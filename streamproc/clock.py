"""Time as a port: whoever needs it is handed a `Clock`, so that tests and simulations own it."""

from __future__ import annotations

__all__ = ["Clock", "SystemClock"]

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for records and people, monotonic time for waiting."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an unknown start; never goes back."""
        ...

    def work(self) -> float:
        """Seconds of processor time this thread has used: what a batch costs, however busy the machine is."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let others run for `seconds`."""
        ...


class SystemClock:
    """The machine's own time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def work(self) -> float:
        return time.thread_time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
