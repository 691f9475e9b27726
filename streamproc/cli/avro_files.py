"""Avro container files (`.avro`) as input: their records in the wire format, by a registry's id for the schema."""

from __future__ import annotations

__all__ = ["read_avro"]

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from operators.avro import AvroForm, file_records, file_schema, wire_record
from operators.schema import StreamSchema
from state.errors import ConfigError, Place
from streamproc.cli.files import ROWS_MAX, Piece
from streamproc.cli.formats import find_schema
from streamproc.cli.records import key_reader


def read_avro(path: Path, schema: StreamSchema) -> Iterator[Piece]:
    """All records of a file, byte for byte, in order.

    Raises:
        ConfigError: it is damaged, or the registry does not have its schema.
    """
    try:
        with open(path, "rb") as file:
            written = file_schema(file)
            number = find_schema(schema, written)
            key = schema.field(schema.key)
            lean = msgspec.structs.replace(schema, fields=(key,), reader_schema="", extra_refused=False)
            key_of = key_reader(schema, AvroForm(lean, {number: written}))
            file.seek(0)
            records, done = file_records(file), 0
            while bodies := list(islice(records, ROWS_MAX)):
                rows = [wire_record(number, body) for body in bodies]
                numbers = range(done + 1, done + 1 + len(rows))
                done += len(rows)
                yield Piece(rows, list(map(key_of, rows)), numbers, (), file.tell())
    except ConfigError as error:
        raise ConfigError(error.message, error.place or Place(str(path)), error.hint) from None
