"""Stages side by side by the command line: what is gathered equals a chain's, and a backtest's; each row once."""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.chain import Row, fed, finish, in_order, ndjson, ran
from tests.cli.conftest import Cli
from tests.cli.parallel import HUGE, beside, decisions, letters, payments, roll_call, told

pytestmark = pytest.mark.timeout(240)
ONE = ("partitions: 3", "partitions: 1")


def as_chain(folder: Path) -> Path:
    """The same stages one after the other."""
    path = beside(folder, ONE, name="chained")
    head, rest = path.read_text().split("  - parallel:\n")
    inner, tail = rest.split("    wait: 1h\n")
    path.write_text(head + "".join(line[4:] for line in inner.splitlines(keepends=True)) + tail)
    return path


def refused(given: Sequence[Row]) -> int:
    return sum(row["Amount"] == HUGE for row in given)


def test_it_decides_what_a_chain_decides_but_what_is_refused_was_seen_beside(tmp_path: Path) -> None:
    """A stage has seen the rows that the one beside it refuses: so there are none here."""
    given = [row for row in payments(400) if row["Amount"] != HUGE]
    file = ndjson(tmp_path / "a.ndjson", given)
    expected = told(as_chain(tmp_path), [file], tmp_path / "chain.parquet")
    assert told(beside(tmp_path, ONE), [file], tmp_path / "beside.parquet") == expected
    assert sum(row["duplicate"] for row in expected) > 10
    assert {row["decision"] for row in expected} == {"approve", "review", "decline"}


def test_a_run_decides_what_a_backtest_says(cli: Cli, tmp_path: Path) -> None:
    given, log = payments(400), f"file:{tmp_path}/log"
    pipeline, file = beside(tmp_path, ONE), ndjson(tmp_path / "a.ndjson", given)
    expected = told(pipeline, [file], tmp_path / "expected.parquet")
    fed(pipeline, log, file)
    ran(pipeline, log, tmp_path / "state", "--checkpoints", tmp_path / "cp")
    assert decisions(pipeline, log) == expected
    assert len(expected) == len(given) - refused(given)
    found = letters(pipeline, log)
    assert Counter((one["topic"], one["reason"]) for one in found) == {("beside.devices", "overflow"): refused(given)}
    (beside_it,) = tmp_path.glob("*dead_letters*")
    listed = beside_it.read_text().splitlines()
    assert {json.loads(line)["reason"] for line in listed} == {"overflow"}
    assert len(listed) == refused(given)
    stored = (pipeline, "--state", tmp_path / "state", "--checkpoints", tmp_path / "cp")
    assert cli("state", "verify", *stored).code == 0


def assert_once(found: Sequence[Row], expected: Sequence[Row]) -> None:
    """Rows of several partitions may come to a later stage in another order; each comes once, with all its parts. In
    the end each user's state is what it should be: windows keep late rows exactly.
    """

    def facts(some: Sequence[Row]) -> Counter[tuple[object, ...]]:
        return Counter(
            (row["payment_id"], row["duplicate"], row["card_day_count"], row["card_day_sum"], row["share"])
            for row in some
        )

    assert facts(found) == facts(expected)
    assert all((row["both"] is None) == row["duplicate"] for row in found)
    called = [[row for row in some if row["payment_id"].startswith("call")] for some in (found, expected)]
    assert in_order(called[0]) == in_order(called[1])
    assert len(called[0]) == 8


def run_in_pieces(folder: Path, log: str, name: str, workers: int) -> tuple[list[Row], list[Row], list[Row]]:
    pipeline, given = beside(folder, name=name), payments(600)
    pieces = [given[:250], given[250:], roll_call(given)]
    files = [ndjson(folder / f"{number}.ndjson", piece) for number, piece in enumerate(pieces)]
    for file in files:
        fed(pipeline, log, file)
        ran(pipeline, log, folder / "state", "--workers", workers)
    expected = told(pipeline, files, folder / "expected.parquet")
    found = letters(pipeline, log)
    assert Counter(one["reason"] for one in found) == {"overflow": refused(given)}
    return decisions(pipeline, log), expected, given


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_each_row_is_decided_once(tmp_path: Path, workers: int) -> None:
    found, expected, _ = run_in_pieces(tmp_path, f"file:{tmp_path}/log", "beside", workers)
    assert_once(found, expected)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 4])
def test_each_row_is_decided_once_on_kafka(tmp_path: Path, kafka_bootstrap: str, workers: int) -> None:
    name = f"beside_{uuid.uuid4().hex[:8]}"
    found, expected, _ = run_in_pieces(tmp_path, f"kafka://{kafka_bootstrap}", name, workers)
    assert_once(found, expected)


def test_a_lost_state_is_replayed_from_the_parts(tmp_path: Path) -> None:
    given, log = payments(300), f"file:{tmp_path}/log"
    pipeline, state = beside(tmp_path, ONE), tmp_path / "state"
    files = [ndjson(tmp_path / "1.ndjson", given[:200]), ndjson(tmp_path / "2.ndjson", given[200:])]
    fed(pipeline, log, files[0])
    ran(pipeline, log, state)
    shutil.rmtree(state / "beside")
    fed(pipeline, log, files[1])
    ran(pipeline, log, state)
    assert decisions(pipeline, log) == told(pipeline, files, tmp_path / "expected.parquet")


SIDES = [
    ("stages:\n", """\
  logins:
    id: login_id
    event_time: at
    stage: users
    fields: {login_id: string, user: int64, at: timestamp}
  scans:
    id: scan_id
    event_time: at
    stage: devices
    fields: {scan_id: string, device: string, at: timestamp}
stages:
"""),
    ("      both:", "      logins_day: {count: login_id, over: 24h}\n      both:"),
    ("          scaled:", "          scans_day: {count: scan_id, over: 24h}\n          scaled:"),
    ("user_day_count, user", "logins_day, scans_day, user_day_count, user"),
]  # fmt: skip


def test_other_streams_enter_stages_side_by_side_and_the_one_that_gathers(tmp_path: Path) -> None:
    given, log = payments(200), f"file:{tmp_path}/log"
    pipeline, output = beside(tmp_path, ONE, *SIDES), tmp_path / "expected.parquet"
    at = [row["At"] for row in given]
    files = {
        "payments": ndjson(tmp_path / "payments.ndjson", given),
        "logins": ndjson(tmp_path / "logins.ndjson", [
            {"login_id": f"l{n}", "user": n % 8 + 1, "at": int(time.timestamp() * 1000) + 1, "At": time}
            for n, time in enumerate(at[::2])
        ]),
        "scans": ndjson(tmp_path / "scans.ndjson", [
            {"scan_id": f"s{n}", "device": f"d{n % 11}", "at": int(time.timestamp() * 1000) + 1, "At": time}
            for n, time in enumerate(at[::3])
        ]),
    }  # fmt: skip
    expected = told(pipeline, list(files.values()), output)
    for name, file in files.items():
        assert finish("feed", name, file, "--pipeline", pipeline, "--log", log).code == 0
    ran(pipeline, log, tmp_path / "state")
    assert decisions(pipeline, log) == expected
    shown = pq.read_table(output).to_pylist()
    assert max(row["logins_day"] or 0 for row in shown) > 1
    assert max(row["scans_day"] or 0 for row in shown) > 1


def test_it_can_be_repartitioned(tmp_path: Path) -> None:
    given, log, state = payments(300), f"file:{tmp_path}/log", tmp_path / "state"
    first, rest = ndjson(tmp_path / "1.ndjson", given[:200]), ndjson(tmp_path / "2.ndjson", given[200:])
    old, new = beside(tmp_path, ONE, name="old"), beside(tmp_path, ("partitions: 3", "partitions: 2"), name="new")
    fed(old, log, first)
    ran(old, log, state)
    done = finish("repartition", old, "--to", new, "--log", log, "--state", state)
    assert done.code == 0, done.err
    fed(new, log, rest)
    ran(new, log, state)
    expected = told(new, [first, rest], tmp_path / "expected.parquet")
    found = decisions(old, log) + decisions(new, log)
    assert Counter(row["payment_id"] for row in found) == Counter(row["payment_id"] for row in expected)
    assert {row["payment_id"]: row["card_day_sum"] for row in found} == {
        row["payment_id"]: row["card_day_sum"] for row in expected
    }


def test_it_is_drawn_and_described(cli: Cli, tmp_path: Path) -> None:
    pipeline = beside(tmp_path)
    drawn = cli("explain", pipeline)
    assert (
        "payments -> [cards by card] -> {[merchants by merchant] | [devices by device]} -> [users by user]" in drawn.out
    )
    assert drawn.out.startswith("pipeline beside: 2 hops, 3 partitions")
    said = json.loads(cli("explain", pipeline, "--json").out)
    assert [(one["stage"], one["to"], one["parallel"]) for one in said["stages"]] == [
        ("cards", "merchants, devices", False), ("merchants", "users", True), ("devices", "users", True),
        ("users", "decisions", False),
    ]  # fmt: skip
    work = {(one["stage"], part["what"]): part for one in said["stages"] for part in one["work"]}
    assert [work[stage, "decode"]["hops"] for stage in ("cards", "merchants", "devices", "users")] == [0, 1, 1, 2]
    assert work["cards", "hop"]["detail"].endswith(", to 2 stages")
    assert work["users", "gather"]["detail"] == "the parts of merchants, devices"
    described = cli("validate", pipeline).out
    assert "hands each row on to beside.merchants and beside.devices\n" in described
    assert "gathers the parts of merchants and devices, which wait for each other for 1h\n" in described


def test_the_example_of_the_page(cli: Cli, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "language" / "parallel.md").read_text()
    pipeline, file = tmp_path / "bank.yaml", tmp_path / "payments.ndjson"
    pipeline.write_text(page.split("```yaml\n", 1)[1].split("```", 1)[0])
    given = [("p1", "c1", "s1", "u1"), ("p2", "c2", "s2", "u2"), ("p3", "c1", "s1", "u3"), ("p3", "c1", "s1", "u3")]
    file.write_text(
        "".join(
            json.dumps({"payment_id": name, "card": card, "shop": shop, "device": "d1", "user": user, "amount": 5.0,
                        "at": 1_700_000_000_000}) + "\n"
            for name, card, shop, user in given
        )
    )  # fmt: skip
    assert cli("backtest", pipeline, "--input", file, "--output", tmp_path / "out.parquet").code == 0
    names = ("shop_n_1h", "share", "device_users_24h", "user_n_1h", "decision", "duplicate")
    found = [tuple(row[name] for name in names) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]
    assert found == [
        (1, 1.0, 1, 1, "approve", False), (1, 1.0, 2, 1, "approve", False), (2, 0.5, 3, 1, "review", False),
        (None, None, None, None, "review", True),
    ]  # fmt: skip
    drawing = page.split("    payments -> ")[1].splitlines()[0]
    assert f"  payments -> {drawing}\n" in cli("explain", pipeline).out
