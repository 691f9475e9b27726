"""Progress of long work, on stderr: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

__all__ = ["Progress"]

from types import TracebackType
from typing import Self


class Progress:
    """A bar over `total` units with a count of rows beside it."""

    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=max(1, total), rows=0)

    def update(self, done: int, rows: int) -> None:
        """`done` units and `rows` rows so far."""
        self._bar.update(self._task, completed=done, rows=rows)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()
