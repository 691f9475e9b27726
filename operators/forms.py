"""How a record's bytes hold the declared fields: the contract of the formats besides plain JSON, and their decoder.

A form turns one record into the JSON object that a producer of plain JSON would have written. All that a field's
declaration means (type, `required`, `pan`, roles) is judged after that, by the very code of decode.py. Forms do no I/O.
"""

from __future__ import annotations

__all__ = ["Form", "FormDecoder", "Schemas", "open_decoder"]

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from operators.decode import VALUE_BYTES_MAX, Decoded, RecordDecoder, Reject
from operators.schema import StreamSchema
from state.errors import ConfigError, RecordError


class Form(Protocol):
    """A format of records. Keeps nothing of a record.

    `skips_tombstones`: a record without a value says nothing that is not known, and is no dead letter.
    """

    skips_tombstones: bool

    def plain(self, value: bytes) -> bytes:
        """The record as a JSON object whose keys are the `source` of the declared fields.

        Raises:
            RecordError: it cannot be read; neither reason nor detail quotes it.
        """
        ...


class Schemas(Protocol):
    """Schemas by their id in a registry: a port; whoever implements it has fetched what is asked for."""

    def get(self, number: int) -> str | None:
        """The schema's JSON; None if there is none."""
        ...


class FormDecoder(RecordDecoder):
    """Decodes records of one form, by the rules of plain JSON."""

    def __init__(
        self, schema: StreamSchema, form: Form, pan_key: bytes | None = None, value_bytes_max: int = VALUE_BYTES_MAX
    ) -> None:
        """Raises ConfigError as `RecordDecoder` does."""
        super().__init__(schema, pan_key, value_bytes_max)
        self._form = form
        self._whole_max = value_bytes_max

    def decode(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded:
        """As `RecordDecoder.decode`; a tombstone that the form skips is neither a row nor a reject."""
        refused: list[Reject] = []
        plain: list[bytes | None] = []
        rows: list[int] = []
        for row, value in enumerate(values):
            if not value and self._form.skips_tombstones:
                continue
            try:
                plain.append(self._plain(value) if value else value)
                rows.append(row)
            except RecordError as error:
                refused.append(Reject(row, error.reason, error.detail))
        found = super().decode(plain, [timestamps[row] for row in rows])
        index = np.fromiter(rows, np.intp, len(rows))
        refused += [Reject(rows[reject.index], reject.reason, reject.detail) for reject in found.rejects]
        return found._replace(rows=index[found.rows], rejects=sorted(refused))

    def _reread(self, values: Sequence[bytes | None]) -> tuple[list[Any], Sequence[bytes]] | None:
        """As `RecordDecoder._reread`, of the plain records."""
        try:
            return super()._reread([self._plain(value) if value else value for value in values])
        except RecordError:
            return None

    def _plain(self, value: bytes) -> bytes:
        if len(value) > self._whole_max:
            raise RecordError("too_large", f"the record is larger than {self._whole_max} bytes")
        try:
            return self._form.plain(value)
        except RecordError:
            raise
        except Exception as error:  # a form is pure: whatever it stumbles over concerns this record only
            raise RecordError("unreadable", type(error).__name__) from None


def open_decoder(schema: StreamSchema, pan_key: bytes | None = None, schemas: Schemas | None = None) -> RecordDecoder:
    """The decoder of a stream's format.

    Args:
        schema: the stream.
        pan_key: what card numbers are hashed with.
        schemas: where schemas are found by their id; for Avro.

    Raises:
        ConfigError: the stream cannot be decoded here.
    """
    if schema.format == "json":
        return RecordDecoder(schema, pan_key)
    if schema.format == "debezium":
        from operators.debezium import DebeziumForm

        return FormDecoder(schema, DebeziumForm(schema), pan_key)
    if schema.format == "avro":
        from operators.avro import AvroForm

        if schemas is None:
            raise ConfigError(f"stream {schema.name}: Avro records need a schema registry")
        return FormDecoder(schema, AvroForm(schema, schemas), pan_key)
    raise ConfigError(f"stream {schema.name}: there is no format {schema.format!r}")
