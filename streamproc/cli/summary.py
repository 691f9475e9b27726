"""What a backtest came to, counted."""

from __future__ import annotations

__all__ = ["Summary", "alerts_beside", "late_beside", "letters_beside", "rows_beside"]

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from operators.encode import failed_calls
from operators.plan import Plan
from operators.timed.alerts import Telling
from streamproc.cli.refusals import Refusals
from streamproc.cli.replay_files import Result
from streamproc.cli.side_rows import SideLetter

if TYPE_CHECKING:
    from streamproc.cli.report import Told

_LITTLE_ENDIAN_WORD = "<u8"


def letters_beside(output: Path) -> Path:
    """Where a backtest lists the rows that it could not decide."""
    return output.with_suffix(".dead_letters.ndjson")


def alerts_beside(output: Path) -> Path:
    """Where a backtest lists its alerts."""
    return output.with_suffix(".alerts.ndjson")


def late_beside(output: Path) -> Path:
    """Where a backtest lists the rows that came too late for a window."""
    return output.with_suffix(".late.ndjson")


def rows_beside(output: Path, statement: str) -> Path:
    """Where a backtest lists the rows of a SQL statement."""
    return output.with_suffix(f".{statement}.ndjson")


class Summary:
    """Counts of one backtest. `rows`: of the stream that is decided, `judged`: of them those that could be read;
    `side_rows`: of each other one.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: of the stages, in order."""
        plan = plans[-1]
        self._decides = not plan.is_silent
        self._rules, self._calls = plan.rules, plan.decision.calls
        self._started = time.monotonic()
        self.rows = self.judged = 0
        self.side_rows: dict[str, int] = {}
        self.duplicates = 0
        self.decisions: Counter[str] = Counter()
        self.dead_letters: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self.statements: Counter[str] = Counter({one.name: 0 for of in plans for one in of.statements})
        self.open_windows: Counter[str] = Counter()
        self.failed_calls: Counter[str] = Counter()
        self.report: Told | None = None
        self._refusals = Refusals()
        self._hits = np.zeros(len(plan.rules), np.int64)
        self._shadow_hits: Counter[str] = Counter()

    def add(self, result: Result) -> Iterator[bytes]:
        """Count a piece; yields its dead letters as lines: where they stand and why, nothing of what they say."""
        judged, piece = result.judged, result.piece
        self.rows += len(piece.rows) + len(piece.skipped)
        self.duplicates += int(judged.duplicate.sum())
        self.judged += judged.rows.size
        if self._decides:
            counts = np.bincount(judged.actions, minlength=len(judged.decided.action_names)).tolist()
            self.decisions.update(dict(zip(judged.decided.action_names, counts, strict=True)))
        bits = np.unpackbits(judged.decided.live.astype(_LITTLE_ENDIAN_WORD).view(np.uint8), axis=1, bitorder="little")
        self._hits += bits[:, : len(self._rules)].sum(axis=0, dtype=np.int64)
        for shadow in judged.decided.shadow or ():
            self._shadow_hits.update(shadow)
        for calls in failed_calls(self._calls, judged.batch.columns, judged.batch.size) or ():
            self.failed_calls.update(calls)
        found = [(number, reason, "this row is no record") for number, reason in piece.skipped]
        found += [(piece.numbers[letter.offset], letter.reason, letter.detail) for letter in result.refused]
        letters = [SideLetter(result.path, *letter) for letter in sorted(found)]
        for letter in letters:
            self._refusals.add(letter.reason, letter.detail)
        for letter in [*letters, *result.side_letters]:
            self.dead_letters[letter.reason] += 1
            said = {"file": str(letter.path), "row": letter.number, "reason": letter.reason, "detail": letter.detail}
            yield msgspec.json.encode(said) + b"\n"

    def tell(self, told: Sequence[Telling]) -> dict[tuple[str, str], list[bytes]]:
        """Count alerts, rows that came too late for them, and rows of statements; their lines, by `Telling.what` and,
        of a row, its statement.
        """
        counters = {"alert": self.alerts, "late": self.late, "row": self.statements}
        lines: dict[tuple[str, str], list[bytes]] = {}
        for telling in told:
            counters[telling.what][telling.name] += 1
            name = telling.name if telling.topic else ""
            lines.setdefault((telling.what, name), []).append(telling.text + b"\n")
        return lines

    def line(self, plan: Plan, output: Path) -> bytes:
        """One line of JSON."""
        seconds = time.monotonic() - self._started
        said = {
            "pipeline": plan.pipeline,
            "output": str(output) if self._decides else None,
            "dead_letters_output": str(letters_beside(output)) if self.dead_letters else None,
            "alerts_output": str(alerts_beside(output)) if self.alerts else None,
            "late_output": str(late_beside(output)) if self.late else None,
            "rows": self.rows,
            **({"other_rows": self.side_rows} if self.side_rows else {}),
            **({"decisions": dict(self.decisions)} if self._decides else {}),
            "duplicates": self.duplicates,
            "dead_letters": dict(self.dead_letters),
            **({"rules": self._by_rule()} if self._decides else {}),
            **({"failed_calls": {call: self.failed_calls[call] for call in self._calls}} if self._calls else {}),
            "alerts": dict(self.alerts),
            "late": dict(self.late),
            "open_windows": dict(self.open_windows),
            **({"statements": dict(self.statements)} if self.statements else {}),
            **(self.report.summary() if self.report else {}),
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / max(seconds, 1e-9)),
        }
        return msgspec.json.encode(said) + b"\n"

    def text(self, output: Path) -> str:
        """The same for people."""
        seconds = time.monotonic() - self._started
        lines = [f"{self.rows:,} rows in {seconds:.1f} s ({self.rows / max(seconds, 1e-9):,.0f} a second)"]
        lines[0] += f" -> {output}" if self._decides else ""
        for title, counts, listed in (
            ("other streams", self.side_rows, None),
            ("decisions", self.decisions, None), ("rules hit", self._shown_rules(), None),
            ("failed calls", self.failed_calls, None),
            ("alerts", self.alerts, alerts_beside(output)), ("too late for windows", self.late, late_beside(output)),
            ("still open at the end, not told", self.open_windows, None),
            ("rows of statements", self.statements, rows_beside(output, "NAME")),
            ("dead letters", self.dead_letters, letters_beside(output)),
        ):  # fmt: skip
            if counts:
                lines.append(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
                lines[-1] += f", listed in {listed}" if listed else ""
        return "\n".join(lines) + "\n" + (self.report.text() if self.report else "")

    def warning(self) -> str:
        """A line if more than half of the rows could not be decided, else nothing."""
        return self._refusals.warning(self.rows, "rows are")

    def _shown_rules(self) -> dict[str, int]:
        shadow = {rule.id for rule in self._rules if rule.shadow}
        return {f"{rule} (shadow)" if rule in shadow else rule: count for rule, count in self._by_rule().items()}

    def _by_rule(self) -> dict[str, int]:
        hits: list[int] = self._hits.tolist()
        return {
            rule.id: self._shadow_hits[rule.id] if rule.shadow else count
            for rule, count in zip(self._rules, hits, strict=True)
        }
