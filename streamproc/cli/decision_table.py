"""Judged rows -> an Arrow table: one row a decision, as `backtest` writes it.

Names are those of the decision's JSON; id, key, event_time, all features in the analyst's order, what else `include:`
names, score, risk_tier, decision, reasons, shadow (only if the plan has shadow rules), failed_calls (only if it has
calls), duplicate. Decimals are exact (decimal128).
"""

from __future__ import annotations

__all__ = ["DecisionTable"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.batch import Column
from operators.encode import failed_calls
from operators.plan import Plan
from operators.schema import DataType, Kind
from streamproc.runtime.results import Judged

_INT64_DIGITS = 19
_TIMES: pa.DataType = pa.timestamp("ms", tz="UTC")
_TEXTS: pa.DataType = pa.list_(pa.string())
_TYPES: dict[Kind, pa.DataType] = {
    Kind.INT64: pa.int64(),
    Kind.FLOAT64: pa.float64(),
    Kind.STRING: pa.string(),
    Kind.BOOL: pa.bool_(),
    Kind.TIMESTAMP: _TIMES,
}


class DecisionTable:
    """Writes tables of one plan."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: of the stages, in order."""
        plan = plans[-1]
        stream, self._subject = plan.stream, plan.subject
        self._plan = plan
        self._score, self._tier = plan.decision.score, plan.decision.tier
        names = {name: _arrow_type(stream.field(name).type) for name in (stream.id, plan.subject)}
        names.setdefault("event_time", _TIMES)
        types = {field.name: field.type for entering in plan.streams for field in entering.fields}
        types |= {field.name: field.type for step in plan.steps for field in step.outputs}
        shown = dict.fromkeys([*(feature.name for plan in plans for feature in plan.features), *plan.decision.include])
        self._shown = [name for name in shown if name not in names]
        names |= {name: _arrow_type(types[name]) for name in self._shown}
        names.setdefault("score", pa.float64())
        if self._tier:
            names.setdefault("risk_tier", pa.string())
        names |= {"decision": pa.string(), "reasons": _TEXTS}
        self._shadow = any(rule.shadow for rule in plan.rules)
        if self._shadow:
            names["shadow"] = _TEXTS
        if plan.decision.calls:
            names["failed_calls"] = _TEXTS
        names["duplicate"] = pa.bool_()
        self.schema: pa.Schema = pa.schema([pa.field(name, kind) for name, kind in names.items()])

    def table(self, judged: Judged) -> pa.Table:
        """The rows, in the order of their offsets."""
        stream, rows, columns = self._plan.stream, judged.rows, judged.batch.columns
        made: dict[str, Any] = {
            stream.id: _names(rows.ids, stream.field(stream.id).type),
            self._subject: _names(rows.subjects(self._plan), stream.field(self._subject).type),
        }
        made.setdefault("event_time", pa.array(rows.event_time).cast(_TIMES))
        for name in self._shown:
            made[name] = self._spread(columns[name], judged)
        if "score" not in made:
            score = columns[self._score] if self._score else None
            made["score"] = pa.array(np.zeros(rows.size)) if score is None else self._spread(score, judged)
        if self._tier:
            made.setdefault("risk_tier", self._spread(columns[self._tier], judged))
        made["decision"] = pa.array(judged.decided.action_names).take(judged.actions)
        made["reasons"] = self._texts(judged.decided.reasons, judged)
        if self._shadow:
            made["shadow"] = self._texts(judged.decided.shadow or [[]] * judged.batch.size, judged)
        if calls := self._plan.decision.calls:
            size = judged.batch.size
            made["failed_calls"] = self._texts(failed_calls(calls, columns, size) or [[]] * size, judged)
        made["duplicate"] = pa.array(judged.duplicate)
        table = pa.table([made[name] for name in self.schema.names], schema=self.schema)
        return table.take(np.argsort(rows.offsets, kind="stable"))

    def _spread(self, column: Column, judged: Judged) -> Any:
        """A column of the decided rows over all rows; duplicates have NULL."""
        if len(judged.fresh) == judged.rows.size:
            return _array(column)
        values = np.zeros(judged.rows.size, column.values.dtype)
        if column.type.kind is Kind.STRING:
            values[:] = ""
        values[judged.fresh] = column.values
        valid = np.zeros(judged.rows.size, np.bool_)
        valid[judged.fresh] = True if column.valid is None else column.valid
        return _array(Column(column.type, values, valid))

    def _texts(self, lists: list[list[str]], judged: Judged) -> Any:
        if len(judged.fresh) < judged.rows.size:
            spread: list[list[str]] = [[]] * judged.rows.size
            for row, texts in zip(judged.fresh.tolist(), lists, strict=True):
                spread[row] = texts
            lists = spread
        return pa.array(lists, _TEXTS)


def _arrow_type(of_type: DataType) -> pa.DataType:
    if of_type.kind is Kind.DECIMAL:
        return pa.decimal128(_INT64_DIGITS, of_type.scale)
    return _TYPES[of_type.kind]


def _names(texts: list[str], of_type: DataType) -> Any:
    if of_type.kind is Kind.INT64:
        return pa.array(list(map(int, texts)), pa.int64())
    return pa.array(texts, pa.string())


def _array(column: Column) -> Any:
    mask = None if column.valid is None else ~column.valid
    kind = _arrow_type(column.type)
    if column.type.kind is Kind.DECIMAL:
        return _decimals(column.values, mask, kind)
    return pa.array(column.values, pa.int64() if kind == _TIMES else kind, mask=mask).cast(kind)


def _decimals(minor: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None, kind: pa.DataType) -> Any:
    """Minor units are a decimal128's low half; its high half is the sign."""
    halves = np.empty((len(minor), 2), np.int64)
    halves[:, 0] = minor
    halves[:, 1] = minor >> 63
    bits = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little").tobytes())
    return pa.Array.from_buffers(kind, len(minor), [bits, pa.py_buffer(halves.tobytes())])
