"""What was decided, by the journal's feature blocks -> columns of `models.evaluation`."""

from __future__ import annotations

__all__ = ["Journaled"]

from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.evaluation.decisions import Decisions, Groups
from models.evaluation.differences import joined_actions
from operators.block import block_column, read_block
from state.errors import StateCorruptedError
from streamproc.runtime.again import Again


class _Part(NamedTuple):
    """The rows of one block: numbers, event times (ms), places in `actions`, scores (NaN: none), rules that hit."""

    rows: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    action: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    hits: npt.NDArray[np.bool_]
    actions: tuple[str, ...]
    rules: tuple[str, ...]


class Journaled:
    """Takes batches in the order in which `Judgements` does, and numbers payments as it does.

    Args:
        named: the column that says which payment it is.
        since_ms: payments that came to the log before are left out.
        scored: whether something gives a score; a block has zeros otherwise.
    """

    def __init__(self, named: str, since_ms: int, *, scored: bool) -> None:
        self._named, self._since_ms, self._scored = named, since_ms, scored
        self._parts: list[_Part] = []
        self._read = 0
        self.ids: list[str] = []

    def add(self, again: Again) -> None:
        """Keep what the blocks of a batch say.

        Raises:
            StateCorruptedError: one cannot be read, or is of other records than the journal says.
        """
        for block in again.blocks:
            try:
                self._add(again, read_block(block))
            except (KeyError, TypeError, ValueError, pa.ArrowException, msgspec.DecodeError):
                raise StateCorruptedError("a feature block is of another pipeline") from None
        self._read += len(again.offsets)

    def _add(self, again: Again, table: pa.Table) -> None:
        offsets = np.asarray(table.column("offset").to_numpy())
        places = np.searchsorted(again.offsets, offsets)
        if len(offsets) and (places[-1] >= len(again.offsets) or (again.offsets[places] != offsets).any()):
            raise StateCorruptedError("a feature block has other records than its journal record")
        kept = np.flatnonzero(again.times[places] >= self._since_ms)
        told = table.schema.metadata
        rules = tuple(msgspec.json.decode(told[b"rules"], type=list[str]))
        self._parts.append(
            _Part(
                self._read + places[kept],
                np.asarray(table.column("event_time").to_numpy())[kept],
                np.asarray(table.column("decision").to_numpy()).astype(np.int64)[kept],
                (_scores(table) if self._scored else np.full(len(offsets), np.nan))[kept],
                _hits(table.column("rules"), len(rules))[kept],
                tuple(msgspec.json.decode(told[b"actions"], type=list[str])),
                rules,
            )
        )
        ids = table.column(self._named).to_pylist()
        self.ids += [str(ids[row]) for row in kept.tolist()]

    def decisions(self, after: Decisions) -> Decisions:
        """All of them. What is known of a payment besides, `after` says, by its number."""
        actions: list[str] = []
        rules: dict[str, int] = {}
        for part in self._parts:
            actions = joined_actions(actions, part.actions) if actions else list(part.actions)
            for rule in part.rules:
                rules.setdefault(rule, len(rules))
        rows = _joined([part.rows for part in self._parts], np.int64)
        hits = np.zeros((len(rows), len(rules)), np.bool_)
        done = 0
        for part in self._parts:
            hits[done : done + len(part.rows), [rules[rule] for rule in part.rules]] = part.hits
            done += len(part.rows)
        _, mine, its = np.intersect1d(rows, after.rows, assume_unique=True, return_indices=True)

        def told(values: npt.NDArray[Any], otherwise: float) -> npt.NDArray[Any]:
            found = np.full(len(rows), otherwise, values.dtype)
            found[mine] = values[its]
            return found

        def groups(one: Groups) -> Groups:
            return Groups(one.name, one.values, told(one.codes, -1))

        return Decisions(
            tuple(actions) or after.actions,
            tuple(rules),
            frozenset(),
            rows=rows,
            action=_joined([np.array(_places(actions, part), np.uint8)[part.action] for part in self._parts], np.uint8),
            hits=hits,
            scores=_joined([part.scores for part in self._parts], np.float64),
            labels=told(after.labels, -1),
            times=_joined([part.times for part in self._parts], np.int64),
            cards=told(after.cards, -1),
            amounts=told(after.amounts, np.nan),
            kind=after.kind and groups(after.kind),
            segments=tuple(map(groups, after.segments)),
        )


def _places(actions: list[str], part: _Part) -> list[int]:
    return [actions.index(name) for name in part.actions]


def _joined(parts: list[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _scores(table: pa.Table) -> npt.NDArray[np.float64]:
    """NaN where there is none."""
    found = block_column(table, "score")
    return found.values if found.valid is None else np.where(found.valid, found.values, np.nan)


def _hits(column: Any, rules: int) -> npt.NDArray[np.bool_]:
    """Bool (rows, rules), of bits: a uint64 a row, or 8 bytes a word."""
    if pa.types.is_uint64(column.type):
        words = column.to_numpy().astype("<u8").view(np.uint8).reshape(len(column), 8)
    else:
        width = column.type.byte_width
        words = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(column), width)
    return np.unpackbits(words, axis=1, bitorder="little")[:, :rules].astype(np.bool_)
