"""Engines make themselves ready: seconds, and the first time on a machine more, while loops are compiled.

They decide the same before and after, and may change over between any two batches: a worker need not wait for it.
"""

from __future__ import annotations

__all__ = ["prepare", "prepare_beside"]

import asyncio
import threading
from collections.abc import Callable, Sequence

import structlog

from streamproc.clock import Clock
from streamproc.runtime.engine import Engine

_COMPILING = "steps make themselves ready: code is compiled for this machine where none is kept, once, about 20 s"
_LOOK_SECONDS = 0.05
_LOOKS_MAX = 40


def _logged(what: str) -> None:
    structlog.get_logger("pipeline").info(what)


def prepare(
    engine: Engine,
    tell: Callable[[str], object] = _logged,
    *,
    patience: float = 3.0,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Let an engine do once what takes seconds and makes its batches cheaper; not on an event loop.

    `tell`: is given a sentence, in another thread, if that takes more than `patience` seconds. `enough`: asked before
    each step; what is left stays as it is.
    """
    waiting = threading.Timer(patience, tell, [_COMPILING])
    waiting.daemon = True
    waiting.start()
    try:
        engine.prepare(enough)
    finally:
        waiting.cancel()


async def prepare_beside(engines: Sequence[Engine], decides: Callable[[], bool], clock: Clock) -> None:
    """`prepare` in a thread beside a worker, once it `decides`, or has had two seconds for it: what makes batches
    cheaper must not keep the first one waiting, and a long restore gains by it. Cancelled, it ends with a step.
    """
    for _ in range(_LOOKS_MAX):
        if decides():
            break
        await clock.sleep(_LOOK_SECONDS)
    over = threading.Event()
    try:
        for engine in engines:
            await asyncio.to_thread(prepare, engine, enough=over.is_set)
    finally:
        over.set()
