"""Dead letters counted by what is said of them, and the warnings: most rows are some; `deduplicate:` is too short."""

from __future__ import annotations

__all__ = ["Refusals", "Sampler"]

from collections import Counter
from collections.abc import Sequence

from operators.expressions.clock import duration_text
from operators.forms import open_decoder
from operators.schema import StreamSchema
from streamproc.cli.formats import blocking_schemas
from streamproc.cli.records import Row
from streamproc.clock import SystemClock

_KINDS_MAX = 1_000
_SAMPLE_ROWS = 256
_ANY_KEY = bytes(32)
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


class Refusals:
    """Counts of (reason, detail); after a thousand kinds new ones are counted in the total only."""

    def __init__(self) -> None:
        self.total = 0
        self._kinds: Counter[tuple[str, str]] = Counter()

    def add(self, reason: str, detail: str) -> None:
        """Count one."""
        self.total += 1
        if (reason, detail) in self._kinds or len(self._kinds) < _KINDS_MAX:
            self._kinds[reason, detail] += 1

    def warning(self, rows: int, of_what: str) -> str:
        """A line if more than half of `rows` are dead letters, else nothing."""
        if 2 * self.total <= rows:
            return ""
        some = "ALL" if self.total == rows else f"{self.total:,} of"
        return f"WARNING: {some} {rows:,} {of_what} dead letters, {self._most()}\n"

    def left_out(self, rows: int) -> str:
        """A line if there are any among `rows` records that something is made of, else nothing."""
        if not self.total:
            return ""
        return f"warning: {self.total:,} of {rows:,} records are left out as dead letters, {self._most()}\n"

    def _most(self) -> str:
        ((reason, detail), count) = self._kinds.most_common(1)[0]
        return f"most often ({count:,}): {f'{reason}, {detail}' if detail else reason}"


class Sampler:
    """Decodes some rows of each piece of a file, as the pipeline will: `feed` itself looks at none."""

    def __init__(self, schema: StreamSchema) -> None:
        self._decode = open_decoder(schema, _ANY_KEY, blocking_schemas(schema, SystemClock())).decode
        self._horizon_ms = schema.deduplicate_ms
        self._refusals = Refusals()
        self._rows = 0
        self._times: list[int] = []

    def add(self, rows: Sequence[Row], skipped: Sequence[tuple[int, str]], now_ms: int) -> None:
        """Look at rows spread evenly over the piece, the last one too. May fetch schemas: not on the loop."""
        stride = (len(rows) + len(skipped)) // _SAMPLE_ROWS + 1
        places = {*range(0, len(rows), stride), len(rows) - 1} if rows else set()  # the last: how far times reach
        some, none = [rows[place] for place in sorted(places)], skipped[::stride]
        decoded = self._decode(some, [now_ms] * len(some))
        if decoded.event_time.size:
            self._times += [int(decoded.event_time.min()), int(decoded.event_time.max())]
        self._rows += len(some) + len(none)
        for _, reason in none:
            self._refusals.add(reason, "this row is no record")
        for letter in decoded.rejects:
            self._refusals.add(letter.reason, letter.detail)

    def warning(self, *, again: bool) -> str:
        """A line if more than half of what was looked at cannot be decided; where it may be fed `again`, one if not all
        would be known.
        """
        refused = self._refusals.warning(self._rows, "records looked at will be")
        return refused + (self._span_warning() if again else "")

    def _span_warning(self) -> str:
        span = max(self._times, default=0) - min(self._times, default=0)
        if not self._horizon_ms or span <= self._horizon_ms:
            return ""
        shown = f"{span / _DAY_MS:.1f} days" if span >= 2 * _DAY_MS else f"{span / _HOUR_MS:.1f} hours"
        return (
            f"warning: the records span {shown} of event time, `deduplicate:` {duration_text(self._horizon_ms)}: "
            "fed again, only the newest are known, the others are decided anew\n"
        )
