"""Engines make themselves ready: seconds, and the first time on a machine more, while loops are compiled."""

from __future__ import annotations

__all__ = ["prepare"]

import threading
from collections.abc import Callable

import structlog

from streamproc.runtime.engine import Engine

_COMPILING = "steps make themselves ready: code is compiled for this machine where none is kept, once, about 20 s"


def _logged(what: str) -> None:
    structlog.get_logger("pipeline").info(what)


def prepare(engine: Engine, tell: Callable[[str], object] = _logged, *, patience: float = 3.0) -> None:
    """Let an engine do once what takes seconds and makes its batches cheaper; not on an event loop.

    `tell`: is given a sentence, in another thread, if that takes more than `patience` seconds.
    """
    waiting = threading.Timer(patience, tell, [_COMPILING])
    waiting.daemon = True
    waiting.start()
    try:
        engine.prepare()
    finally:
        waiting.cancel()
