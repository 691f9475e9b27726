"""JSON records of a declared stream -> columns.

Every record is decoded by a call of its own: bytes of one record are never parsed with another's, so a broken
record fails alone. The usual batch takes one `map` over a compiled decoder; a record that fails is explained field by
field, and only then costs more. No error quotes a value.

Undeclared fields are ignored and counted in records: exactly while they are rare (the strict decoder refuses
them, a second, lenient call then reads the record), and by one record in SAMPLE_EVERY once most records have some.
"""

from __future__ import annotations

__all__ = ["Decoded", "Known", "RecordDecoder", "Reject", "payload_digest"]

import hashlib
from collections.abc import Callable, Collection, Sequence
from copy import copy
from decimal import Decimal
from itertools import chain
from operator import attrgetter, length_hint
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from operators.batch import Column
from operators.expressions.clock import duration_text
from operators.field_columns import FieldColumns
from operators.schema import Kind, StreamSchema, check_stream
from operators.values import TIME_MAX, Digits, Faults, Values, build_column, texts_of, value_fault

SAMPLE_EVERY = 64  # in sampling mode one record in so many is read strictly
CLEAN_SAMPLES = 4  # so many samples in a row without extras end the sampling
VALUE_BYTES_MAX = 256 * 1024
_PIECE_ROWS = 512
"""Records that are read at once: with what they become they fit a core's nearest cache."""

_JSON_TYPES: dict[Kind, Any] = {
    Kind.INT64: int,
    Kind.FLOAT64: float,
    Kind.DECIMAL: float | str,
    Kind.STRING: str,
    Kind.BOOL: bool,
    Kind.TIMESTAMP: int | str,
}
_ABSENT = msgspec.Raw(b"null")
Record = tuple[Any, ...]
"""A record's values, in the order of the compiled Struct's fields."""
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode
_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reject(msgspec.Struct, frozen=True, order=True):
    """A record that becomes a dead letter. `index`: its place in the call; `reason`: a short stable code."""

    index: int
    reason: str
    detail: str


class Decoded(NamedTuple):
    """What one call made of its records; all but `rejects` hold the kept rows only, in order.

    `rows`: their indices; `ids`, `keys`: text; `event_time`: ms; `rejects`: by index; `extras`: how many records
    held undeclared fields (estimated where most do).
    """

    columns: dict[str, Column]
    rows: npt.NDArray[np.intp]
    ids: list[str]
    keys: list[str]
    event_time: npt.NDArray[np.int64]
    rejects: list[Reject]
    extras: int


class Known(NamedTuple):
    """What `RecordDecoder.again` made of its records; as in `Decoded`."""

    columns: dict[str, Column]
    ids: list[str]
    keys: list[str]


def payload_digest(value: bytes | None, key: bytes) -> str:
    """Keyed 128-bit digest (hex) that names a payload in a dead letter without holding any of it."""
    return hashlib.blake2b(value or b"", digest_size=16, key=key).hexdigest()


class RecordDecoder:
    """Decodes the records of one stream. Keeps no record; its only memory is whether extras are common."""

    def __init__(
        self, schema: StreamSchema, pan_key: bytes | None = None, value_bytes_max: int = VALUE_BYTES_MAX
    ) -> None:
        """Compile decoders for `schema`.

        Raises:
            ConfigError: the schema cannot be decoded, or has card numbers and no key to hash them with.
        """
        check_stream(schema, pan_key)
        self._bytes_max = value_bytes_max
        self._pan = hashlib.blake2b(digest_size=16, key=pan_key) if pan_key else None
        self._sampling = False
        self._until_sample = 0
        self._clean_samples = 0
        self._use(schema)

    def _use(self, schema: StreamSchema) -> None:
        self._schema = schema
        self._must = {schema.id: "missing_id", schema.key: "missing_key", schema.event_time: "missing_time"}
        for spec in schema.fields:
            if spec.required:
                self._must.setdefault(spec.name, "missing_field")
        self._getters = [attrgetter(f"f{i}") for i in range(len(schema.fields))]
        lenient, self._strict = self._compile(strict=False), self._compile(strict=True).decode
        self._lenient = lenient.decode
        order = [int(name[1:]) for name in lenient.type.__struct_fields__]
        self._place = [order.index(i) for i in range(len(order))]  # of each field in a record
        self._raw = self._compile_raw().decode
        self._made = FieldColumns(schema, self._must)
        self._ahead = f"{schema.event_time}: more than {duration_text(schema.max_ahead_ms)} after the log's time"
        self._kinds = {spec.name: msgspec.json.Decoder(_JSON_TYPES[spec.type.kind]).decode for spec in schema.fields}

    def only(self, names: Collection[str]) -> RecordDecoder:
        """A decoder of the fields `names` besides id, key and event time; for `again`."""
        schema = self._schema
        wanted = {schema.id, schema.key, schema.event_time, *names}
        fields = tuple(spec for spec in schema.fields if spec.name in wanted)
        lean = copy(self)
        lean._use(msgspec.structs.replace(schema, fields=fields))
        lean._must = {}  # was judged; that they are there the compiled decoder says
        return lean

    def again(self, values: Sequence[bytes | None]) -> Known | None:
        """What `decode` made of records none of which it rejected. Not judged again: fields must fit their columns.

        None: a field does not, so these are other records.
        """
        read = self._reread(values)
        if read is None:
            return None
        columns, faults = self._columns(*read)
        if faults.rows:
            return None
        return Known(columns, texts_of(columns[self._schema.id]), texts_of(columns[self._schema.key]))

    def times(self, values: Sequence[bytes | None]) -> npt.NDArray[np.int64] | None:
        """The event times, ms, of what `again` would read, int64 (records,); None where it would say None."""
        read, faults = self._reread(values), Faults()
        if read is None:
            return None
        spec, getter, found = next(
            (spec, getter, found)
            for spec, getter, found in zip(self._schema.fields, self._getters, read[0], strict=True)
            if spec.name == self._schema.event_time
        )
        column = build_column(spec, found, faults, self._digits(getter, read[1]))
        return None if faults.rows else column.values

    def _reread(self, values: Sequence[bytes | None]) -> tuple[list[Values], Sequence[bytes]] | None:
        """Each field's values, and the records' payloads; None: they cannot be read."""
        payloads = cast("Sequence[bytes]", values)
        try:
            return self._shared_out(list(map(astuple, map(self._lenient, payloads)))), payloads
        except (*_FAILURES, TypeError):
            return None

    def decode(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded:
        """Decode records.

        Args:
            values: the records' payloads; None is a tombstone.
            timestamps: the log's times of the records, ms; below 0: unknown, not compared with the event time.
        """
        rejects: list[Reject] = []
        payloads, rows = self._screen(values, rejects)
        screened = len(rejects)
        fields, extras = self._fields(payloads, rows, rejects)
        if len(rejects) > screened:
            bad = {reject.index for reject in rejects[screened:]}
            payloads = [payload for row, payload in zip(rows, payloads, strict=True) if row not in bad]
            rows = [row for row in rows if row not in bad]
        index = np.arange(len(rows)) if len(rows) == len(values) else np.fromiter(rows, np.intp, len(rows))
        columns, faults = self._columns(fields, payloads)
        self._check_times(columns, index, timestamps, faults)
        if faults.rows:
            rejects += [Reject(rows[row], *fault) for row, fault in faults.rows.items()]
            keep = np.ones(len(rows), np.bool_)
            keep[list(faults.rows)] = False
            index = index[keep]
            good = np.flatnonzero(keep)
            columns = {name: column.take(good) for name, column in columns.items()}
        rejects.sort()
        ids, keys, times = (columns[name] for name in (self._schema.id, self._schema.key, self._schema.event_time))
        return Decoded(columns, index, texts_of(ids), texts_of(keys), times.values, rejects, extras)

    def _screen(self, values: Sequence[bytes | None], rejects: list[Reject]) -> tuple[Sequence[bytes], Sequence[int]]:
        """The records worth decoding (neither empty nor huge, UTF-8 throughout) and their indices.

        msgspec checks the text of declared fields only; the whole record is checked here (0.03 us when ASCII).
        """
        if all(values):
            given = cast("Sequence[bytes]", values)
            if all(map(bytes.isascii, given)) and max(map(len, given), default=0) <= self._bytes_max:
                return given, range(len(given))
        payloads: list[bytes] = []
        rows: list[int] = []
        for row, value in enumerate(values):
            fault = self._screen_one(value)
            if fault is not None:
                rejects.append(Reject(row, *fault))
            elif value is not None:
                payloads.append(value)
                rows.append(row)
        return payloads, rows

    def _screen_one(self, value: bytes | None) -> tuple[str, str] | None:
        if not value:
            return "tombstone", "the record has no value"
        if len(value) > self._bytes_max:
            return "too_large", f"the record is larger than {self._bytes_max} bytes"
        if not value.isascii():
            try:
                value.decode()
            except UnicodeDecodeError:
                return "broken_json", "the record is not UTF-8"
        return None

    def _fields(
        self, payloads: Sequence[bytes], rows: Sequence[int], rejects: list[Reject]
    ) -> tuple[list[Values], int]:
        """Each field's values in the records that can be read; and the count of those with extras."""
        pieces: list[list[Values]] = []
        extras = 0
        for begin in range(0, len(payloads), _PIECE_ROWS):
            piece = slice(begin, begin + _PIECE_ROWS)
            read, some = self._read(payloads[piece], rows[piece], rejects)
            pieces.append(self._shared_out(list(filter(None, read))))
            extras += some
        if len(pieces) <= 1:
            return pieces[0] if pieces else self._shared_out([]), extras
        return [list(chain.from_iterable(parts)) for parts in zip(*pieces, strict=True)], extras

    def _shared_out(self, records: Sequence[Record]) -> list[Values]:
        """Each field's values."""
        if not records:
            return [() for _ in self._getters]
        columns = list(zip(*records, strict=True))
        return [columns[place] for place in self._place]

    def _read(
        self, payloads: Sequence[bytes], rows: Sequence[int], rejects: list[Reject]
    ) -> tuple[list[Record | None], int]:
        """One record (None: rejected) a payload, and the count of those with extras.

        `extend` keeps what `map` gave before it raised, so the loop goes round once a failure, not once a record;
        the list iterator's length hint (exact for lists) says which record failed.
        """
        decode = self._lenient if self._sampling else self._strict
        records: list[Record | None] = []
        extras = 0
        pending = iter(payloads)
        while True:
            try:
                records.extend(map(astuple, map(decode, pending)))
                break
            except _FAILURES as error:
                failed = len(payloads) - length_hint(pending) - 1
                assert failed == len(records)  # or this Python's extend drops what it had
                found = self._second_look(payloads[failed], isinstance(error, msgspec.ValidationError))
                if isinstance(found, tuple):
                    rejects.append(Reject(rows[failed], *found))
                else:
                    extras += 1
                records.append(None if isinstance(found, tuple) else astuple(found))
        if self._sampling:
            return records, self._sample(payloads)
        self._sampling = extras * 2 > len(payloads)
        return records, extras

    def _second_look(self, payload: bytes, well_formed: bool) -> Any:
        """The record, if only extras were wrong with it; else reason and detail."""
        if well_formed and not self._sampling and not self._schema.extra_refused:
            try:
                return self._lenient(payload)
            except _FAILURES:
                pass
        return self._explain(payload)

    def _sample(self, payloads: Sequence[bytes]) -> int:
        """Estimate of the records with extras, from every SAMPLE_EVERY-th record since sampling began."""
        extras = 0
        place = self._until_sample
        while place < len(payloads):
            try:
                self._strict(payloads[place])
                self._clean_samples += 1
            except _FAILURES:
                self._clean_samples = 0
                extras += SAMPLE_EVERY
            place += SAMPLE_EVERY
        self._until_sample = place - len(payloads)
        self._sampling = self._clean_samples < CLEAN_SAMPLES
        if not self._sampling:
            self._clean_samples = self._until_sample = 0
        return extras

    def _explain(self, payload: bytes) -> tuple[str, str]:
        """Why a record cannot be read: field by field from its raw JSON, in the schema's order."""
        try:
            _check_syntax(payload)
            raw = self._raw(payload)
        except RecursionError:
            return "too_deep", "the record is nested too deeply"
        except msgspec.ValidationError:
            return "wrong_type", "the record is not a JSON object"
        except _FAILURES:
            return "broken_json", "the record is not valid JSON"
        for spec, getter in zip(self._schema.fields, self._getters, strict=True):
            value = getter(raw)
            if bytes(value).strip() == b"null":
                if spec.name in self._must:
                    return self._must[spec.name], f"{spec.name}: expected {spec.type}, got nothing"
                continue
            try:
                self._kinds[spec.name](value)
            except _FAILURES:
                return value_fault(spec.type.kind, bytes(value)), f"{spec.name}: expected {spec.type}"
        if self._schema.extra_refused:
            return "extra_field", "the record has a field that the stream does not declare"
        return "wrong_type", "a field is given twice, once with a wrong type"

    def _columns(self, fields: Sequence[Values], payloads: Sequence[bytes]) -> tuple[dict[str, Column], Faults]:
        """Columns of each field's values; `payloads`: of the same rows."""
        if self._pan is not None:
            fields = [self._tokens(f) if s.pan else f for s, f in zip(self._schema.fields, fields, strict=True)]
        return self._made.build(fields, lambda place: self._digits(self._getters[place], payloads))

    def _check_times(
        self, columns: dict[str, Column], index: npt.NDArray[np.intp], timestamps: Sequence[int], faults: Faults
    ) -> None:
        """Event times lie in 1970..9999, and not further after the log's time than the stream allows."""
        name = self._schema.event_time
        times = columns[name].values
        if not len(times):
            return
        since, ahead_ms = min(timestamps), self._schema.max_ahead_ms
        if since >= 0 and times.min() >= 0 and times.max() <= min(TIME_MAX, since + ahead_ms):
            return
        faults.mark((times < 0) | (times > TIME_MAX), "bad_time", f"{name}: expected a time in the years 1970 to 9999")
        log_times = np.asarray(timestamps, np.int64)[index]
        faults.mark((times > log_times + ahead_ms) & (log_times >= 0), "future_time", self._ahead)

    def _tokens(self, values: Values) -> Values:
        """Card numbers, without blanks and dashes, as keyed 128-bit hashes; an empty one is NULL."""
        tokens: list[str | None] = []
        for value in values:
            digits = value.replace(" ", "").replace("-", "") if value is not None else ""
            if digits:
                assert self._pan is not None
                keyed = self._pan.copy()
                keyed.update(digits.encode())
                tokens.append(keyed.hexdigest())
            else:
                tokens.append(None)
        return tokens

    def _digits(self, getter: Callable[[Any], Any], payloads: Sequence[bytes]) -> Digits:
        """Reads a row's number again, as its digits."""
        return lambda row: Decimal(bytes(getter(self._raw(payloads[row]))).decode())

    def _compile(self, *, strict: bool) -> msgspec.json.Decoder[Any]:
        fields: list[Any] = []
        for i, spec in enumerate(self._schema.fields):
            kind = _JSON_TYPES[spec.type.kind]
            fields.append((f"f{i}", kind) if spec.name in self._must else (f"f{i}", kind | None, None))
        return self._struct(fields, strict)

    def _compile_raw(self) -> msgspec.json.Decoder[Any]:
        fields = [(f"f{i}", msgspec.Raw, _ABSENT) for i in range(len(self._schema.fields))]
        return self._struct(fields, False)

    def _struct(self, fields: list[Any], strict: bool) -> msgspec.json.Decoder[Any]:
        names = {f"f{i}": spec.source for i, spec in enumerate(self._schema.fields)}
        fields = sorted(fields, key=len)  # those without a default must come first
        struct = msgspec.defstruct("Record", fields, rename=names, gc=False, forbid_unknown_fields=strict)
        return msgspec.json.Decoder(struct)
