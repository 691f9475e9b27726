"""A keyed table and a deduplication index as plain dicts. Imports nothing of ours."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple


class Key:
    """One key: two fields, the entries ever appended, how many of them expired, a blob."""

    def __init__(self) -> None:
        self.fields = [0, 0]
        self.entries: list[tuple[int, int]] = []
        self.start = 0
        self.blob = b""

    def seen(self) -> tuple[list[int], int, int, list[tuple[int, int]], bytes]:
        return self.fields, self.start, len(self.entries), self.entries[self.start :], self.blob


class Table:
    """Keys of one task, with undo to the last publish."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self._before: dict[str, Key] = {}

    def apply(self, row: tuple[str, int, int]) -> None:
        """One event: count it, add its amount, append it; expire some entries; grow the blob."""
        name, amount, expire = row
        key = self.keys.setdefault(name, Key())
        key.fields[0] += 1
        key.fields[1] += amount
        key.entries.append((amount, len(key.entries)))
        key.start = min(len(key.entries), key.start + expire)
        key.blob = (key.blob + bytes([amount % 251]))[-20:]

    def publish(self) -> None:
        self._before = deepcopy(self.keys)

    def undo(self) -> None:
        self.keys = deepcopy(self._before)

    def seen(self) -> dict[str, tuple[list[int], int, int, list[tuple[int, int]], bytes]]:
        return {name: key.seen() for name, key in self.keys.items()}


class Verdict(NamedTuple):
    """Whether a row is a duplicate or reuses an id; the first occurrence's row number and action."""

    duplicate: bool
    reused: bool
    first_row: int
    first_action: int


class Ids:
    """Deduplication of one task, row by row; rows are numbered from 0 over the whole run."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.stream: int | None = None
        self.entries: dict[str, tuple[int, int, int, int]] = {}

    def judge(self, number: int, name: str, digest: int, time: int, action: int) -> Verdict:
        self.stream = time if self.stream is None else max(self.stream, time)
        entry = self.entries.get(name)
        alive = entry is not None and self.stream - entry[1] <= self.horizon
        if entry is not None and alive and entry[0] == digest:
            return Verdict(True, False, entry[2], entry[3])
        self.entries[name] = (digest, time, number, action)
        return Verdict(False, alive, -1, 0)
