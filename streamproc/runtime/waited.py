"""How long transactions are waited for, and so how much work the next batch may be.

A batch is some time of computing, that those who wait for it need not wait long. Where the log takes longer than that
to commit it, they wait for the log: larger batches then cost them little, and share its round trips among more rows.
"""

from __future__ import annotations

__all__ = ["Waited"]

_SMOOTHING = 0.2
_TIMES_MAX = 5


class Waited:
    """The time that a transaction takes besides what is computed meanwhile, smoothed.

    >>> waited = Waited()
    >>> waited.ms(20.0)
    20.0
    >>> for _ in range(50):
    ...     waited.note(0.05)
    >>> round(waited.ms(20.0)), waited.ms(5.0)
    (50, 25.0)
    """

    def __init__(self) -> None:
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """One more was waited for."""
        self._seconds += _SMOOTHING * (seconds - self._seconds)

    def ms(self, least: float) -> float:
        """How much work, ms, a batch may be: as much as that, `least` at least and five times it at most."""
        return min(max(least, 1000 * self._seconds), _TIMES_MAX * least)
