"""Numbers as people read them. What is not known is a dash."""

from __future__ import annotations

__all__ = ["amount", "basis_points", "count", "day", "number", "percent", "ratio"]

from datetime import UTC, datetime

NOTHING = "–"
_DAY_S = 86_400


def count(value: int) -> str:
    """With commas between thousands."""
    return f"{value:,}"


def amount(value: float) -> str:
    """1,234.50; from a hundred thousand on without its fraction.

    >>> amount(1234.5), amount(1234567.8)
    ('1,234.50', '1,234,568')
    """
    return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.2f}"


def percent(share: float | None) -> str:
    """With three digits that count, two at least behind a share under 1 %.

    >>> percent(0.5), percent(0.00123), percent(1.0), percent(None)
    ('50.0 %', '0.12 %', '100 %', '–')
    """
    if share is None:
        return NOTHING
    size = abs(share)
    digits = 0 if size >= 1 else 1 if size >= 0.01 or size == 0 else 2 if size >= 0.0001 else 4
    return f"{100 * share:.{digits}f} %"


def ratio(value: float | None) -> str:
    """As `3.2 : 1`."""
    return NOTHING if value is None else f"{value:,.1f} : 1"


def number(value: float | None) -> str:
    """Three places behind the point."""
    return NOTHING if value is None else f"{value:.3f}"


def basis_points(value: float | None) -> str:
    """As `12.3 bps`."""
    return NOTHING if value is None else f"{value:,.1f} bps"


def day(number: int) -> str:
    """A day since 1970 as 2026-05-01."""
    return datetime.fromtimestamp(number * _DAY_S, UTC).date().isoformat()
