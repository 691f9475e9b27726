"""Every kind of bad record through the whole worker: one dead letter each, neighbours right, nothing restarts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from operators.plan import Plan
from state.hashing import partition_of
from streamproc.cli.compose import RunOptions, open_log, run_worker
from streamproc.eventlog.contract import EventLog, OutputRecords, TopicPartition
from streamproc.language import compile_pipeline, read_pipeline
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics

SECRET_NUMBER = "4111111111111111"
PIPELINE = """
pipeline: %(name)s
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1h
    fields: {id: string, card: string, amount: decimal(2), at: timestamp, note: string}
partitions: 1
partition_by: card
features:
  n_1h: {count: "*", over: 1h}
rules:
  - {id: burst, when: n_1h >= 1000, then: decline}
decision: {severity: [decline, approve], otherwise: approve, include: [n_1h]}
"""


def good(number: int) -> bytes:
    return json.dumps({"id": f"g{number}", "card": "c1", "amount": 1.5, "at": 1_600_000_000_000 + number}).encode()


def altered(**changes: Any) -> bytes:
    fields = {"id": "bad", "card": "c1", "amount": 1.5, "at": 1_600_000_000_000} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


BAD: list[tuple[bytes | None, set[str]]] = [
    (b'{"a":1,"z":[{}', {"broken_json"}),
    (b"{}]}", {"broken_json", "missing_id"}),
    (b'{"a":2},{"a":3}', {"broken_json"}),
    (SECRET_NUMBER.encode(), {"wrong_type"}),
    (b"", {"tombstone"}),
    (None, {"tombstone"}),
    (b"\xff\xfe", {"broken_json"}),
    (altered(card=...), {"missing_key"}),
    (altered(card=None), {"missing_key"}),
    (altered(id=...), {"missing_id"}),
    (altered(at=...), {"missing_time"}),
    (altered(amount="much"), {"wrong_type"}),
    (altered(amount=[1]), {"wrong_type"}),
    (altered(card=5), {"wrong_type"}),
    (altered(amount=1.005), {"decimal_places"}),
    (b'{"id":"n","card":"c1","amount":NaN,"at":1600000000000}', {"broken_json"}),
    (b'{"id":"n","card":"c1","amount":Infinity,"at":1600000000000}', {"broken_json"}),
    (b'{"id":"n","card":"c1","amount":1e999,"at":1600000000000}', {"out_of_range", "broken_json", "overflow"}),
    (altered(at="yesterday"), {"wrong_type", "bad_time"}),
    (altered(at=32_503_680_000_000), {"future_time"}),
    (altered(at=-5), {"bad_time"}),
    (b'{"id":"d","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", {"too_deep", "broken_json"}),
    (altered(note="x" * 900_000), {"too_large"}),
]


async def append(log: EventLog, plan: Plan, values: list[bytes | None]) -> None:
    await prepare_topics(log, plan)
    appender = log.appender()
    tp = TopicPartition(plan.stream.topic, 0)
    for value in values:
        await appender.append([OutputRecords(tp, [b"c1"], [value], time.time_ns() // 1_000_000)])
    await appender.close()


async def committed(log: EventLog, topic: str) -> list[dict[str, Any]]:
    tp = TopicPartition(topic, 0)
    end = (await log.admin().end_offsets([tp]))[tp]
    scanner = log.scanner()
    scanner.seek(tp, 0)
    out: list[dict[str, Any]] = []
    while scanner.position(tp) < end:
        out += [json.loads(value or b"") for chunk in await scanner.poll(50) for value in chunk.values]
    await scanner.close()
    return out


async def check_bad_input(url: str, tmp_path: Path) -> None:
    name = f"bad_{time.time_ns()}"
    plan = compile_pipeline(read_pipeline(PIPELINE % {"name": name}, "bad.yaml"))
    values: list[bytes | None] = [good(0)]
    for number, (value, _) in enumerate(BAD, 1):
        values += [value, good(number)]
    log = open_log(url)
    try:
        await append(log, plan, values)
        await run_worker([plan], RunOptions(url, tmp_path / "state"), WorkerSettings(until_end=True))
        decisions = await committed(log, plan.topics.decisions)
        letters = await committed(log, plan.topics.dead_letters)
    finally:
        await log.close()
    assert [d["id"] for d in decisions] == [f"g{number}" for number in range(len(BAD) + 1)]
    assert [d["n_1h"] for d in decisions] == list(range(1, len(BAD) + 2))
    by_offset = {letter["offset"]: letter["reason"] for letter in letters}
    assert len(by_offset) == len(letters) == len(BAD)
    for (value, reasons), offset in zip(BAD, sorted(by_offset), strict=True):
        assert by_offset[offset] in reasons, (value or b"")[:60]
    text = json.dumps(letters)
    assert SECRET_NUMBER not in text
    assert "much" not in text
    assert len({letter["digest"] for letter in letters}) >= len(BAD) - 1


@pytest.mark.blocking
async def test_on_the_embedded_log(tmp_path: Path) -> None:
    await check_bad_input(f"file:{tmp_path / 'log'}", tmp_path)


@pytest.mark.kafka
@pytest.mark.blocking
async def test_on_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    await check_bad_input(f"kafka://{kafka_bootstrap}", tmp_path)


def test_keys_in_the_wrong_partition_are_refused_and_neighbours_decided(tmp_path: Path) -> None:
    """A producer with another partitioner must not spread a card over two tasks."""
    import asyncio

    async def scenario() -> None:
        text = PIPELINE % {"name": "astray"}
        plan = compile_pipeline(read_pipeline(text.replace("partitions: 1", "partitions: 2"), "bad.yaml"))
        url = f"file:{tmp_path / 'log'}"
        log = open_log(url)
        home = partition_of(b"c1", 2)
        await prepare_topics(log, plan)
        appender = log.appender()
        for partition, number in ((home, 0), (1 - home, 1), (home, 2)):
            tp = TopicPartition(plan.stream.topic, partition)
            await appender.append([OutputRecords(tp, [b"c1"], [good(number)], 1_700_000_000_000)])
        await appender.close()
        await run_worker([plan], RunOptions(url, tmp_path / "state"), WorkerSettings(until_end=True))
        counts = await asyncio.gather(
            *(log.admin().end_offsets([TopicPartition(topic, p)]) for p in (0, 1)
              for topic in (plan.topics.decisions, plan.topics.dead_letters))
        )  # fmt: skip
        await log.close()
        assert {tp: end for count in counts for tp, end in count.items()} == {
            TopicPartition(plan.topics.decisions, home): 2,
            TopicPartition(plan.topics.decisions, 1 - home): 0,
            TopicPartition(plan.topics.dead_letters, home): 0,
            TopicPartition(plan.topics.dead_letters, 1 - home): 1,
        }

    asyncio.run(scenario())


def test_card_numbers_need_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "pan.yaml"
    text = (PIPELINE % {"name": "pan"}).replace("card: string", "card: {type: string, pan: true}")
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "streamproc.cli.main", "run", str(path), "--log", f"file:{tmp_path / 'log'}"],
        capture_output=True, text=True, check=False, timeout=60, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "STREAMPROC_SECRET" in done.stderr
