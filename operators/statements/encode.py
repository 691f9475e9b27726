"""The rows of a plan's statements as records: JSON objects, each for its statement's topic."""

from __future__ import annotations

__all__ = ["StatementEncoder"]

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, Emitted
from operators.event_values import column_of
from operators.operator import TIMESTAMP
from operators.statements.chain import Chain, Relation, true_rows
from operators.statements.inputs import Reader, key_value, key_values, shorter
from operators.statements.lines import RowEncoder
from operators.statements.spec import Matches, Pairs, Rows, Seen, StatementSpec, Union, Windows
from operators.timed.alerts import Telling
from operators.timed.logic import Fired, Pair, Told
from operators.timed.spec import TimedAggregate
from state.errors import RecordError

_TEXT = ("utf-8", "backslashreplace")


class StatementEncoder:
    """Writes what the statements of one plan make of batches."""

    def __init__(self, statements: Sequence[StatementSpec]) -> None:
        self._statements = [_Statement(spec) for spec in statements]

    def encode(self, batch: Batch) -> list[Telling]:
        """All rows, statement by statement, in the order of the batch's rows after which they are told.

        Raises:
            RecordError: an expression fails.
        """
        said: dict[str, list[Emitted]] = {}
        for one in batch.emitted:
            if isinstance(one.said, Fired | Pair | Told):
                said.setdefault(one.name, []).append(one)
        return [telling for statement in self._statements for telling in statement.tellings(batch, said)]


class _Statement:
    def __init__(self, spec: StatementSpec) -> None:
        self._spec = spec
        self._chain = Chain(spec.steps)
        self._reader = Reader(spec.source, ()) if isinstance(spec.source, Rows | Union) else None
        self._encoder = RowEncoder([name for name, _ in spec.columns])

    def tellings(self, batch: Batch, said: Mapping[str, list[Emitted]]) -> list[Telling]:
        """Its records; `said`: what timed operators say, by name."""
        source, spec = self._spec.source, self._spec
        told: list[Emitted] | None = None
        if isinstance(source, Pairs):
            told = said.get(source.name, [])
            if not told:
                return []
            relation = Relation(np.arange(len(told)), _paired(source, told))
            keys = [_pair_key(batch, one, source.routed) for one in told]
        elif isinstance(source, Windows | Seen):
            told = said.get(source.name if isinstance(source, Seen) else source.timed[0], [])
            if not told:
                return []
            columns = _seen(source, told) if isinstance(source, Seen) else _results(source, told, said)
            relation = Relation(np.arange(len(told)), columns)
            keys = list(map(_text, _listed(relation.columns[spec.key]))) if spec.key else [one.key for one in told]
        else:
            if self._reader is not None:
                relation = self._reader.run(batch)
            else:
                assert isinstance(source, Matches)
                ends = np.flatnonzero(true_rows(batch.columns[source.matched]))
                columns = {key: batch.columns[name].take(ends) for key, name in source.columns}
                relation = Relation(ends, columns)
            if not len(relation.places):
                return []
            keys = batch.keys
        found = self._ran(relation)
        places = found.places.tolist()
        at = _places(batch, found.places) if told is None else [(told[i].row, told[i].task) for i in places]
        texts = self._encoder.encode([found.columns[key] for _, key in spec.columns])
        return [
            Telling(row, task, spec.name, keys[place].encode(*_TEXT), text, False, spec.topic)
            for (row, task), place, text in zip(at, places, texts, strict=True)
        ]

    def _ran(self, relation: Relation) -> Relation:
        """The steps' rows. A window's result, or a pair, that they fail on is left out: no row is to blame for it."""
        if isinstance(self._spec.source, Rows | Union | Matches):
            return self._chain.run(relation)
        try:
            return self._chain.run(relation)
        except RecordError:
            good = [row for row in range(len(relation.places)) if self._runs(relation, row)]
            return self._chain.run(relation.take(np.array(good, np.intp)))

    def _runs(self, relation: Relation, row: int) -> bool:
        try:
            self._chain.run(relation.take(np.array([row], np.intp)))
        except RecordError:
            return False
        return True


def _places(batch: Batch, rows: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    """(row, task) of each of `rows`."""
    spans = np.searchsorted([span.stop for span in batch.tasks], rows, side="right").tolist()
    return [(row, batch.tasks[span].task) for row, span in zip(rows.tolist(), spans, strict=True)]


def _listed(column: Column) -> list[Any]:
    values: list[Any] = column.values.tolist()
    return values


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _results(source: Windows, told: list[Emitted], said: Mapping[str, list[Emitted]]) -> dict[str, Column]:
    """Windows as rows: keys, bounds, and values of whichever operator has them; without rows a count is 0."""
    types = [kind for _, kind in source.keys]
    columns = dict(zip((key for key, _ in source.keys), key_values([one.key for one in told], types), strict=True))
    columns[source.start] = column_of(TIMESTAMP, [one.said.start for one in told])
    columns[source.end] = column_of(TIMESTAMP, [one.said.end for one in told])
    every = [
        _counted(said.get(name, ()))
        if n in source.distinct
        else {_which(one): one.said.values for one in said.get(name, ())}
        for n, name in enumerate(source.timed)
    ]
    for key, number, place, aggregate, kind, scale in source.values:
        found = [values[place] if (values := every[number].get(_which(one))) else None for one in told]
        if aggregate is TimedAggregate.COUNT:
            found = [one or 0 for one in found]
        elif aggregate is TimedAggregate.MEAN:
            found = [None if one is None else one[0] / (one[1] * 10**scale) for one in found]
        columns[key] = column_of(kind, found)
    return columns


def _seen(source: Seen, told: list[Emitted]) -> dict[str, Column]:
    """Rows that were told with their values."""
    return {key: column_of(kind, [one.said.values[n] for one in told]) for n, (key, kind) in enumerate(source.columns)}


def _counted(told: Iterable[Emitted]) -> dict[tuple[int, str, int, int], tuple[Any, ...]]:
    """How many results there are of each window, whose key is theirs without the last value."""
    found = Counter((one.task, shorter(one.key), one.said.start, one.said.end) for one in told)
    return {which: (count,) for which, count in found.items()}


def _paired(source: Pairs, told: list[Emitted]) -> dict[str, Column]:
    """Pairs as rows, NULLs where a row has no other."""
    columns = {}
    for side, fields in enumerate((source.left, source.right)):
        rows = [one.said[side] for one in told]
        for n, (key, kind) in enumerate(fields):
            columns[key] = column_of(kind, [None if row is None else row[n] for row in rows])
    return columns


def _pair_key(batch: Batch, one: Emitted, routed: int) -> str:
    """That of the row that came; of a row that waited its own, which is among what is equal."""
    value = None if routed < 0 else key_value(one.key, routed)
    return batch.keys[one.row] if value is None else _text(value)


def _which(one: Emitted) -> tuple[int, str, int, int]:
    return one.task, one.key, one.said.start, one.said.end
