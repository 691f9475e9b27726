"""Times for people and for lists."""

from __future__ import annotations

__all__ = ["rfc3339"]

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """To the second, in UTC.

    >>> rfc3339(1_999)
    '1970-01-01T00:00:01Z'
    """
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
