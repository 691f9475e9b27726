"""Parts of the state that have an object of their own for each task: what happens to all of them at once."""

from __future__ import annotations

__all__ = ["ByTask", "Undoable"]

from typing import Generic, Protocol, TypeVar


class Undoable(Protocol):
    """One task's share of a part; see `StatePart`."""

    def seal(self) -> None: ...
    def unseal(self) -> None: ...
    def publish(self) -> None: ...
    def undo(self) -> None: ...

    @property
    def in_batch(self) -> bool: ...


T = TypeVar("T", bound=Undoable)


class ByTask(Generic[T]):
    """The batches of a `StatePart`; `_tasks`: what it has of each task, changed by `_adopt` and `drop_task` only."""

    def __init__(self) -> None:
        self._tasks: dict[int, T] = {}
        self._sealed = False

    def _adopt(self, task: int, made: T) -> None:
        """A task's own, in the midst of a batch maybe."""
        self._tasks[task] = made
        if self._sealed:
            made.seal()

    def drop_task(self, task: int) -> None:
        """Forget a task."""
        self._tasks.pop(task, None)

    def seal(self) -> None:
        """The batch is in flight, the next one begins."""
        self._sealed = True
        for one in self._tasks.values():
            one.seal()

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        self._sealed = False
        for one in self._tasks.values():
            one.unseal()

    def publish(self) -> None:
        """The oldest open batch committed."""
        self._sealed = False
        for one in self._tasks.values():
            one.publish()

    def undo(self) -> None:
        """The newest open batch is not to be."""
        for one in self._tasks.values():
            one.undo()

    @property
    def in_batch(self) -> bool:
        """Whether there is something to publish or undo."""
        return any(one.in_batch for one in self._tasks.values())
