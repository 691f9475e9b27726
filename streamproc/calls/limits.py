"""What keeps calls within bounds: a cache, a circuit breaker, a budget of retries, how long a call takes. Pure: time is
given, in seconds.
"""

from __future__ import annotations

__all__ = ["AnswerCache", "Breaker", "RetryBudget", "UsualTime"]

from collections import OrderedDict, deque

from operators.call import Breaking

ENTRIES_MAX = 100_000
_TRIALS = 3
_MEAN_SHARE, _SPREAD_SHARE, _SPREADS = 1 / 8, 1 / 4, 2
_RESERVE = 10.0


class AnswerCache:
    """Answers by request digest, each for `seconds`; the oldest goes first when there are `entries_max`."""

    def __init__(self, seconds: float, entries_max: int = ENTRIES_MAX) -> None:
        self._seconds, self._entries_max = seconds, entries_max
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now: float) -> bytes | None:
        """The answer, if it is still fresh."""
        found = self._entries.get(digest)
        return found[1] if found is not None and now < found[0] else None

    def put(self, digest: bytes, answer: bytes, now: float) -> None:
        """Keep a new answer; what is stale, or too much, goes."""
        self._entries.pop(digest, None)
        self._entries[digest] = (now + self._seconds, answer)
        while self._entries:
            oldest, (until, _) = next(iter(self._entries.items()))
            if until > now and len(self._entries) <= self._entries_max:
                break
            del self._entries[oldest]


class RetryBudget:
    """Retries are a share of the calls, so that a service in trouble does not get twice the load on top.

    A quiet service has some in reserve.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = _RESERVE if share else 0.0

    def called(self) -> None:
        """A call begins."""
        self._left = min(self._left + self._share, _RESERVE)

    def take(self) -> bool:
        """Whether one more attempt may be made; it counts as made."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class UsualTime:
    """How long calls take, of late: their mean and twice their mean deviation from it, both of them moving, as TCP
    reckons the time of a round trip. Nothing, while no call has ended.
    """

    def __init__(self) -> None:
        self._mean: float | None = None
        self._spread = 0.0

    @property
    def seconds(self) -> float:
        """A call that has less time than this will hardly end in it."""
        return (self._mean or 0.0) + _SPREADS * self._spread

    def took(self, seconds: float) -> None:
        """A call ended after so long."""
        if self._mean is None:
            self._mean = seconds
            return
        error = seconds - self._mean
        self._mean += _MEAN_SHARE * error
        self._spread += _SPREAD_SHARE * (abs(error) - self._spread)


class Breaker:
    """Closed: calls pass. Open: none does, for a pause. Then a few trials, one after the other's success: if all are
    well it closes, if one fails it opens again.
    """

    def __init__(self, spec: Breaking) -> None:
        self._spec = spec
        self._recent: deque[bool] = deque(maxlen=spec.calls)
        self._failed = 0
        self._epoch = 0
        self._open_until: float | None = None
        self._trials = self._good = 0

    @property
    def is_closed(self) -> bool:
        """Whether all calls pass."""
        return self._open_until is None

    def blocks(self, now: float) -> bool:
        """Whether `admit` would give no ticket."""
        return self._open_until is not None and (now < self._open_until or self._trials > 0)

    def admit(self, now: float) -> int | None:
        """A ticket to call, to be given to `settle`; None: do not."""
        if self._open_until is None:
            return self._epoch
        if self.blocks(now):
            return None
        self._trials += 1
        return self._epoch

    def settle(self, ticket: int, well: bool | None, now: float) -> None:
        """How the call ended; `well` None: nobody knows. Calls from before the last change count no more."""
        if ticket != self._epoch:
            return
        if self._open_until is None:
            self._count(well, now)
            return
        self._trials -= 1
        self._good += well is True
        if well is False:
            self._open(now)
        elif self._good >= _TRIALS:
            self._open_until = None
            self._turn()

    def _count(self, well: bool | None, now: float) -> None:
        if well is None:
            return
        if len(self._recent) == self._spec.calls:
            self._failed -= not self._recent[0]
        self._recent.append(well)
        self._failed += not well
        if len(self._recent) == self._spec.calls and self._failed >= self._spec.failures * self._spec.calls:
            self._open(now)

    def _open(self, now: float) -> None:
        self._open_until = now + self._spec.pause_ms / 1000
        self._turn()

    def _turn(self) -> None:
        self._recent.clear()
        self._failed = self._trials = self._good = 0
        self._epoch += 1
