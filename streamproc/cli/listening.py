"""Where metrics and probes are served."""

from __future__ import annotations

__all__ = ["listen"]

import os
import socket
from typing import TYPE_CHECKING

from state.errors import ConfigError

if TYPE_CHECKING:
    from streamproc.runtime.health import HealthServer


async def listen(health: HealthServer, host: str, port: int | None) -> None:
    """Serve at that address; None: nobody asked.

    Raises:
        ConfigError: nothing can listen there.
    """
    if port is None:
        return
    try:
        await health.start(host, port)
    except OSError as error:
        raise ConfigError(
            f"nothing can listen on {host}:{port}: {_system_reason(error)}",
            hint="give another --metrics-port or --metrics-host",
        ) from error


def _system_reason(error: OSError) -> str:
    """The system's words: asyncio puts its own before them. Those of the name service have numbers of their own."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return str(error.strerror or error)
    return os.strerror(error.errno)
