"""A worker that dies is started again; a record that kills workers becomes a dead letter, its neighbours do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamproc.cli import restarts
from streamproc.cli.processes import supervise
from streamproc.cli.restarts import CRASHED, Death, Ledger, Patience
from streamproc.eventlog.embedded.file import FILE_NAME
from streamproc.runtime.notes import Notes, Orders, Portion
from tests.cli.chain import Row, backtested, chain, decided, finish, in_order, ndjson, rows
from tests.cli.conftest import PIPELINE, Cli, payments, start
from tests.cli.test_processes import gone, python

OPERATOR = """
import ctypes
import os
from operators.event_operator import INT64, EventOperator, OutputField


class Fragile(EventOperator):
    inputs = ("payment_id", "card")
    outputs = (OutputField("fragile", INT64),)

    def on_event(self, event, state):
        name = event["payment_id"]
        if name.startswith("abort"):
            os.abort()
        if name.startswith("null"):
            ctypes.string_at(0)
        if name.startswith("exit"):
            raise SystemExit(3)
        if name.startswith("once") and not os.path.exists(MARK):
            open(MARK, "w").close()
            os.abort()
        return (1,)
"""


@pytest.fixture
def fragile(tmp_path: Path) -> Path:
    """The small pipeline with an operator that dies of some payments."""
    (tmp_path / "ops.py").write_text(OPERATOR + f"\n\nMARK = {str(tmp_path / 'mark')!r}\n")
    path = tmp_path / "fragile.yaml"
    declared = 'operators:\n  fragile: {operator: "./ops.py:Fragile"}\nrules:\n'
    path.write_text(PIPELINE.replace("rules:\n", declared).replace("amount > 90", "amount > 90 and fragile = 1"))
    return path


def fed(cli: Cli, pipeline: Path, *, poison: dict[int, str], count: int = 400) -> list[dict[str, Any]]:
    """Rows in the log, with a poisoned one behind each index of `poison`; the harmless ones."""
    rows = payments(count)
    lines = [{**row, "At": row["At"].isoformat()} for row in rows]
    for index in sorted(poison, reverse=True):
        lines.insert(index, {**lines[index], "Payment": poison[index], "Card": "c1"})
    path = pipeline.parent / "in.ndjson"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cli("feed", "payments", path, *shared(pipeline)).code == 0
    return rows


def shared(pipeline: Path) -> list[object]:
    return ["--pipeline", pipeline, "--log", f"file:{pipeline.parent}/log"]


def tail(cli: Cli, pipeline: Path, topic: str) -> list[dict[str, Any]]:
    outcome = cli("tail", topic, *shared(pipeline), "--until-end")
    return [json.loads(line) for line in outcome.lines]


def running(pipeline: Path, *more: object) -> subprocess.Popen[str]:
    return start("run", pipeline, "--log", f"file:{pipeline.parent}/log", "--log-level", "error", *more)


def finished(pipeline: Path, *more: object) -> tuple[int, list[dict[str, Any]]]:
    """Run to the end; the exit code, and the deaths that were logged."""
    process = running(pipeline, "--until-end", *more)
    _, err = process.communicate(timeout=50)
    return process.returncode, deaths(err)


def deaths(err: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "worker died"]


def children(process: subprocess.Popen[str]) -> list[int]:
    return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def until(found: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def assert_right(cli: Cli, pipeline: Path, rows: list[dict[str, Any]]) -> None:
    """Decided exactly once, as a backtest decides them that never saw the poison."""
    decided = tail(cli, pipeline, "decisions")
    assert Counter(row["payment_id"] for row in decided) == Counter(row["Payment"] for row in rows)
    clean = pipeline.parent / "clean.ndjson"
    clean.write_text("".join(json.dumps({**row, "At": row["At"].isoformat()}) + "\n" for row in rows))
    other = pipeline.parent / "clean.yaml"
    other.write_text(pipeline.read_text().replace("pipeline: shop", "pipeline: clean"))
    log = f"file:{pipeline.parent}/clean"
    assert cli("feed", "payments", clean, "--pipeline", other, "--log", log).code == 0
    ran = start("run", other, "--log", log, "--until-end")
    assert ran.wait(40) == 0
    ran.communicate()
    expected = cli("tail", "decisions", "--pipeline", other, "--log", log, "--until-end").lines
    assert sorted(json.dumps(row) for row in decided) == sorted(json.dumps(json.loads(line)) for line in expected)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "signal_name"), [("abort", "SIGABRT"), ("null", "SIGSEGV"), ("exit", "an unexpected error")]
)
def test_a_record_that_kills_becomes_a_dead_letter(kind: str, signal_name: str, cli: Cli, fragile: Path) -> None:
    rows = fed(cli, fragile, poison={150: kind})
    code, seen = finished(fragile)
    assert code == 0
    assert {death["of"] for death in seen} == {signal_name}
    assert len(seen) == restarts._CRASHES_MAX + 1
    letters = tail(cli, fragile, "dead_letters")
    assert [(letter["reason"], letter["topic"]) for letter in letters] == [("crashed_worker", "shop.payments")]
    assert_right(cli, fragile, rows)
    rejected = sum(entry["rejected"] for entry in tail(cli, fragile, "journal"))
    assert rejected == 1


@pytest.mark.timeout(120)
def test_several_with_two_workers_and_a_lost_state(cli: Cli, fragile: Path) -> None:
    rows = fed(cli, fragile, poison={20: "abort1", 21: "abort2", 300: "abort3"})
    code, _ = finished(fragile, "--workers", 2)
    assert code == 0
    assert len(tail(cli, fragile, "dead_letters")) == 3
    assert_right(cli, fragile, rows)
    for index, database in enumerate(sorted((fragile.parent / "log" / "state").glob("shop/task-*"))):
        database.rename(fragile.parent / f"lost-{index}")
    assert finished(fragile) == (0, [])  # the replay obeys the journal: nothing crashes again
    assert len(tail(cli, fragile, "decisions")) == len(rows)


@pytest.mark.timeout(120)
def test_the_other_worker_goes_on_meanwhile(cli: Cli, fragile: Path) -> None:
    fed(cli, fragile, poison={0: "abort"})
    process = running(fragile, "--workers", 2)
    try:
        letter = until(lambda: tail(cli, fragile, "dead_letters"))[0]
        decided = until(lambda: tail(cli, fragile, "decisions"))
        assert len(decided) > 100
        until(lambda: len(tail(cli, fragile, "decisions")) == 420)
    finally:
        process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert {death["worker"] for death in deaths(err)} == {letter["partition"] % 2}


@pytest.mark.timeout(120)
def test_a_crash_that_does_not_come_back_costs_no_record(cli: Cli, fragile: Path) -> None:
    rows = fed(cli, fragile, poison={})
    rows.append({**rows[0], "Payment": "once"})
    path = fragile.parent / "once.ndjson"
    path.write_text(json.dumps({**rows[-1], "At": rows[-1]["At"].isoformat()}) + "\n")
    assert cli("feed", "payments", path, *shared(fragile)).code == 0
    code, seen = finished(fragile)
    assert (code, len(seen)) == (0, 1)
    assert seen[0]["computing"]
    assert tail(cli, fragile, "dead_letters") == []
    assert_right(cli, fragile, rows)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(120)
def test_sigkill_is_survived_and_never_counts(cli: Cli, pipeline: Path) -> None:
    fed(cli, pipeline, poison={}, count=2000)
    process = running(pipeline)
    killed: set[int] = set()
    try:
        for _ in range(4):
            worker = until(lambda: [pid for pid in children(process) if pid not in killed])[0]
            killed.add(worker)
            time.sleep(0.5)
            os.kill(worker, signal.SIGKILL)
        until(lambda: len(tail(cli, pipeline, "decisions")) == 2100)
    finally:
        process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [death["of"] for death in deaths(err)] == ["SIGKILL"] * 4
    assert tail(cli, pipeline, "dead_letters") == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_worker_too_dies_with_a_killed_parent(pipeline: Path) -> None:
    process = running(pipeline)
    worker = until(lambda: children(process))[0]
    time.sleep(0.3)
    assert os.getpgid(worker) == os.getpgid(process.pid)
    process.kill()
    process.communicate()
    assert gone(worker)


def test_what_cannot_start_is_not_started_again(cli: Cli, pipeline: Path) -> None:
    pipeline.write_text(pipeline.read_text().replace("then: review}", "then: revue}"))
    process = running(pipeline)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err.startswith(f"error: {pipeline}:")
    assert err.count("\n") == 1


def test_a_log_that_fails_is_not_started_again(pipeline: Path) -> None:
    log = pipeline.parent / "log"
    log.mkdir()
    (log / FILE_NAME).write_bytes(b"no database" * 1000)
    process = running(pipeline)
    _, err = process.communicate(timeout=50)
    assert process.returncode == 1
    assert deaths(err) == []
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[-1:]


# ---- supervise, by itself


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_PAUSE_MAX_SECONDS", 0.01)


def test_dying_in_vain_ends_with_a_reason(hasty: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervise([python("import os; os.abort()")]) == 128 + signal.SIGABRT
    err = capfd.readouterr().err
    assert err.count('"worker died"') == restarts._IN_VAIN_MAX - 1
    assert err.splitlines()[-1] == (
        "error: worker 0 died 10 times without getting any further, of SIGABRT at last: giving up"
    )


def test_an_error_before_any_work_ends_it_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert supervise([python(f"raise SystemExit({CRASHED})")]) == 1
    assert capfd.readouterr().err == ""


BACK_OFF = """
import sys
from streamproc.cli import restarts
from streamproc.cli.processes import supervise
restarts._PAUSE_FIRST_SECONDS = restarts._PAUSE_MAX_SECONDS = 30
sys.exit(supervise([[sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_back_off_ends_it_with_0(number: int) -> None:
    process = subprocess.Popen(python(BACK_OFF), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "SIGKILL" in process.stderr.readline()
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 0
    assert time.monotonic() - started < 5
    process.communicate()


# ---- the rules, by themselves


def portion(first: int, rows: int, partition: int = 0) -> Portion:
    return Portion("in", partition, first, first + rows, rows)


def crash(*batch: Portion, code: int = -signal.SIGSEGV, computing: bool = True, lived: float = 1.0) -> Death:
    return Death(code, lived, batch, computing)


SOURCE = ("in", 0)
NOTHING = Orders({}, frozenset())


def test_three_crashes_then_care_then_refusal() -> None:
    ledger = Ledger()
    for size in (10, 50):
        ledger.enter(crash(portion(5, size), portion(7, 3, 1)))
        assert ledger.orders == NOTHING
    ledger.enter(crash(portion(5, 40)))
    assert ledger.orders == Orders({SOURCE: 45}, frozenset())
    ledger.enter(crash(portion(9, 1)))
    assert ledger.orders == Orders({SOURCE: 45}, frozenset({(SOURCE, 9)}))
    ledger.enter(crash(portion(9, 20)))  # not alone: it is no verdict
    assert len(ledger.orders.refused) == 1
    ledger.enter(crash(portion(45, 20)))
    assert ledger.orders == NOTHING


@pytest.mark.parametrize(
    "death",
    [
        crash(portion(5, 1), code=-signal.SIGKILL),
        crash(portion(5, 1), code=3),
        crash(portion(5, 1), computing=False),
        crash(),
    ],
)
def test_what_never_counts(death: Death) -> None:
    ledger = Ledger()
    for _ in range(20):
        ledger.enter(death)
    assert ledger.orders == NOTHING


def test_progress_restores_patience() -> None:
    patience, ledger = Patience(), Ledger()
    pauses = [patience.pause(death, ledger.enter(death)) for death in [crash(portion(5, 9))] * 4]
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    further = crash(portion(6, 9))
    assert patience.pause(further, ledger.enter(further)) == 0.1
    assert [patience.pause(further, False) for _ in range(8)][-3:] == [5.0, 5.0, 5.0]
    assert patience.pause(crash(lived=100), False) == 0.1
    assert all(patience.pause(further, False) for _ in range(8))
    assert patience.pause(further, False) is None


@pytest.mark.parametrize("code", [1, 2])
def test_what_the_worker_said_is_final(code: int) -> None:
    assert Patience().pause(Death(code, 100.0, (portion(1, 1),), True), True) is None


def test_notes_come_back() -> None:
    notes = Notes.create()
    theirs = Notes(os.dup(notes.fd))
    assert (theirs.orders(), notes.last()) == (NOTHING, ((), False))
    orders = Orders({SOURCE: 9, ("a b", 3): 1}, frozenset({(SOURCE, 7), (SOURCE, 8)}))
    notes.restart(orders)
    assert theirs.orders() == orders
    batch = (portion(1, 2), Portion("a b", 2, 3, 9, 4))
    theirs.begin(batch)
    assert notes.last() == (batch, True)
    theirs.end()
    assert notes.last() == (batch, False)
    theirs.begin([portion(n, 1, n) for n in range(100_000)])
    assert notes.last() == ((), True)
    notes.restart(NOTHING)
    assert theirs.orders() == NOTHING
    assert notes.last() == ((), False)
    theirs.close()
    notes.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_record_that_kills_in_the_second_stage(tmp_path: Path, workers: int) -> None:
    """What the first stage has handed on is known by its place in the second one's topic; no other record is lost."""
    pipeline, expected = poisoned_chain(tmp_path)
    done = start(
        "run", pipeline, "--log", f"file:{tmp_path}/log", "--until-end", "--workers", workers, "--log-level", "error"
    )
    _, err = done.communicate(timeout=200)
    assert done.returncode == 0, err
    seen = deaths(err)
    assert len(seen) == restarts._CRASHES_MAX + 1
    assert seen[-1]["computing"][0].startswith("chain.cards[")
    told = finish("tail", "dead_letters", *shared(pipeline), "--until-end")
    assert told.code == 0, told.err
    crashed = [letter for letter in map(json.loads, told.lines) if letter["reason"] == "crashed_worker"]
    assert [letter["topic"] for letter in crashed] == ["chain.cards"]
    found = decided(pipeline, f"file:{tmp_path}/log")
    assert Counter(row["payment_id"] for row in found) == Counter(row["payment_id"] for row in expected)
    if workers == 1:
        assert in_order(found) == in_order(expected)


def poisoned_chain(folder: Path) -> tuple[Path, list[Row]]:
    """A pipeline of two stages, fed with a payment that kills in the second; what a backtest says of all others."""
    given = rows(300)
    given.insert(140, {**given[140], "Payment": "abort", "Shop": "poisoned", "Card": 99, "Amount": 1.0})
    file, safe = ndjson(folder / "a.ndjson", given), chain(folder, name="safe")
    expected = backtested(safe, [file], folder / "expected.parquet")
    (folder / "ops.py").write_text(OPERATOR.replace('"card")', '"shop")') + '\n\nMARK = ""\n')
    declared = 'operators:\n  fragile: {operator: "./ops.py:Fragile"}\nrules:\n'
    pipeline = chain(folder, ("rules:\n", declared), ("shop_day_count >= 8", "shop_day_count >= 8 and fragile = 1"))
    assert finish("feed", "payments", file, *shared(pipeline)).code == 0
    return pipeline, [row for row in expected if row["payment_id"] != "abort"]
