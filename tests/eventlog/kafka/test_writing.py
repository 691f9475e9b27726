"""Transactions on a real broker: what is fenced, dropped, refused and published."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiokafka import errors as theirs

from state.errors import EventLogError, FencedError, TaskMigratedError
from streamproc.eventlog.contract import CommittedOffset, OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.kafka import KafkaLog
from tests.eventlog.kafka.kit import append, join, opened, read, read_values, records, transact, unique

pytestmark = pytest.mark.kafka

SOON_S = 4.0  # well below transaction_timeout_ms, after which the broker would abort by itself


async def test_several_topics_and_offsets_in_one_transaction(log: KafkaLog, topic: str) -> None:
    outputs = [unique("decisions"), unique("journal")]
    await log.admin().ensure_topics([TopicSpec(name, 2) for name in outputs])
    tps = [TopicPartition(name, number) for name in outputs for number in (0, 1)]
    group = unique("group")
    reader, told = await join(log, group, [topic])
    writer = await opened(log, group)
    await writer.begin()
    await writer.append([records(tp, b"a", b"b", headers=[[("h", b"1")], []]) for tp in tps])
    offsets = {
        TopicPartition(topic, 0): CommittedOffset(7, "journal 3"),
        TopicPartition(topic, 1): CommittedOffset(9, ""),
    }
    await writer.offsets(offsets, told.member)
    assert await writer.delivered() == dict.fromkeys(tps, 1)
    await writer.commit()
    chunks = await read(log, *tps)
    assert {chunk.tp: (chunk.values, chunk.headers) for chunk in chunks} == {
        tp: ([b"a", b"b"], [[("h", b"1")], []]) for tp in tps
    }
    assert await reader.committed(list(offsets)) == offsets
    assert await log.admin().committed(group, list(offsets)) == offsets
    await writer.abandon()
    await reader.close(leave=True)


async def reached(bootstrap: str, tp: TopicPartition, end: int) -> bool:
    """Whether the broker has so many records soon, committed or not."""
    other, found = KafkaLog(bootstrap), 0
    for _ in range(100):
        found = (await other.admin().end_offsets([tp]))[tp]
        if found == end:
            break
        await asyncio.sleep(SOON_S / 100)
    await other.close()
    return found == end


async def test_appended_records_have_left(kafka_bootstrap: str, log: KafkaLog, tp: TopicPartition) -> None:
    """Whoever has awaited `append` may stand still: the broker gets the records all the same."""
    writer = await opened(log, unique("tx"))
    await writer.begin()
    with ThreadPoolExecutor(1) as elsewhere:
        await writer.append([records(tp, b"a", b"b")])
        assert elsewhere.submit(asyncio.run, reached(kafka_bootstrap, tp, 2)).result(), "the loop stands still here"
    await writer.append([])
    await writer.append([OutputRecords(tp, [], [], 0)])
    assert await writer.delivered() == {tp: 1}
    await writer.commit()
    await writer.abandon()


async def test_back_to_back_transactions_are_in_order(log: KafkaLog, tp: TopicPartition) -> None:
    writer = await opened(log, unique("tx"))
    for number in range(20):
        assert await transact(writer, records(tp, b"%d" % number)) == {tp: 2 * number}  # a marker after each
    await writer.abandon()
    assert await read_values(log, tp) == [b"%d" % number for number in range(20)]


async def test_a_membership_that_is_over_is_refused(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    output = TopicPartition(unique("out"), 0)
    await log.admin().ensure_topics([TopicSpec(output.topic, 1)])
    reader, told = await join(log, unique("group"), [topic])
    old = told.member._replace(generation=told.member.generation - 1)  # type: ignore[attr-defined]
    expired = told.member._replace(member_id="nobody", instance="nobody")  # type: ignore[attr-defined]
    replaced = told.member._replace(member_id="nobody")  # type: ignore[attr-defined]
    kinds = {old: TaskMigratedError, expired: TaskMigratedError, replaced: FencedError}
    for number, (membership, kind) in enumerate(kinds.items()):
        writer = await opened(log, unique("tx"))
        await writer.begin()
        await writer.append([records(output, b"zombie %d" % number)])
        with pytest.raises(kind, match="MembershipOverError" if kind is TaskMigratedError else "FencedInstance"):
            await writer.offsets({tp: CommittedOffset(1, "")}, membership)
        with pytest.raises(EventLogError, match="has failed"):
            await writer.commit()
        await writer.abort()
        await writer.abandon()
    assert await read_values(log, output, timeout_s=SOON_S) == []
    assert await reader.committed([tp]) == {}
    await reader.close(leave=True)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_transaction_whose_time_is_over_fences_nobody(
    kafka_bootstrap: str, topic: str, tp: TopicPartition, replaced: bool
) -> None:
    """The broker ends it by a new epoch, as a newer owner does: the group knows which it was."""
    log = KafkaLog(kafka_bootstrap, transaction_timeout_ms=1_000)
    output = TopicPartition(unique("out"), 0)
    await log.admin().ensure_topics([TopicSpec(output.topic, 1)])
    group, name = unique("group"), unique("tx")
    reader, told = await join(log, group, [topic])
    writer = await opened(log, name)
    await writer.begin()
    await writer.append([records(output, b"too late")])
    await writer.offsets({tp: CommittedOffset(1, "")}, told.member)
    await writer.delivered()
    await asyncio.sleep(3)  # its time-out, and the broker's next look
    heir = (await join(log, group, [topic]))[0] if replaced else None
    with pytest.raises(EventLogError) as failed:
        await writer.commit()
    assert isinstance(failed.value, FencedError) is replaced
    assert failed.value.retriable is not replaced
    await writer.abandon()
    assert await read_values(log, output) == []
    if not replaced:
        writer = await opened(log, name)
        await writer.begin()
        await writer.offsets({tp: CommittedOffset(2, "")}, told.member)
        await writer.commit()
        await writer.abandon()
        assert await reader.committed([tp]) == {tp: CommittedOffset(2, "")}
    for each in filter(None, (heir, reader)):
        await each.close(leave=True)
    await log.close()


async def test_no_membership_no_offsets(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    """(-1, "") would be taken by the broker, unfenced."""
    reader, told = await join(log, unique("group"), [topic])
    nobody = told.member._replace(generation=-1, member_id="")  # type: ignore[attr-defined]
    writer = await opened(log, unique("tx"))
    await writer.begin()
    with pytest.raises(TaskMigratedError):
        await writer.offsets({tp: CommittedOffset(1, "")}, nobody)
    await writer.abandon()
    await reader.close(leave=True)


async def test_a_zombie_of_an_older_epoch_is_fenced(log: KafkaLog, tp: TopicPartition) -> None:
    name = unique("tx")
    zombie = await opened(log, name)
    await zombie.begin()
    await zombie.append([records(tp, b"zombie")])
    await zombie.delivered()
    successor = await opened(log, name)
    with pytest.raises(FencedError):
        await zombie.commit()
    with pytest.raises(EventLogError):
        await zombie.begin()
    await zombie.abandon()
    await transact(successor, records(tp, b"healthy"))
    await successor.abandon()
    assert await read_values(log, tp) == [b"healthy"]


async def test_a_zombie_cannot_append_either(log: KafkaLog, tp: TopicPartition) -> None:
    name = unique("tx")
    zombie = await opened(log, name)
    successor = await opened(log, name)
    await zombie.begin()
    await zombie.append([records(tp, b"zombie")])
    with pytest.raises(FencedError):
        await zombie.commit()
    await zombie.abandon()
    await successor.abandon()
    assert await read_values(log, tp) == []


async def test_an_orphan_is_aborted_by_the_next_owner(log: KafkaLog, tp: TopicPartition) -> None:
    name = unique("tx")
    orphan = await opened(log, name)
    await orphan.begin()
    await orphan.append([records(tp, b"orphan")])
    await orphan.delivered()
    await orphan.abandon()
    await append(log, records(tp, b"behind it"))
    owner = await opened(log, name)
    assert await read_values(log, tp, timeout_s=SOON_S) == [b"behind it"]
    await owner.abandon()


async def test_an_abort_after_an_error_really_aborts(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    """aiokafka alone sends no EndTxn here: readers would stand until the transaction's time-out."""
    reader, told = await join(log, unique("group"), [topic])
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.append([records(tp, b"dropped")])
    await writer.delivered()
    bogus = told.member._replace(generation=99)  # type: ignore[attr-defined]
    with pytest.raises(TaskMigratedError):
        await writer.offsets({tp: CommittedOffset(1, "")}, bogus)
    await writer.abort()
    assert await read_values(log, tp, timeout_s=SOON_S) == []
    with pytest.raises(EventLogError, match="has failed"):
        await writer.begin()
    await writer.abandon()
    await reader.close(leave=True)


async def test_an_abort_leaves_the_writer_usable(log: KafkaLog, tp: TopicPartition) -> None:
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.append([records(tp, b"dropped")])
    await writer.abort()
    await transact(writer, records(tp, b"kept"))
    await writer.abandon()
    assert await read_values(log, tp) == [b"kept"]


@pytest.mark.parametrize("error", [theirs.RequestTimedOutError, theirs.KafkaConnectionError])
@pytest.mark.parametrize("api_key", [26, 28])
async def test_what_was_not_answered_is_not_sent_again(
    log: KafkaLog, topic: str, tp: TopicPartition, api_key: int, error: type[theirs.KafkaError]
) -> None:
    """The end of a transaction, and offsets: sent twice, the first of them may come in the midst of the next one."""
    reader, told = await join(log, unique("group"), [topic])
    writer = await opened(log, unique("tx"))
    assert writer._producer is not None
    client, sent = writer._producer.client, 0
    send = client.send

    async def unanswered(node: Any, request: Any, **options: Any) -> Any:
        nonlocal sent
        if api_key != request.API_KEY:
            return await send(node, request, **options)
        sent += 1
        raise error

    client.send = unanswered
    await writer.begin()
    await writer.append([records(tp, b"x")])

    async def end() -> None:
        await writer.offsets({tp: CommittedOffset(1, "")}, told.member)
        await writer.commit()

    with pytest.raises(EventLogError) as caught:
        await end()
    assert caught.value.retriable
    await asyncio.sleep(0.3)
    assert sent == 1
    await writer.abandon()
    await reader.close(leave=True)


async def test_a_refused_record_surfaces_and_nothing_is_published(log: KafkaLog) -> None:
    small, usual = TopicPartition(unique("small"), 0), TopicPartition(unique("usual"), 0)
    await log.admin().ensure_topics(
        [TopicSpec(small.topic, 1, {"max.message.bytes": "1000"}), TopicSpec(usual.topic, 1)]
    )  # fmt: skip
    for ask_first in (True, False):
        writer = await opened(log, unique("tx"))
        await writer.begin()
        await writer.append([records(small, b"x" * 5000), records(usual, b"beside it")])
        with pytest.raises(
            EventLogError, match=f"{small.topic}/0: MESSAGE_SIZE_TOO_LARGE.*max.message.bytes"
        ) as caught:
            await (writer.delivered() if ask_first else writer.commit())
        assert not caught.value.retriable
        with pytest.raises(EventLogError, match="has failed"):
            await writer.commit()
        await writer.abort()
        await writer.abandon()
    assert await read_values(log, small, usual, timeout_s=SOON_S) == []


async def test_a_big_append_is_cut_into_batches(log: KafkaLog, tp: TopicPartition) -> None:
    values = [b"%06d" % number * 100 for number in range(5_000)]  # 3 MB
    writer = await opened(log, unique("tx"))
    assert await transact(writer, records(tp, *values)) == {tp: 4_999}
    await writer.abandon()
    assert await read_values(log, tp) == values


async def test_a_record_above_the_batch_size_travels_alone(log: KafkaLog) -> None:
    tp = TopicPartition(unique("big"), 0)
    await log.admin().ensure_topics([TopicSpec(tp.topic, 1, {"max.message.bytes": "4000000"})])
    big = b"x" * 2_000_000
    await append(log, records(tp, b"before", big, b"after"))
    assert await read_values(log, tp) == [b"before", big, b"after"]


async def test_a_topic_that_does_not_exist_is_not_made(log: KafkaLog) -> None:
    name = unique("missing")
    writer = await opened(log, unique("tx"))
    await writer.begin()
    with pytest.raises(EventLogError, match=f"no topic {name}"):
        await writer.append([records(TopicPartition(name, 0), b"v")])
    await writer.abandon()
    assert await log.admin().partitions(name) == 0


async def test_a_partition_that_does_not_exist(log: KafkaLog, topic: str) -> None:
    writer = await opened(log, unique("tx"))
    await writer.begin()
    with pytest.raises(EventLogError, match="no partition 7"):
        await writer.append([records(TopicPartition(topic, 7), b"v")])
    await writer.abandon()


async def test_a_commit_after_abandon_does_nothing(log: KafkaLog, tp: TopicPartition) -> None:
    name = unique("tx")
    writer = await opened(log, name)
    await writer.begin()
    await writer.append([records(tp, b"late")])
    await writer.delivered()
    await writer.abandon()
    for call in (writer.commit, writer.abort, writer.begin, writer.delivered):
        with pytest.raises(EventLogError):
            await call()
    await (await opened(log, name)).abandon()
    assert await read_values(log, tp, timeout_s=SOON_S) == []


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30])
async def test_abandon_ends_a_commit_under_way(log: KafkaLog, tp: TopicPartition, turns: int) -> None:
    """Whatever the broker had heard by then: all or nothing, and settled by the next owner."""
    name = unique("tx")
    writer = await opened(log, name)
    await writer.begin()
    await writer.append([records(tp, b"a", b"b")])
    commit = asyncio.create_task(writer.commit())
    for _ in range(turns):
        await asyncio.sleep(0)
    await writer.abandon()
    (outcome,) = await asyncio.gather(commit, return_exceptions=True)
    assert outcome is None or isinstance(outcome, EventLogError)
    await (await opened(log, name)).abandon()
    allowed: list[list[bytes | None]] = ([[]] if outcome is not None else []) + [[b"a", b"b"]]
    assert await read_values(log, tp, timeout_s=SOON_S) in allowed


async def test_abandon_never_raises(log: KafkaLog) -> None:
    await log.writer("never-opened").abandon()
    writer = await opened(log, unique("tx"))
    await writer.abandon()
    await writer.abandon()


async def test_a_cancelled_call_breaks_the_writer(log: KafkaLog, tp: TopicPartition) -> None:
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.append([records(tp, b"v")])
    commit = asyncio.create_task(writer.commit())
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    with pytest.raises(EventLogError, match="has failed"):
        await writer.begin()
    await writer.abandon()


@pytest.mark.parametrize("end", ["cancelled", "abandoned"])
async def test_an_append_that_is_broken_off_breaks_the_writer(
    log: KafkaLog, tp: TopicPartition, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    writer = await opened(log, unique("tx"))
    assert writer._producer is not None
    begun = asyncio.Event()

    async def goes_on(*_: object) -> None:
        begun.set()
        await asyncio.sleep(60)

    if end == "abandoned":
        monkeypatch.setattr(writer._producer.sender, "_do_add_partitions_to_txn", goes_on)  # nothing may leave before
    else:
        monkeypatch.setattr("streamproc.eventlog.kafka.writer._until_written", goes_on)
    await writer.begin()
    append = asyncio.create_task(writer.append([records(tp, b"v")]))
    await begun.wait()
    if end == "cancelled":
        append.cancel()
    else:
        await writer.abandon()
    await asyncio.gather(append, return_exceptions=True)
    for call in (writer.begin, writer.delivered, writer.commit):
        with pytest.raises(EventLogError, match="has failed"):
            await call()
    await writer.abandon()


async def test_appends_under_way_together_keep_their_order(log: KafkaLog, tp: TopicPartition) -> None:
    appender = log.appender()
    await asyncio.gather(*(appender.append([records(tp, b"%d" % number)]) for number in range(50)))
    await appender.close()
    assert await read_values(log, tp) == [b"%d" % number for number in range(50)]
    with pytest.raises(EventLogError, match="closed"):
        await appender.append([records(tp, b"late")])
