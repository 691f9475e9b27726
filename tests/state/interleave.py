"""Runs several actors over one `MemoryBlobs`, one operation at a time, in a chosen order, with kills.

Each actor is a thread that stops before every operation on the store until it is told to go on, so a plan decides
everything: a list of (actor, how many operations, or None for all the rest). `KILL` ends an actor where it stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from state.errors import BlobStoreError
from state.memory import MemoryBlobs

STEPS_MAX = 500
WAIT_SECONDS = 20


class Killed(BaseException):
    """The process is gone: nothing it would still do happens."""


class Turn(NamedTuple):
    actor: int
    steps: int | None = None
    kill: bool = False


class _Actor:
    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._killed = False
        self.ended = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.pause()
            self._work()
        except (Killed, BlobStoreError):  # the store refused: a collector took the checkpoint for abandoned
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self._stopped.release()

    def pause(self) -> None:
        """Called in the actor's thread before each operation."""
        if not self._killed:
            self._stopped.release()
            assert self._go.acquire(timeout=WAIT_SECONDS)
        if self._killed:
            raise Killed

    def start(self) -> None:
        self.thread.start()
        assert self._stopped.acquire(timeout=WAIT_SECONDS)
        self.step()  # to its first operation

    def step(self, *, kill: bool = False) -> None:
        """Let it do one operation, and stop before the next."""
        if not self.ended:
            self._killed = self._killed or kill
            self._go.release()
            assert self._stopped.acquire(timeout=WAIT_SECONDS)
        if self.error:
            raise self.error


def interleave(
    blobs: MemoryBlobs,
    works: Sequence[Callable[[], object]],
    turns: Sequence[Turn],
    check: Callable[[], None],
) -> list[int]:
    """Run `works` by `turns`, then each to its end in order; `check` after every operation.

    Returns how many operations each did.
    """
    actors = [_Actor(work) for work in works]
    by_thread = {actor.thread: actor for actor in actors}
    blobs.before = lambda verb, name: by_thread[threading.current_thread()].pause()
    done = [0] * len(works)
    try:
        for actor in actors:
            actor.start()
        for turn in [*turns, *(Turn(number) for number in range(len(actors)))]:
            actor = actors[turn.actor]
            left = STEPS_MAX if turn.steps is None else turn.steps
            while left and not actor.ended:
                actor.step()
                check()
                done[turn.actor] += 1
                left -= 1
            if turn.kill:
                actor.step(kill=True)
    finally:
        blobs.before = lambda verb, name: None
        for actor in actors:
            while actor.thread.is_alive() and not actor.ended:
                actor.step(kill=True)
            actor.thread.join(WAIT_SECONDS)
    return done
