"""What timed operators say -> JSON records: alerts, and the rows that came too late.

    {"alert": "turnover", "kind": "tumble", "per": "card_id", "key": "c1", "window_start": 1540000000000,
     "window_end": 1540003600000, "count": 3, "sum": 120.5, "reason": "turnover"}
    {"alert": "no_login", "kind": "absence", "per": "user_id", "key": "u1", "id": "t9", "event_time": 1540000000000,
     "deadline": 1540000600000, "reason": "no login in 10 minutes"}
    {"alert": "takeover", "kind": "timeout", "per": "user_id", "key": "u1", "event_time": 1540000000000,
     "deadline": 1540000600000, "measures": {"failures": 3}, "reason": "a reset, and no purchase"}
    {"window": "turnover", "per": "card_id", "key": "c1", "id": "t7", "event_time": 1539990000000,
     "watermark": 1540003600000, "missed": 1, "windows": 1, "reason": "too_late"}

`revision` (1, 2 ...) and `replaces` ([[start, end], ...]) stand where a result was told before. Values are written as a
decision's are. `when` decides which results are told; what is kept, and what the journal's `exact` digest covers, is
the same without it.
"""

from __future__ import annotations

__all__ = ["AlertEncoder", "Telling"]

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, Emitted
from operators.encode import json_encoder, json_values
from operators.expressions import ExpressionOperator
from operators.schema import DataType
from operators.timed.logic import Fired, Missed
from operators.timed.spec import WHEN, AbsenceSpec, AlertSpec, TimedAggregate, TimedSpec, WindowSpec, result_fields

_TEXT = ("utf-8", "backslashreplace")
"""Keys that a user's operator makes need not be Unicode; they are told all the same."""


Records = Callable[[Sequence[Emitted]], list[dict[str, Any]]]
"""What a step emitted -> an object each, without its reason."""


class Telling(NamedTuple):
    """A record that tells what the timed operator `name` said after `row` of the batch; `late`: of a row it missed.

    Of a statement's row: `topic` is the statement's; of others it is "".
    """

    row: int
    task: int
    name: str
    key: bytes
    text: bytes
    late: bool
    topic: str = ""

    @property
    def what(self) -> str:
        """What it is: "row" of a statement, "late" or "alert"."""
        return "row" if self.topic else "late" if self.late else "alert"


class AlertEncoder:
    """Writes what the timed operators of one plan say; `others`: what is told of steps that are no `TimedSpec`."""

    def __init__(
        self, specs: Sequence[TimedSpec], alerts: Sequence[AlertSpec], others: Mapping[str, Records] | None = None
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._others = others or {}
        self._alerts = {alert.name: alert for alert in alerts}

    def digest(self, emitted: Iterable[Emitted]) -> bytes:
        """SHA-256 of all that was said, told or not; the same for the rows of a task in any batch with other tasks."""
        digest = hashlib.sha256()
        for one in emitted:
            digest.update(repr((one.name, one.key, one.watermark, *one.said)).encode("utf-8", "surrogatepass"))
        return digest.digest()

    def encode(self, batch: Batch) -> list[Telling]:
        """All that is told as an alert, in the order of the rows after which it was said, ticks last."""
        found = [
            Telling(one.row, one.task, one.name, one.key.encode(*_TEXT), text, isinstance(one.said, Missed))
            for one, text in zip(batch.emitted, self._texts(batch), strict=True)
            if text is not None
        ]
        return sorted(found, key=lambda telling: telling.row)

    def _texts(self, batch: Batch) -> list[bytes | None]:
        """One a word, None where it is not told."""
        texts: list[bytes | None] = [None] * len(batch.emitted)
        results: dict[str, list[int]] = {}
        for i, one in enumerate(batch.emitted):
            if one.name in self._others:
                results.setdefault(one.name, []).append(i)
            elif one.name not in self._alerts:
                continue
            elif isinstance(one.said, Missed):
                texts[i] = self._late(batch, one)
            elif isinstance(self._specs[one.name].rule, AbsenceSpec):
                texts[i] = self._absent(one)
            else:
                results.setdefault(one.name, []).append(i)
        for name, places in results.items():
            for i, text in zip(places, self._results(name, [batch.emitted[i] for i in places]), strict=True):
                texts[i] = text
        return texts

    def _late(self, batch: Batch, one: Emitted) -> bytes:
        spec, said = self._specs[one.name], one.said
        return _json(
            {
                "window": one.name,
                "per": spec.per,
                "key": one.key,
                "id": str(batch.columns[spec.id].values[one.row]),
                "event_time": int(batch.event_time[one.row]),
                "watermark": one.watermark,
                "missed": said.missed,
                "windows": said.windows,
                "reason": said.reason,
            }
        )

    def _head(self, spec: TimedSpec, key: str) -> dict[str, Any]:
        kind = "absence" if isinstance(spec.rule, AbsenceSpec) else str(spec.rule.kind)
        return {"alert": spec.name, "kind": kind, "per": spec.per, "key": key}

    def _absent(self, one: Emitted) -> bytes:
        spec, said = self._specs[one.name], one.said
        record = self._head(spec, one.key) | {"id": said.id, "event_time": said.start, "deadline": said.end}
        return _json(record | {"reason": self._alerts[one.name].reason})

    def _results(self, name: str, emitted: list[Emitted]) -> list[bytes | None]:
        """Of one window's results, or what another step says."""
        if name in self._others:
            reason = {"reason": self._alerts[name].reason}
            return [_json(record | reason) for record in self._others[name](emitted)]
        spec, alert = self._specs[name], self._alerts[name]
        assert isinstance(spec.rule, WindowSpec)
        columns = _columns(spec, spec.rule, emitted)
        told = _told(alert.when, columns, len(emitted)).tolist()
        values = {field: json_values(columns[field]) for field in map(str, spec.rule.aggregates)}
        texts: list[bytes | None] = []
        for i, one in enumerate(emitted):
            if not told[i]:
                texts.append(None)
                continue
            said: Fired = one.said
            record = self._head(spec, one.key) | {"window_start": said.start, "window_end": said.end}
            record |= {field: found[i] for field, found in values.items()}
            if said.revision:
                record["revision"] = said.revision
            if said.replaces:
                record["replaces"] = said.replaces
            record["reason"] = alert.reason
            texts.append(_json(record))
        return texts


def _columns(spec: TimedSpec, rule: WindowSpec, emitted: list[Emitted]) -> dict[str, Column]:
    """The results as the columns of `result_fields`."""
    said: list[Fired] = [one.said for one in emitted]
    given: dict[str, list[Any]] = {
        spec.per: [one.key for one in emitted],
        "window_start": [one.start for one in said],
        "window_end": [one.end for one in said],
        "revision": [one.revision for one in said],
    }
    for at, aggregate in enumerate(rule.aggregates):
        found = [one.values[at] for one in said]
        if aggregate is TimedAggregate.MEAN:
            unit = 10 ** (rule.type.scale if rule.type else 0)
            found = [None if one is None else one[0] / (one[1] * unit) for one in found]
        given[str(aggregate)] = found
    return {field.name: _column(field.type, given[field.name]) for field in result_fields(spec, rule)}


def _column(of_type: DataType, values: list[Any]) -> Column:
    valid = np.array([value is not None for value in values], np.bool_)
    filled = np.empty(len(values), of_type.dtype)
    filled[:] = [0 if value is None else value for value in values]
    return Column(of_type, filled, None if valid.all() else valid)


def _told(when: ExpressionOperator | None, columns: Mapping[str, Column], size: int) -> npt.NDArray[np.bool_]:
    """Which results are told: where the condition is true; NULL is not."""
    if when is None:
        return np.ones(size, np.bool_)
    batch = Batch(size, (), np.zeros(size, np.int64), [""] * size, dict(columns))
    when.process(batch, _NoState())
    hits = batch.columns[WHEN]
    found: npt.NDArray[np.bool_] = hits.values if hits.valid is None else hits.values & hits.valid
    return found


def _json(record: dict[str, Any]) -> bytes:
    try:
        return json_encoder.encode(record)
    except UnicodeEncodeError:
        clean = {name: value.encode(*_TEXT).decode() if isinstance(value, str) else value
                 for name, value in record.items()}  # fmt: skip
        return json_encoder.encode(clean)


class _NoState:
    """Conditions on results keep nothing."""

    def table(self, name: str) -> Any:
        raise KeyError(name)
