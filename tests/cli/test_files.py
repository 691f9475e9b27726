"""Files become the records that a producer would write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.schema import DataType, FieldSpec, Kind, StreamSchema
from state.errors import ConfigError
from streamproc.cli.files import ROWS_MAX, Piece, read_file

FIELDS = {
    "id": Kind.STRING,
    "card": Kind.INT64,
    "at": Kind.TIMESTAMP,
    "amount": Kind.DECIMAL,
    "ratio": Kind.FLOAT64,
    "ok": Kind.BOOL,
    "note": Kind.STRING,
}
SCHEMA = StreamSchema(
    name="payments",
    topic="shop.payments",
    fields=tuple(FieldSpec(n, DataType(k, 2 if k is Kind.DECIMAL else 0), n.title()) for n, k in FIELDS.items()),
    id="id",
    event_time="at",
    key="card",
)


def pieces(path: Path, schema: StreamSchema = SCHEMA) -> list[Piece]:
    return list(read_file(path, schema))


def records(path: Path, schema: StreamSchema = SCHEMA) -> list[tuple[Any, bytes | None]]:
    def each() -> Iterator[tuple[Any, bytes | None]]:
        for piece in pieces(path, schema):
            yield from zip(map(json.loads, piece.rows), piece.keys, strict=True)

    return list(each())


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def needed(rows: int = 1) -> dict[str, Any]:
    return {"Id": [f"p{i}" for i in range(rows)], "Card": list(range(rows)), "At": [1_000 * i for i in range(rows)]}


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path, marked = tmp_path / "x.ndjson", tmp_path / "marked.ndjson"
    text = '{"Id": "a", "Card": "c1", "At": 1}\n{"Id": "b", "Card": "c2", "At": 2}\n'
    path.write_text(text)
    marked.write_text(text, "utf-8-sig")
    assert records(marked) == records(path)
    assert b"".join(row for piece in pieces(marked) for row in piece.rows).startswith(b"{")


def test_parquet_types(tmp_path: Path) -> None:
    at = datetime(2026, 5, 1, 12, 30, 0, 250_000)
    path = parquet(
        tmp_path / "x.parquet",
        **needed(),
        naive_ms=pa.array([at], pa.timestamp("ms")),
        zoned_us=pa.array([at.replace(tzinfo=UTC)], pa.timestamp("us", "Europe/Brussels")),
        day=[date(2026, 5, 1)],
        amount=[Decimal("12.30")],
        small=pa.array([57.16], pa.float32()),
        double=[0.1 + 0.2],
        whole=[100.0],
        int8=pa.array([-3], pa.int8()),
        big=[2**53 + 1],
        flag=[True],
        word=pa.array(['é"\\\n']).dictionary_encode(),
        large=pa.array(["x"], pa.large_string()),
        parts=[["a", "b"]],
    )
    ((record, key),) = records(path)
    assert key == b"0"
    assert record == {
        "Id": "p0",
        "Card": 0,
        "At": 0,
        "naive_ms": "2026-05-01T12:30:00.250Z",
        "zoned_us": "2026-05-01T12:30:00.250000Z",
        "day": "2026-05-01",
        "amount": 12.3,
        "small": 57.16,
        "double": 0.1 + 0.2,
        "whole": 100.0,
        "int8": -3,
        "big": 2**53 + 1,
        "flag": True,
        "word": 'é"\\\n',
        "large": "x",
        "parts": ["a", "b"],
    }
    assert b'"amount":12.30' in pieces(path)[0].rows[0]


def test_parquet_nulls_are_left_out(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "x.parquet",
        **needed(2),
        text=["a", None],
        number=pa.array([None, 2], pa.int32()),
        double=[float("nan"), 0.5],
        infinite=[float("-inf"), None],
        small=pa.array([None, 1.5], pa.float32()),
        flag=[None, False],
        time=pa.array([None, datetime(2026, 5, 1)], pa.timestamp("s")),
        money=[None, Decimal("1.00")],
        nothing=pa.nulls(2),
    )
    first, second = (record for record, _ in records(path))
    assert first == {"Id": "p0", "Card": 0, "At": 0, "text": "a"}
    assert second == {
        "Id": "p1", "Card": 1, "At": 1000, "number": 2, "double": 0.5, "small": 1.5, "flag": False,
        "time": "2026-05-01T00:00:00.000Z", "money": 1.0,
    }  # fmt: skip


def test_an_integer_column_of_a_text_field_is_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", Id=[7, 8], Card=[1, 2], At=[0, 0], Note=[None, 5])
    assert [record for record, _ in records(path)] == [
        {"Id": "7", "Card": 1, "At": 0},
        {"Id": "8", "Card": 2, "At": 0, "Note": "5"},
    ]


def test_whole_numbers_that_pandas_made_floats_are_integers_again(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", Id=["a", "b"], Card=[596.0, None], At=[0, 0])
    assert records(path) == [({"Id": "a", "Card": 596, "At": 0}, b"596"), ({"Id": "b", "At": 0}, None)]


def test_parquet_comes_in_pieces(tmp_path: Path) -> None:
    rows = 2 * ROWS_MAX + 5
    path = parquet(tmp_path / "x.parquet", **needed(rows))
    found = pieces(path)
    assert [len(piece.rows) for piece in found] == [ROWS_MAX, ROWS_MAX, 5]
    assert [number for piece in found for number in piece.numbers] == list(range(1, rows + 1))
    assert [piece.progress for piece in found][-1] == path.stat().st_size


def test_csv_types_and_nulls(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "\ufeffId,Card,At,Amount,Ratio,Ok,Note,Extra\r\n"
        'p1,596,2026-05-01 12:00:00,12.30,1e-3,True,"a ""b"", c\nd",007\r\n'
        "p2,0596, 1777636800000 ,12.3x,NaN,yes,,\r\n"
        "\r\n"
        "p3,-1.0,2026-05-01T12:00:00+02:00,-0.5,,FALSE, x ,1\r\n"
    )
    first, second, third = records(path)
    assert first == (
        {
            "Id": "p1", "Card": 596, "At": "2026-05-01T12:00:00Z", "Amount": 12.3, "Ratio": 0.001, "Ok": True,
            "Note": 'a "b", c\nd', "Extra": "007",
        },
        b"596",
    )  # fmt: skip
    assert second[0] == {
        "Id": "p2",
        "Card": "0596",
        "At": 1777636800000,
        "Amount": "12.3x",
        "Ratio": "NaN",
        "Ok": "yes",
    }
    assert second[1] is None
    assert third[0]["Card"] == -1
    assert third[0]["At"] == "2026-05-01T12:00:00+02:00"
    assert third[0]["Note"] == " x "
    assert third[1] == b"-1"


def test_csv_rows_that_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"Id,Card,At\np1,1,0\np2,2\np3,3,0,9\np\xff,4,0\np5,5,0\n")
    (piece,) = pieces(path)
    assert [json.loads(row)["Id"] for row in piece.rows] == ["p1", "p5"]
    assert list(piece.numbers) == [1, 5]
    assert piece.skipped == [(2, "wrong_cells"), (3, "wrong_cells"), (4, "not_utf8")]


def test_ndjson_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    lines = [
        b'{"Card": 596, "Id": "p1"}\r',
        b"",
        b'{"Card": "596"}',
        b"broken {",
        b"\xff\xfe",
        b'  {"Id":"p2","Card":1}  ',
        b"[1]",
        b'{"Card":null}',
    ]
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"\n".join(lines))
    piece, last = pieces(path)
    assert [*piece.rows, *last.rows] == [line for line in lines if line]
    assert list(piece.keys) == [b"596", None, None, None, b"1", None]
    assert list(piece.numbers) == [1, 3, 4, 5, 6, 7]
    assert list(last.numbers) == [8]


def test_ndjson_lines_may_lie_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamproc.cli.files._READ_BYTES", 7)
    lines = [b'{"Card":%d}' % n for n in range(100)]
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = pieces(path)
    assert [row for piece in found for row in piece.rows] == lines
    assert [number for piece in found for number in piece.numbers] == list(range(1, 101))


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamproc.cli.files.LINE_BYTES_MAX", 100)
    monkeypatch.setattr("streamproc.cli.files._READ_BYTES", 10)
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(ConfigError, match="a line is longer"):
        pieces(path)


def test_blanks_of_a_card_number_do_not_move_it(tmp_path: Path) -> None:
    fields = (
        FieldSpec("card", DataType(Kind.STRING), "Card", pan=True),
        FieldSpec("at", DataType(Kind.TIMESTAMP), "At"),
        FieldSpec("id", DataType(Kind.STRING), "Id"),
    )
    schema = StreamSchema("payments", "t", fields, id="id", event_time="at", key="card")
    path = tmp_path / "x.ndjson"
    path.write_text('{"Card":"4111 1111-1111 1111"}\n{"Card":"4111111111111111"}\n')
    assert [key for _, key in records(path, schema)] == [b"4111111111111111"] * 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.parquet", b"not parquet", "no readable Parquet"),
        ("x.csv", b"", r"x.csv:1: there are no columns 'Id' .* the file has no columns"),
        ("x.csv", b"Ide,Card,At\n", "there is no column 'Id' .* did you mean Ide"),
        ("x.csv", b"Id,Card,At,At\n", "two columns are called 'At'"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said.replace(" .* ", ".*")):
        pieces(path)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    path.touch()
    assert records(path) == []
