"""Writing to stdout: a full disk there is one clear line, like all that goes wrong."""

from __future__ import annotations

__all__ = ["write_json", "writing_stdout"]

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from state.errors import StreamprocError


def write_json(value: object) -> None:
    """One line of JSON, as `--json` asks for it."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


@contextmanager
def writing_stdout() -> Iterator[None]:
    """A block that writes to stdout, and nothing else; all of it is out at the end.

    Raises:
        BrokenPipeError: its reader has gone.
        StreamprocError: it cannot be written; it is given up, so that nothing is tried again at exit.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StreamprocError(f"stdout cannot be written: {error.strerror or type(error).__name__}") from error
