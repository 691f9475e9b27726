"""MATCH_RECOGNIZE beside Flink: one statement, input, broker and core; Kafka to Kafka, exactly once, in turns.

    make flink-jars
    python -m benchmarks.flink_match [--events 2000000] [--repeats 2] [--checkpoints 10]

Three failed logins or more, a success, an address change and a purchase over 1,000, as neighbouring rows of a user. Of
20,000 users; 5 % of the rows are of an account, the others are purchases; a sequence is planted once in 1,000 rows.
Both run the statement to the end of one partition. Events/s: between the first and the last match, by the times at
which the broker stamped them (LogAppendTime) and the numbers of the events that ended them, so no start is in it; and
of the second half alone, when the JVM is warm. What each found is compared with a regular expression over each user's
rows. Flink: parallelism 1, state on the heap, objects reused, checkpoints as said (0: none, at least once).
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.job import EPOCH_MS
from benchmarks.machine import facts
from benchmarks.world import World, fresh, world
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec

FLINK = Path(__file__).parent / "anchors" / "flink"
JARS = Path(__file__).parents[1] / ".flink" / "lib"
USERS, SHARE, PLANTED, WITHIN_MS = 20_000, 0.05, 1_000, 600_000
KINDS = ("pay", "failed", "ok", "change")
_PAY, _FAILED, _OK, _CHANGE = range(4)
_LARGE = 100_000
_PRELOAD = 2_000
_OPENED = [f"--add-opens=java.base/java.{one}=ALL-UNNAMED" for one in ("lang", "util", "util.concurrent", "net", "nio")]

STATEMENT = """\
SELECT user_id, first_n, last_n, failures
FROM events MATCH_RECOGNIZE (
  PARTITION BY user_id ORDER BY event_time
  MEASURES FIRST(A.n) AS first_n, D.n AS last_n, COUNT(A.n) AS failures
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A{3,} B C D) WITHIN INTERVAL '10' MINUTE
  DEFINE A AS kind = 'failed', B AS kind = 'ok', C AS kind = 'change', D AS kind = 'pay' AND amount > 1000
) AS m"""
PIPELINE = """\
pipeline: %(name)s
streams:
  events:
    id: n
    event_time: event_time
    topic: %(source)s
    fields: {n: int64, user_id: string, kind: string, amount: float64, event_time: {type: timestamp, from: ts}}
partition_by: user_id
partitions: 1
sql:
  takeovers:
    topic: %(sink)s
    statement: |
%(statement)s
"""
SCRIPT = """\
SET 'parallelism.default' = '1';
SET 'pipeline.object-reuse' = 'true';
SET 'state.backend.type' = 'hashmap';
SET 'restart-strategy.type' = 'none';
SET 'table.local-time-zone' = 'UTC';
%(checkpoints)s
CREATE TABLE events (
  n BIGINT, user_id STRING, kind STRING, amount DOUBLE, ts BIGINT,
  event_time AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR event_time AS event_time
) WITH (
  'connector' = 'kafka', 'topic' = '%(source)s', 'properties.bootstrap.servers' = '%(broker)s',
  'properties.group.id' = '%(name)s', 'format' = 'json',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'
);
CREATE TABLE takeovers (user_id STRING, first_n BIGINT, last_n BIGINT, failures BIGINT) WITH (
  'connector' = 'kafka', 'topic' = '%(sink)s', 'properties.bootstrap.servers' = '%(broker)s', 'format' = 'json',
  'properties.transaction.timeout.ms' = '600000', %(guarantee)s
);
INSERT INTO takeovers %(statement)s;
"""
_CHECKPOINTS = """\
SET 'execution.checkpointing.interval' = '%g s';
SET 'execution.checkpointing.mode' = 'EXACTLY_ONCE';
SET 'execution.checkpointing.dir' = 'file://%s';
"""

Result = dict[str, Any]
Found = tuple[str, int, int, int]
"""User, numbers of the first and the last event, failed logins."""


class Events(NamedTuple):
    """Event i is of user `users[i]`, at `EPOCH_MS` + i."""

    users: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]
    cents: npt.NDArray[np.int64]

    def texts(self, begin: int, end: int) -> list[bytes]:
        """The records' JSON."""
        part = slice(begin, end)
        rows = zip(self.users[part].tolist(), self.kinds[part].tolist(), self.cents[part].tolist(), strict=True)
        return [
            b'{"n":%d,"user_id":"u%07d","kind":"%b","amount":%.2f,"ts":%d}'
            % (begin + i, user, KINDS[kind].encode(), cents / 100, EPOCH_MS + begin + i)
            for i, (user, kind, cents) in enumerate(rows)
        ]


def drawn(count: int, seed: int = 1) -> Events:
    """The same events for the same arguments."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, USERS, count)
    kinds = np.where(rng.random(count) < SHARE, rng.integers(_FAILED, len(KINDS), count), _PAY)
    cents = rng.integers(100, 2 * _LARGE, count)
    order = np.argsort(users, kind="stable")
    for at in rng.integers(0, max(count - 8, 1), count // PLANTED).tolist():
        sequence = [_FAILED] * int(rng.integers(3, 6)) + [_OK, _CHANGE, _PAY]
        rows = order[at : at + len(sequence)]
        if len(rows) == len(sequence) and (users[rows] == users[rows[0]]).all():
            kinds[rows], cents[rows[-1]] = sequence, _LARGE + 1
    return Events(users, kinds, cents)


def expected(events: Events) -> list[Found]:
    """What is to be found, by a regular expression over the rows of all users, one user after the other."""
    order = np.argsort(events.users, kind="stable")
    users, kinds = events.users[order], events.kinds[order]
    letters = np.frombuffer(b".ABC", np.uint8)[kinds]
    letters = np.where((kinds == _PAY) & (events.cents[order] > _LARGE), np.uint8(ord("D")), letters)
    found = []
    for match in re.finditer(rb"A{3,}BCD", letters.tobytes()):
        last = match.end() - 1
        rows = range(match.start(), last + 1)
        mine = [row for row in rows if users[row] == users[last] and order[last] - order[row] < WITHIN_MS]
        if len(mine) >= 6:
            found.append((f"u{users[last]:07d}", int(order[mine[0]]), int(order[last]), len(mine) - 3))
    return sorted(found)


# ---- Kafka


def load(url: str, topic: str, events: Events) -> None:
    """All events into a topic of one partition."""

    async def work() -> None:
        log = open_log(url)
        await log.admin().ensure_topics([TopicSpec(topic, 1)])
        appender, count = log.appender(), len(events.users)
        for begin in range(0, count, _PRELOAD):
            values = events.texts(begin, min(begin + _PRELOAD, count))
            keys = [b"u%07d" % user for user in events.users[begin : begin + _PRELOAD].tolist()]
            now = time.time_ns() // 1_000_000
            await appender.append([OutputRecords(TopicPartition(topic, 0), keys, values, now)])
        await appender.close()
        await log.close()

    run_async(work())


def make(url: str, topic: str) -> None:
    """A topic of one partition, whose records the broker stamps when they are written."""

    async def work() -> None:
        log = open_log(url)
        await log.admin().ensure_topics([TopicSpec(topic, 1, {"message.timestamp.type": "LogAppendTime"})])
        await log.close()

    run_async(work())


def committed(url: str, topic: str) -> list[tuple[int, Found]]:
    """What a topic holds, each with the broker's time, ms."""

    async def work() -> list[tuple[int, Found]]:
        log, tp = open_log(url), TopicPartition(topic, 0)
        scanner, found = log.scanner(), list[tuple[int, Found]]()
        scanner.seek(tp, 0)
        end = (await log.admin().end_offsets([tp]))[tp]
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(200):
                for stamp, value in zip(chunk.timestamps, chunk.values, strict=True):
                    row = msgspec.json.decode(value or b"{}")
                    found.append((stamp, (row["user_id"], row["first_n"], row["last_n"], row["failures"])))
        await scanner.close()
        await log.close()
        return found

    return run_async(work())


# ---- engines


def streamproc(on: World, source: str, sink: str, name: str) -> list[str]:
    """The command that runs the statement as an entry of a pipeline."""
    path = on.directory / f"{name}.yaml"
    statement = "".join(f"      {line}\n" for line in STATEMENT.splitlines())
    path.write_text(PIPELINE % {"name": name, "source": source, "sink": sink, "statement": statement})
    return [
        sys.executable, "-m", "streamproc.cli.main", "run", str(path), "--log", on.url("kafka"),
        "--state", str(on.directory / f"{name}-state"), "--instance", name, "--until-end", "--log-level", "warning",
    ]  # fmt: skip


def flink(on: World, source: str, sink: str, name: str, checkpoints: float) -> list[str]:
    """The command that runs the statement in one JVM."""
    assert on.broker is not None
    script = on.directory / f"{name}.sql"
    exactly = f"'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{name}'"
    values = {
        "name": name, "source": source, "sink": sink, "broker": on.broker.bootstrap, "statement": STATEMENT,
        "checkpoints": _CHECKPOINTS % (checkpoints, on.directory / f"{name}-checkpoints") if checkpoints else "",
        "guarantee": exactly if checkpoints else "'sink.delivery-guarantee' = 'at-least-once'",
    }  # fmt: skip
    script.write_text(SCRIPT % values)
    return [
        "java", "-Xmx2g", *_OPENED, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*",
        str(FLINK / "RunSql.java"), str(script),
    ]  # fmt: skip


def measured(on: World, engine: str, command: list[str], sink: str, wanted: Sequence[Found]) -> Result:
    """One run to the end, alone on the worker's core."""
    url, log = on.url("kafka"), on.directory / f"{sink}.log"
    make(url, sink)
    begun, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as output:
        done = subprocess.run(
            ["taskset", "-c", str(on.cores.worker), *command],
            check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=600,
        )  # fmt: skip
    seconds, after = time.time() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{log.read_text()[-3000:]}")
    said = committed(url, sink)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = sorted(one for _, one in said)
    wrong = len(set(found) ^ set(wanted)) + len(found) - len(set(found))
    return {
        "engine": engine,
        **rates(said),
        "whole_run_s": seconds,
        "cpu_s": cpu,
        "matches": len(found),
        "wrong": wrong,
    }


def rates(said: Sequence[tuple[int, Found]]) -> Result:
    """Events/s from the first match to the last, and of the second half alone."""
    reached: dict[int, int] = {}
    for stamp, (_, _, last, _) in said:
        reached[stamp] = max(reached.get(stamp, 0), last)
    points = sorted(reached.items())
    if len(points) < 3:
        return {"events_per_s": 0.0, "second_half_per_s": 0.0}
    (begin, first), (end, last) = points[0], points[-1]
    half, middle = next((stamp, event) for stamp, event in points if event >= last / 2 or stamp == points[-2][0])
    return {
        "events_per_s": (last - first) / (end - begin) * 1e3,
        "second_half_per_s": (last - middle) / (end - half) * 1e3,
    }


def run(on: World, count: int, repeats: int, checkpoints: float) -> list[Result]:
    """Both engines, in turns, on the input that is loaded once."""
    events, source = drawn(count), fresh("account-events")
    wanted = expected(events)
    load(on.url("kafka"), source, events)
    found = []
    for _ in range(repeats):
        for engine in ("flink", "streamproc"):
            name = fresh(engine)
            sink = f"{name}-takeovers"
            ours = engine == "streamproc"
            command = streamproc(on, source, sink, name) if ours else flink(on, source, sink, name, checkpoints)
            found.append(measured(on, engine, command, sink, wanted))
            print(json.dumps(found[-1]), flush=True)
    return found


def ratios(found: Sequence[Result]) -> Result:
    """Ours over theirs, of medians."""
    out = {}
    for figure in ("events_per_s", "second_half_per_s"):
        ours, theirs = (
            median(one[figure] for one in found if one["engine"] == engine) for engine in ("streamproc", "flink")
        )
        out[figure] = round(ours / theirs, 2) if theirs else None
    return {"streamproc / flink": out, "wrong": sum(one["wrong"] for one in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description="MATCH_RECOGNIZE beside Flink.")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--checkpoints", type=float, default=10.0, help="seconds between Flink's; 0: none")
    chosen = parser.parse_args()
    if not JARS.exists() or shutil.which("java") is None:
        raise SystemExit("Flink's jars, or Java, are missing: make flink-jars (JDK 17)")
    print(json.dumps(facts()))
    with world(kafka=True) as on:
        print(json.dumps(ratios(run(on, chosen.events, chosen.repeats, chosen.checkpoints))))


if __name__ == "__main__":
    main()
