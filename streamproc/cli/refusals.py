"""Dead letters counted by what is said of them, and the warning when most rows are some."""

from __future__ import annotations

__all__ = ["Refusals", "Sampler"]

from collections import Counter
from collections.abc import Sequence

from operators.decode import RecordDecoder
from operators.schema import StreamSchema
from streamproc.cli.records import Row

_KINDS_MAX = 1_000
_SAMPLE_ROWS = 256
_ANY_KEY = bytes(32)


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
        ((reason, detail), count) = self._kinds.most_common(1)[0]
        said = f"{reason}, {detail}" if detail else reason
        some = "ALL" if self.total == rows else f"{self.total:,} of"
        return f"WARNING: {some} {rows:,} {of_what} dead letters, most often ({count:,}): {said}\n"


class Sampler:
    """Decodes some rows of each piece of a file, as the pipeline will: `feed` itself looks at none."""

    def __init__(self, schema: StreamSchema) -> None:
        self._decode = RecordDecoder(schema, _ANY_KEY).decode
        self._refusals = Refusals()
        self._rows = 0

    def add(self, rows: Sequence[Row], skipped: Sequence[tuple[int, str]], now_ms: int) -> None:
        """Look at rows spread evenly over the piece."""
        stride = (len(rows) + len(skipped)) // _SAMPLE_ROWS + 1
        some, none = rows[::stride], skipped[::stride]
        self._rows += len(some) + len(none)
        for _, reason in none:
            self._refusals.add(reason, "this row is no record")
        for letter in self._decode(some, [now_ms] * len(some)).rejects:
            self._refusals.add(letter.reason, letter.detail)

    def warning(self) -> str:
        """A line if more than half of what was looked at cannot be decided."""
        return self._refusals.warning(self._rows, "records looked at will be")
