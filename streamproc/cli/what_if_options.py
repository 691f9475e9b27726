"""What `what-if` is asked, and what it answers."""

from __future__ import annotations

__all__ = ["Answer", "Asked", "Begun", "since_ms"]

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from models.evaluation.differences import Moved
from operators.values import parse_timestamp
from state.errors import ConfigError
from streamproc.cli.aligned import aligned
from streamproc.language.units import parse_duration


class Asked(NamedTuple):
    """`since_ms`: log time of the first payments that count. `checkpoints`: their address; None: there are none."""

    pipeline: str
    log: str
    since_ms: int
    checkpoints: str | None


class Begun(msgspec.Struct, frozen=True):
    """What a task began with. `checkpoint`: when it was written, RFC 3339; None: empty state, at the journal's begin.

    `full`: whether the state was all that there was before `since`: a checkpoint, or all history.
    """

    task: int
    checkpoint: str | None
    full: bool


class Answer(msgspec.Struct, frozen=True):
    """Counts of payments; `only_then`, `only_now`: that the other one could not decide. Files: "": none.

    `immature`, `completeness`, `learned`: see report.py's `Told`.
    """

    pipeline: str
    since: str
    payments: int
    same: int
    stricter: int
    milder: int
    only_then: int
    only_now: int
    moves: tuple[Moved, ...]
    tasks: tuple[Begun, ...]
    report: str = ""
    changes: str = ""
    immature: int = 0
    completeness: str = ""
    learned: tuple[str, ...] = ()

    def line(self) -> str:
        """For programs."""
        return msgspec.json.encode(self).decode() + "\n"

    def text(self) -> str:
        """For people."""
        said = (
            f"since {self.since}: {self.payments:,} payments, {self.same:,} decided alike, "
            f"{self.stricter:,} more strictly, {self.milder:,} more mildly\n"
        )
        if self.only_then or self.only_now:
            said += f"decided then and not now: {self.only_then:,}; now and not then: {self.only_now:,}\n"
        if self.moves:
            said += self._table()
        if self.report:
            said += f"frauds: {self.completeness}\n" if self.completeness else ""
            said += f"report -> {self.report}\n" + (f"changes -> {self.changes}\n" if self.changes else "")
        said += "".join(f"warning: {line}\n" for line in self.learned)
        return said + _warning(self.tasks)

    def _table(self) -> str:
        labelled = any(one.frauds is not None for one in self.moves)
        header = ["then", "now", "payments", *(["frauds", "legitimate"] if labelled else []), "value"]
        rows = [
            [one.before, one.after, one.payments, *([one.frauds, one.legitimate] if labelled else []),
             f"{one.value:,.2f}"]
            for one in self.moves
        ]  # fmt: skip
        return aligned(header, rows)


def _warning(tasks: Sequence[Begun]) -> str:
    short = [str(one.task) for one in tasks if not one.full]
    if not short:
        return ""
    return (
        f"warning: partitions {', '.join(short)} began without what was before: features that look back are too small "
        "at first (keep older checkpoints: run --checkpoint-days)\n"
    )


def since_ms(text: str) -> int:
    """The time that `--since` says, ms.

    Raises:
        ConfigError: it says none, or one to come.
    """
    now_ms = time.time_ns() // 1_000_000
    found = parse_timestamp(text)
    if found is None:
        try:
            found = now_ms - parse_duration(text)
        except ValueError:
            raise ConfigError(
                f"--since: {text!r} is no time", hint="a duration (24h, 7d), or a time such as 2026-05-01T00:00:00Z"
            ) from None
    if found >= now_ms:
        raise ConfigError(f"--since: {text} is not over yet")
    return found
