"""Files that are written whole or not at all."""

from __future__ import annotations

__all__ = ["replacing"]

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from state.errors import ConfigError


@contextmanager
def replacing(path: Path, option: str = "--output") -> Iterator[Path]:
    """A file beside `path` that takes its place at the end, and goes if something fails.

    Raises:
        ConfigError: nothing can be written there, or what stands there is a folder, a device or a pipe: nobody wants
            `/dev/null` to become a file.
    """
    draft, hint = path.with_name(f".{path.name}.{os.getpid()}"), f"name another {option}"
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no regular file", hint=hint)
    try:
        try:
            draft.touch()
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}", hint=hint) from None
        yield draft
        os.replace(draft, path)
    finally:
        with suppress(OSError):  # it may not even have been made
            draft.unlink()
