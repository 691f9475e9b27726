"""A field whose column is missing from a file is named before anything is done with the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Cli

ROW = {"Payment": "p1", "Card": "c1", "Amount": "1.00", "At": "2026-05-01T00:00:00Z"}


def csv(path: Path, **more: str) -> Path:
    row = {**ROW, **more}
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    return path


@pytest.fixture
def feed(pipeline: Path, tmp_path: Path) -> list[object]:
    return ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]


def test_an_optional_field_without_a_column_is_warned_of(
    cli: Cli, pipeline: Path, feed: list[object], tmp_path: Path
) -> None:
    path = csv(tmp_path / "x.csv", Contry="be")
    for outcome in (
        cli("backtest", pipeline, "--input", path, "--output", tmp_path / "o.parquet"),
        cli("feed", "payments", path, path, *feed),
    ):
        assert outcome.code == 0
        said = f"warning: {path}: no column 'Country' for field country: it will be NULL (did you mean Contry?)\n"
        assert outcome.err.count("warning") == 1
        assert said in outcome.err


def test_the_columns_are_listed_when_none_is_near(cli: Cli, feed: list[object], tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({name: [value] for name, value in {**ROW, "Where": "be"}.items()}), path)
    assert (
        "it will be NULL (the file has Payment, Card, Amount, At, Where)\n" in cli("feed", "payments", path, *feed).err
    )


@pytest.mark.parametrize("name", ROW)
def test_a_needed_field_without_a_column_ends_it_before_it_begins(
    name: str, cli: Cli, pipeline: Path, feed: list[object], tmp_path: Path
) -> None:
    right = csv(tmp_path / "x.csv", Country="be")
    wrong = csv(tmp_path / "y.csv", Country="be")
    wrong.write_text(wrong.read_text().replace(name, f"{name}_"))
    for outcome in (
        cli("backtest", pipeline, "--input", right, wrong, "--output", tmp_path / "o.parquet"),
        cli("feed", "payments", right, wrong, *feed),
    ):
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"error: {wrong}:1: there is no column '{name}'" in outcome.err
        assert outcome.err.endswith(f"(did you mean {name}_?)\n")
    assert not (tmp_path / "log").exists()


def test_all_that_is_missing_is_said_in_one_line(cli: Cli, feed: list[object], tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    names = ("payment", "card_number", "Amuont", "Where")
    pq.write_table(pa.table({name: ["1"] for name in names}), path)
    outcome = cli("feed", "payments", path, *feed)
    assert (outcome.code, outcome.err) == (
        2,
        f"error: {path}: there are no columns 'Payment' (field payment_id), 'Card' (field card), 'At' (field at),"
        " 'Amount' (field amount) of stream payments, nor, of what is not required, 'Country' (field country)"
        " (did you mean payment for 'Payment', Amuont for 'Amount'?)\n",
    )


def test_missing_optional_columns_are_one_warning(cli: Cli, pipeline: Path, feed: list[object], tmp_path: Path) -> None:
    pipeline.write_text(pipeline.read_text().replace("required: true", "required: false"))
    path = tmp_path / "x.csv"
    path.write_text("Payment,Card,At\np1,c1,2026-05-01T00:00:00Z\n")
    said = f"warning: {path}: no columns 'Amount' for field amount, 'Country' for field country: they will be NULL"
    outcome = cli("feed", "payments", path, *feed)
    assert f"{said} (the file has Payment, Card, At)\n" in outcome.err
    assert outcome.err.count("warning") == 1


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        (
            "x.ndjson",
            b'\n [\n{"Payment": "p1"}]\n',
            "this is a JSON array; a file of records has one object a line (jq",
        ),
        ("x.json", b'\xef\xbb\xbf[{"Payment": "p1"}]', "this is a JSON array"),
        ("x.csv", "Payment,Card\n".encode("utf-16"), "this is UTF-16, not UTF-8 text (save it as UTF-8)"),
        ("x.ndjson", '{"Payment": 1}'.encode("utf-16-le"), "this is UTF-16, not UTF-8 text (save it as UTF-8)"),
        ("x.csv", b"Payment;Card;Amount;At\n", "(cells are separated by commas, not by ;)"),
        ("x.csv", b"Payment\tCard\tAmount\tAt\n", "(cells are separated by commas, not by tabs)"),
    ],
)
def test_a_file_of_another_form_is_refused_with_what_to_do(
    name: str, contents: bytes, said: str, cli: Cli, pipeline: Path, feed: list[object], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(contents)
    for outcome in (
        cli("backtest", pipeline, "--input", path, "--output", tmp_path / "o.parquet"),
        cli("feed", "payments", path, *feed),
    ):
        assert outcome.code == 2
        assert said in outcome.err
    assert not (tmp_path / "log").exists()


def test_other_partitions_than_the_topics_have_are_warned_of(cli: Cli, feed: list[object], tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", Country="be")
    assert "warning" not in cli("feed", "payments", path, *feed, "--partitions", 5).err
    assert "warning" not in cli("feed", "payments", path, *feed).err
    outcome = cli("feed", "payments", path, *feed, "--partitions", 7)
    assert outcome.code == 0
    assert "warning: --partitions 7: the topics are there already, with 5 each\n" in outcome.err
