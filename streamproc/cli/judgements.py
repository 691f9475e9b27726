"""What a replay decided -> columns of `models.evaluation`, with what the records, or a file of labels, say of it.

About 150 bytes a payment are kept, with its id, and one for each rule.
"""

from __future__ import annotations

__all__ = ["Judgements", "Sources", "sources_of"]

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from models.evaluation.decisions import Decisions, grouped
from models.training.folds import matured_until
from operators.batch import Column
from operators.plan import Plan
from operators.schema import Kind
from state.errors import ConfigError, Place
from streamproc.cli.labels_file import LABEL_AT, Apart, kind_of, read_labels
from streamproc.cli.options import refuse_unless
from streamproc.cli.replay_files import Result
from streamproc.cli.report_options import ReportOptions
from streamproc.cli.times import rfc3339
from streamproc.cli.train_options import delay_ms
from streamproc.language.problems import nearest

_LITTLE_ENDIAN_WORD = "<u8"
_PARTS = ("rows", "action", "hits", "scores", "labels", "known", "times", "cards", "amounts")
_DELAY = "7d"


class Sources(msgspec.Struct, frozen=True):
    """Where it is said: keys of records, names of columns. None: nowhere."""

    label: str | None
    kind: str | None
    card: str
    amount: str | None
    segments: tuple[tuple[str, str, bool], ...]
    """Name, key or column, and whether it is a column of the plan's."""
    file: Apart | None = None
    delay: str = _DELAY
    """From a payment until a list of frauds has it."""


def sources_of(plans: Sequence[Plan], options: ReportOptions) -> Sources:
    """Where a pipeline's records, or the file of labels, have what a report is told of.

    Raises:
        ConfigError: the stream or the file does not have it.
    """
    stream = plans[0].stream
    refuse_unless(
        stream.format == "json",
        f"reports are made of JSON, Parquet and CSV, not of the format {stream.format}",
        "declare the stream as JSON in a copy of the pipeline",
    )
    fields = {spec.name: spec.source for spec in stream.fields}

    def source(option: str, name: str) -> str:
        if name not in fields:
            raise ConfigError(f"{option}: the stream {stream.name} has no field {name}", hint=nearest(name, fields))
        return fields[name]

    features = {feature.name: feature.name for plan in plans for feature in plan.features}
    if plans[-1].decision.tier:
        features["risk_tier"] = plans[-1].decision.tier
    segments = tuple(
        (name, features[name], True) if name in features else (name, source("--segment", name), False)
        for name in options.segments
    )
    amount = options.amount or ("amount" if "amount" in fields else None)
    card = options.card or ("card_id" if "card_id" in fields else stream.key)
    apart = options.labels
    file = None
    if apart is not None:
        file = read_labels(apart, fields[stream.id], options.label, kind=options.fraud_kind)
        refuse_unless(any(label >= 0 for label, _ in file.by_id.values()), f"{apart}: there is no label in it")
        refuse_unless(
            file.timed or options.label_delay is None,
            f"{apart} has no {LABEL_AT}: nothing says how far it goes",
            "add the column, or leave --label-delay out: all frauds count as known",
        )
    return Sources(
        None if apart else options.label,
        None if apart else options.fraud_kind,
        source("--card", card),
        amount and source("--amount", amount),
        segments,
        file,
        options.label_delay or _DELAY,
    )


class Judgements:
    """Takes a replay's results, in order."""

    def __init__(self, plans: Sequence[Plan], sources: Sources, since_ms: int = 0) -> None:
        """`since_ms`: payments that came to the log before are left out."""
        plan = plans[-1]
        self._since_ms = since_ms
        self._plan, self._sources = plan, sources
        self._rules = tuple(rule.id for rule in plan.rules)
        self._shadow = {rule.id: place for place, rule in enumerate(plan.rules) if rule.shadow}
        keys = [sources.label, sources.kind, sources.card, sources.amount]
        keys += [None if column else where for _, where, column in sources.segments]
        self._read_keys = _reader(keys)
        self._cards: dict[Any, int] = {}
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []
        self._kinds: list[str | None] = []
        self._words: dict[str, str] = {}
        self._values: list[list[Any]] = [[] for _ in sources.segments]
        self._names: tuple[str, ...] = ()
        self._read = 0
        self._labelled = False
        self.ids: list[str] = []
        self.undecided = self.duplicates = 0
        self.immature = 0
        """Payments whose labels are still to come; and what is to be said of it. Both once `decisions` was asked."""
        self.completeness = ""

    def add(self, result: Result) -> None:
        """Keep what a report needs of a piece.

        Raises:
            ConfigError: a label is neither 0, 1, true nor false.
        """
        judged, piece = result.judged, result.piece
        self.undecided += len(result.refused) + len(piece.skipped)
        self.duplicates += int(judged.duplicate.sum())
        places = judged.rows.offsets[judged.fresh]
        order = np.argsort(places, kind="stable")
        if self._since_ms:
            order = order[judged.rows.timestamps[judged.fresh][order] >= self._since_ms]
        self._names = judged.decided.action_names
        told = [self._told(result, place) for place in places[order].tolist()]
        ids = [judged.rows.ids[place] for place in judged.fresh[order].tolist()]
        labels, known, kinds = self._labels([one[0] for one in told], [one[1] for one in told], ids)
        self.ids += ids
        self._kinds += self._shared(kinds)
        for at, (_, where, column) in enumerate(self._sources.segments):
            found = _texts(judged.batch.columns[where].take(order)) if column else [one[4 + at] for one in told]
            self._values[at] += self._shared(found)
        columns = (
            self._read + places[order],
            judged.decided.action[order],
            self._hits(judged.decided.live, judged.decided.shadow)[order],
            self._scores(judged.batch.columns, judged.batch.size)[order],
            np.array(labels, np.int8),
            np.array(known, np.int64),
            judged.batch.event_time[order],
            np.array([one[2] for one in told], np.int64),
            np.array([_number(one[3]) for one in told], np.float64),
        )
        self._parts.append(columns)
        self._read += len(piece.rows)

    def _told(self, result: Result, place: int) -> list[Any]:
        """Of the record at a place: label, kind, the card's number, amount, segments."""
        said = self._read_keys(result.piece.rows[place])
        card = said[2] if isinstance(said[2], str | int | float) else (self._read + place,)
        said[2] = self._cards.setdefault(card, len(self._cards))
        if said[0] is not None:
            self._labelled = True
            where = Place(str(result.path), result.piece.numbers[place])
            said[0] = kind_of(said[0], str(self._sources.label), where)
        return said

    def _shared(self, values: Sequence[Any]) -> list[str | None]:
        """As words; equal ones are one object."""
        words = self._words
        return [None if value is None else words.setdefault(text := str(value), text) for value in values]

    def _labels(self, said: list[Any], kinds: list[Any], ids: list[str]) -> tuple[list[int], list[int], list[Any]]:
        """Labels, when they were known (ms; 0: not told), and kinds."""
        file = self._sources.file
        if file is None:
            return [-1 if label is None else label for label in said], [0] * len(said), kinds
        self._labelled = self._labelled or any(one in file.by_id for one in ids)
        labels, known = zip(*map(file.of, ids), strict=True) if ids else ((), ())
        return list(labels), list(known), [file.kinds.get(one) for one in ids]

    def _hits(self, live: npt.NDArray[np.uint64], shadow: list[list[str]] | None) -> npt.NDArray[np.bool_]:
        words = np.ascontiguousarray(live.astype(_LITTLE_ENDIAN_WORD)).view(np.uint8)
        hits = np.unpackbits(words, axis=1, bitorder="little")[:, : len(self._rules)].astype(np.bool_)
        for row, names in enumerate(shadow or ()):
            for name in names:
                hits[row, self._shadow[name]] = True
        return hits

    def _scores(self, columns: dict[str, Column], size: int) -> npt.NDArray[np.float64]:
        name = self._plan.decision.score
        if name is None or not size:
            return np.full(size, np.nan)
        values, valid = columns[name].values.astype(np.float64), columns[name].valid
        return values if valid is None else np.where(valid, values, np.nan)

    def decisions(self) -> Decisions:
        """All of them; where a list of frauds is still to be filled, labels are not known.

        Raises:
            ConfigError: there are none, or there should be labels and no payment has one.
        """
        if not self.ids:
            raise ConfigError("no row was decided, so there is nothing to report", hint="see the dead letters")
        sources = self._sources
        if not self._labelled and sources.label is not None:
            hint = "name the key that says fraud or not: --label"
            raise ConfigError(f"no record has a label {sources.label!r}", hint=hint)
        if not self._labelled and sources.file is not None:
            raise ConfigError("none of the payments is in the file of --labels", hint="are the ids of both the same?")
        columns = dict(zip(_PARTS, map(np.concatenate, zip(*self._parts, strict=True)), strict=True))
        known = columns.pop("known")
        kinds = any(kind is not None for kind in self._kinds)
        found = Decisions(
            self._names,
            self._rules,
            frozenset(self._shadow.values()),
            **columns,
            kind=grouped("kind", self._kinds) if kinds else None,
            segments=tuple(
                grouped(name, values) for (name, *_), values in zip(sources.segments, self._values, strict=True)
            ),
        )
        return self._matured(found, known)

    def _matured(self, found: Decisions, known: npt.NDArray[np.int64]) -> Decisions:
        """As `train` takes a list of frauds: what is too young to be in it is not taken for legitimate."""
        file, delay = self._sources.file, self._sources.delay
        if file is None or not file.others_legitimate:
            return found
        if not file.timed:
            self.completeness = f"no {LABEL_AT}, so who is not in it counts as legitimate, the newest payments too"
            return found
        until = matured_until(replace(found.history, known=known, open_ended=True), delay_ms(delay))
        self.immature = int((found.times >= until).sum())
        self.completeness = (
            f"of {self.immature:,} payments, those since {rfc3339(until)[:10]}, it is not known yet (label delay "
            f"{delay}, before the end of the last label's day)"
        )
        return found.labelled_before(until)


def _reader(keys: Sequence[str | None]) -> Callable[[bytes], list[Any]]:
    """What a record has under each key; None: it has no such key, or the key is None."""
    names = {key: f"f{place}" for place, key in enumerate(dict.fromkeys(keys)) if key is not None}
    fields: list[Any] = [(name, Any, None) for name in names.values()]
    rename = {name: key for key, name in names.items()}
    decode = msgspec.json.Decoder(msgspec.defstruct("Reported", fields, rename=rename, gc=False)).decode
    wanted = [names[key] if key is not None else None for key in keys]

    def read(text: bytes) -> list[Any]:
        found = decode(text)
        return [name and getattr(found, name) for name in wanted]

    return read


def _number(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def _texts(column: Column) -> list[str | None]:
    """Values as words; NULL is None."""
    values: list[Any] = column.values.tolist()
    if column.type.kind is Kind.DECIMAL:
        values = [f"{value / 10**column.type.scale:.{column.type.scale}f}" for value in values]
    valid = [True] * len(values) if column.valid is None else column.valid.tolist()
    return [str(value) if fine else None for value, fine in zip(values, valid, strict=True)]
