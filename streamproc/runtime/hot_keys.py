"""Which keys have the most rows: one key's rows are decided one after the other, on one worker, however many there are.

Counted over intervals of some seconds. Of a large batch every n-th row counts for n, so a key's count is an estimate
there. A key is named by a keyed digest: it may be a card number.
"""

from __future__ import annotations

__all__ = ["HotKeys"]

import heapq
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge

from operators.decode import payload_digest

INTERVAL_S = 10.0
TOP = 5
COUNTED_MAX = 256
"""Rows looked at of a batch."""
KEYS_MAX = 20_000
_KEPT = 1_000
_NAME = 16


class HotKeys:
    """Counts for the gauges `hot_key_rows{stage,key}`, the `TOP` keys of a stage's last interval, and `hot_key_share`.

    `digest_key` keys the names; with the same one, a key has the same name everywhere.
    """

    def __init__(self, registry: CollectorRegistry, digest_key: bytes) -> None:
        p = "streamproc_hot_key_"
        self._rows = Gauge(
            p + "rows", "Rows of the most frequent keys, last interval", ["stage", "key"], registry=registry
        )
        self._share = Gauge(p + "share", "Share of the most frequent key, last interval", ["stage"], registry=registry)
        self._digest_key = digest_key
        self._counts: dict[str, dict[str, int]] = {}
        self._began: float | None = None

    def note(self, stage: str, keys: Sequence[str]) -> None:
        """A batch of the stage had rows of these keys."""
        counts = self._counts.setdefault(stage, {})
        step, known = max(1, -(-len(keys) // COUNTED_MAX)), counts.get
        for key in keys[::step]:
            counts[key] = known(key, 0) + step
        if len(counts) > KEYS_MAX:
            self._counts[stage] = dict(_most(counts, _KEPT))

    def look(self, now: float) -> None:
        """Show the interval and begin the next one, if it is over; `now`: s, monotonic."""
        if self._began is not None and now - self._began < INTERVAL_S:
            return
        if self._began is not None:
            self._show()
        self._began = now
        self._counts.clear()

    def _show(self) -> None:
        self._rows.clear()
        self._share.clear()
        for stage, counts in self._counts.items():
            top = _most(counts, TOP)
            for key, rows in top:
                name = payload_digest(key.encode("utf-8", "surrogatepass"), self._digest_key)[:_NAME]
                self._rows.labels(stage, name).set(rows)
            if top:
                self._share.labels(stage).set(top[0][1] / sum(counts.values()))


def _most(counts: Mapping[str, int], number: int) -> list[tuple[str, int]]:
    """The keys with the highest counts, the highest first."""
    return heapq.nlargest(number, counts.items(), key=lambda item: item[1])
