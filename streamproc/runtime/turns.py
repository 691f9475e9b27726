"""Computing in turns: a batch is computed by a generator, which stops wherever its worker may do something else.

The worker lets its loop have a turn there. Each request of the transaction in flight, or of the one that was announced,
waits for the answer to the one before: they go on between the pieces of a batch, not after it.
"""

from __future__ import annotations

__all__ = ["Work", "at_once", "in_turns"]

import asyncio
from collections.abc import Generator
from typing import TypeVar

from streamproc.clock import Clock

T = TypeVar("T")
Work = Generator[None, None, T]
"""Pieces of work; what it returns is the result. Closed before its end, the stage at work leaves no trace."""
_TURNS = 4
"""Of the loop, from an answer in the socket to the request that follows it."""


def at_once(work: Work[T]) -> T:
    """The result of all pieces, one after the other."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


async def in_turns(work: Work[T], clock: Clock) -> tuple[T, float]:
    """The result, and what the pieces took: seconds of processor time. Between them others have a turn."""
    seconds = 0.0
    try:
        while True:
            begun = clock.work()
            try:
                next(work)
            except StopIteration as done:
                return done.value, seconds + clock.work() - begun
            seconds += clock.work() - begun
            for _ in range(_TURNS):
                await asyncio.sleep(0)
    finally:
        work.close()
