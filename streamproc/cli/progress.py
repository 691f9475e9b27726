"""Progress of long work, on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

__all__ = ["Progress"]

import sys
import time
from types import TracebackType
from typing import Self

_LINE_SECONDS = 10.0


class Progress:
    """Progress over `total` units with a count of rows beside it."""

    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._title = title
        self._total = max(1, total)
        self._lines = not console.is_terminal
        self._told = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=console,
            disable=self._lines,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=self._total, rows=0)

    def update(self, done: int, rows: int) -> None:
        """`done` units and `rows` rows so far."""
        self._bar.update(self._task, completed=done, rows=rows)
        now = time.monotonic()
        if self._lines and now - self._told >= _LINE_SECONDS:
            self._told = now
            sys.stderr.write(f"{self._title}: {done / self._total:.0%}, {rows:,} rows\n")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()
