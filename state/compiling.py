"""Loops as machine code, where numba is installed (`pip install 'streamproc[compiled]'`); its only importer.

A loop is a plain function over numpy arrays and numbers, and gives the same when it is not compiled: floats are
computed as Python does (no fast math), int64 as numpy does. The code is kept beside the source, or in NUMBA_CACHE_DIR.
"""

from __future__ import annotations

__all__ = ["can_compile", "compiled", "made_or_told"]

import importlib.util
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def can_compile() -> bool:
    """Whether numba is installed, and not told to do nothing (NUMBA_DISABLE_JIT=1); to import it takes half a second,
    which nobody need pay who compiles nothing.
    """
    is_told_not_to = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    return not is_told_not_to and importlib.util.find_spec("numba") is not None


def compiled(loop: Callable[P, R], helpers: Iterable[Callable[..., Any]] = ()) -> Callable[P, R]:
    """The loop as machine code, made when it is first called with arguments of a type (seconds, once a machine).

    Args:
        loop: to be named once.
        helpers: plain functions of its module that it calls; they are compiled with it. What is kept of a loop is made
            anew when its module changes, not when a number does that it has from another one.

    Raises:
        ImportError: numba is not installed.
    """
    import numba
    from numba.extending import register_jitable

    for helper in helpers:
        register_jitable(forceinline=True)(helper)
    made: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy")(loop)
    return made


def made_or_told(make: Callable[[], R], otherwise: str) -> R | None:
    """What `make` gives, which compiles and tries it; None where that fails, and a warning that says what is done
    `otherwise`.
    """
    try:
        return make()
    except Exception as error:  # the compiler's, of many kinds; most of all: nowhere to keep the code
        logging.getLogger("operators").warning(
            "%s: numba compiles nothing here (%s); can NUMBA_CACHE_DIR be written?", otherwise, type(error).__name__
        )
        return None
