"""Transactions: what is committed is seen, in order and together; nothing else ever is."""

from __future__ import annotations

import msgspec
import pytest

from state.errors import EventLogError, FencedError, TaskMigratedError
from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from tests.eventlog.clients import TIME_MS, Clients, flat, nothing, out, records, transact, until


async def test_committed_records_are_read_in_order(clients: Clients) -> None:
    topic = await clients.topic("out", 2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    writer = await clients.writer()
    for n in range(5):
        await transact(writer, out(zero, b"%d" % (2 * n), b"%d" % (2 * n + 1)), out(one, b"x%d" % n))
    chunks = await records(clients.scanner(zero, one), 15)
    assert flat(chunks, zero) == [b"%d" % n for n in range(10)]
    assert flat(chunks, one) == [b"x%d" % n for n in range(5)]
    for tp in (zero, one):
        offsets = [offset for chunk in chunks if chunk.tp == tp for offset in chunk.offsets]
        assert offsets == sorted(set(offsets))
    assert all(chunk.next_offset > chunk.offsets[-1] for chunk in chunks)


async def test_a_partitions_order_holds_over_several_appends(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer = await clients.writer()
    await writer.begin()
    await writer.append([out(tp, b"1"), out(tp, b"2")])
    await writer.append([out(tp, b"3")])
    await writer.append([])
    await writer.commit()
    assert await clients.values(tp) == [b"1", b"2", b"3"]


async def test_one_transaction_writes_several_topics(clients: Clients) -> None:
    partitions = [await clients.partition(name) for name in ("decisions", "alerts", "journal")]
    ends = await transact(await clients.writer(), *(out(tp, tp.topic.encode(), b"end") for tp in partitions))
    for tp in partitions:
        (chunk,) = await records(clients.scanner(tp), 2)
        assert chunk.values == [tp.topic.encode(), b"end"]
        assert ends[tp] == chunk.offsets[-1]


async def test_an_aborted_transaction_is_never_seen(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer = await clients.writer()
    await transact(writer, out(tp, b"before"))
    await writer.begin()
    await writer.append([out(tp, b"aborted")])
    await writer.delivered()
    await writer.abort()
    await transact(writer, out(tp, b"after"))
    assert await clients.values(tp) == [b"before", b"after"]


async def test_an_open_transaction_is_not_seen_until_it_commits(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer, scanner = await clients.writer(), clients.scanner(tp)
    await transact(writer, out(tp, b"1"))
    await records(scanner, 1)
    await writer.begin()
    await writer.append([out(tp, b"2")])
    await writer.delivered()
    await nothing(scanner)
    await writer.commit()
    assert flat(await records(scanner, 1)) == [b"2"]


async def test_a_new_open_settles_what_an_abandoned_writer_left(clients: Clients) -> None:
    tp = await clients.partition("out")
    old = await clients.writer()
    await old.begin()
    await old.append([out(tp, b"orphan")])
    await old.delivered()
    await old.abandon()
    new = await clients.writer(log=clients.another())
    await transact(new, out(tp, b"new"))
    assert await clients.values(tp) == [b"new"]


async def test_a_second_open_fences_the_first_owner(clients: Clients) -> None:
    tp = await clients.partition("out")
    zombie = await clients.writer()
    await transact(zombie, out(tp, b"1"))
    await zombie.begin()
    await zombie.append([out(tp, b"zombie")])
    await zombie.delivered()
    heir = await clients.writer(log=clients.another())
    with pytest.raises(FencedError):
        await zombie.commit()
    await transact(heir, out(tp, b"2"))
    assert await clients.values(tp) == [b"1", b"2"]


async def test_a_fenced_writer_stays_fenced(clients: Clients) -> None:
    tp = await clients.partition("out")
    zombie = await clients.writer()
    await clients.writer(log=clients.another())
    with pytest.raises(FencedError):
        await transact(zombie, out(tp, b"zombie"))
    with pytest.raises(EventLogError):
        await transact(zombie, out(tp, b"zombie"))
    assert await clients.values(tp) == []


async def test_writers_of_other_ids_do_not_disturb_each_other(clients: Clients) -> None:
    tp = await clients.partition("out")
    one, two = await clients.writer("one"), await clients.writer("two", log=clients.another())
    for n in range(3):
        await transact(one, out(tp, b"one%d" % n))
        await transact(two, out(tp, b"two%d" % n))
    values = await clients.values(tp)
    assert [v for v in values if v is not None and v.startswith(b"one")] == [b"one0", b"one1", b"one2"]
    assert [v for v in values if v is not None and v.startswith(b"two")] == [b"two0", b"two1", b"two2"]


async def test_misuse_is_refused(clients: Clients) -> None:
    tp = await clients.partition("out")
    unopened = clients.log.writer(clients.name("unopened"))
    with pytest.raises(EventLogError):
        await unopened.begin()
    writer = await clients.writer()
    with pytest.raises(EventLogError):
        await writer.append([out(tp, b"no begin")])
    abandoned = await clients.writer("abandoned")
    await abandoned.begin()
    await abandoned.append([out(tp, b"x")])
    await abandoned.abandon()
    await abandoned.abandon()
    with pytest.raises(EventLogError):
        await abandoned.commit()
    await clients.writer("abandoned")
    assert await clients.values(tp) == []


async def test_a_record_too_big_is_refused_and_its_transaction_lost(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer = await clients.writer()
    with pytest.raises(EventLogError) as refused:
        await transact(writer, out(tp, b"small"), out(tp, bytes((8 << 20) + 1)))
    assert not refused.value.retriable
    with pytest.raises(EventLogError):
        await writer.commit()
    await writer.abandon()
    await transact(await clients.writer(), out(tp, b"next"))
    assert await clients.values(tp) == [b"next"]


async def test_offsets_and_records_are_committed_together(clients: Clients) -> None:
    source, target = await clients.partition("in"), await clients.partition("out")
    member, writer = await clients.member([source.topic]), await clients.writer()
    assert await member.reader.committed([source]) == {}
    await transact(
        writer, out(target, b"1"), offsets={source: CommittedOffset(7, "journal 1 é")}, membership=member.membership
    )
    assert await member.reader.committed([source]) == {source: CommittedOffset(7, "journal 1 é")}
    await writer.begin()
    await writer.append([out(target, b"2")])
    await writer.offsets({source: CommittedOffset(8, "")}, member.membership)
    await writer.delivered()
    await writer.abort()
    assert await member.reader.committed([source]) == {source: CommittedOffset(7, "journal 1 é")}
    assert await clients.values(target) == [b"1"]


async def test_a_transaction_of_offsets_alone(clients: Clients) -> None:
    source = await clients.partition("in")
    member, writer = await clients.member([source.topic]), await clients.writer()
    await transact(writer, offsets={source: CommittedOffset(3, "tick")}, membership=member.membership)
    group = clients.name("group")
    assert await clients.log.admin().committed(group, [source]) == {source: CommittedOffset(3, "tick")}
    assert await clients.log.admin().committed(clients.name("other"), [source]) == {}


async def test_offsets_left_pending_are_settled_by_the_next_owner(clients: Clients) -> None:
    """Stable: never the pending offset, never an answer while it may still come."""
    source, target = await clients.partition("in"), await clients.partition("out")
    member, writer = await clients.member([source.topic]), await clients.writer()
    await transact(writer, offsets={source: CommittedOffset(1, "one")}, membership=member.membership)
    await writer.begin()
    await writer.append([out(target, b"orphan")])
    await writer.offsets({source: CommittedOffset(2, "two")}, member.membership)
    await writer.delivered()
    await writer.abandon()
    await clients.writer(log=clients.another())
    assert await member.reader.committed([source]) == {source: CommittedOffset(1, "one")}


async def test_an_older_membership_is_refused(clients: Clients) -> None:
    source, target = await clients.partition("in"), await clients.partition("out")
    zombie = await clients.member([source.topic])
    heir = await clients.member([source.topic], log=clients.another())
    writer = await clients.writer("zombie")
    with pytest.raises(FencedError):
        await transact(
            writer, out(target, b"zombie"), offsets={source: CommittedOffset(9, "")}, membership=zombie.membership
        )
    await writer.abandon()
    writer = await clients.writer("zombie")
    await transact(writer, out(target, b"heir"), offsets={source: CommittedOffset(1, "")}, membership=heir.membership)
    assert await clients.values(target) == [b"heir"]
    assert await heir.reader.committed([source]) == {source: CommittedOffset(1, "")}


async def test_a_share_that_went_to_another_member_is_migrated(clients: Clients) -> None:
    """Nothing is committed, nobody is fenced: with a new writer and the new assignment both members go on."""
    topic, target = await clients.topic("in", 2), await clients.partition("out")
    first = await clients.member([topic])
    before = first.membership
    second = await clients.sharing(first, topic)
    (kept,), (moved,) = first.recorder.assigned, second.recorder.assigned
    assert kept != moved
    writer = await clients.writer("first")
    with pytest.raises(TaskMigratedError) as refused:
        await transact(writer, out(target, b"late"), offsets={moved: CommittedOffset(9, "")}, membership=before)
    assert refused.value.retriable
    await writer.abandon()
    writer = await clients.writer("first")
    assert await first.reader.committed([kept, moved]) == {}
    for member, tp, value in ((first, kept, b"first"), (second, moved, b"second")):
        membership = member.recorder.membership
        await transact(writer, out(target, value), offsets={tp: CommittedOffset(1, "")}, membership=membership)
    assert await clients.values(target) == [b"first", b"second"]
    assert len(await second.reader.committed([kept, moved])) == 2


async def test_what_is_not_ours_any_more_is_not_read(clients: Clients) -> None:
    topic = await clients.topic("in", 2)
    appender = clients.log.appender()
    await appender.append([out(TopicPartition(topic, p), b"%d" % p) for p in (0, 1)])
    await appender.close()
    first = await clients.member([topic])
    for tp in first.recorder.assigned:
        first.reader.resume(tp, 0)
    second = await clients.sharing(first, topic)
    (kept,), (moved,) = first.recorder.assigned, second.recorder.assigned
    for member in (first, second):
        await nothing(member.reader)
        for tp in (kept, moved):
            member.reader.resume(tp, 0)
    assert flat(await records(first.reader, 1)) == [b"%d" % kept.partition]
    assert flat(await records(second.reader, 1)) == [b"%d" % moved.partition]


async def test_a_superseded_reader_learns_it_from_poll(clients: Clients) -> None:
    source = await clients.partition("in")
    zombie = await clients.member([source.topic])
    await clients.member([source.topic], log=clients.another())
    with pytest.raises(FencedError):
        await until(zombie.reader, lambda: False)


async def test_appender(clients: Clients) -> None:
    topic = await clients.topic("out", 2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    appender = clients.log.appender()
    await appender.append([out(zero, b"1", b"2"), out(one, b"3")])
    await appender.append([out(zero, b"4")])
    await appender.append([])
    await appender.close()
    assert await clients.values(zero) == [b"1", b"2", b"4"]
    (chunk,) = await records(clients.scanner(one), 1)
    assert list(chunk.timestamps) == [TIME_MS]


async def test_an_append_to_no_topic_is_refused(clients: Clients) -> None:
    appender = clients.log.appender()
    with pytest.raises(EventLogError):
        await appender.append([out(TopicPartition(clients.name("missing"), 0), b"1")])
    await appender.close()


async def test_a_writer_knows_where_its_next_records_will_lie(clients: Clients) -> None:
    tp, other = await clients.partition("out"), await clients.partition("other")
    writer = await clients.writer()
    assert writer.place(tp) is None
    await transact(writer, out(tp, b"0"))
    for count in (1, 3):
        before = writer.place(tp)
        assert before is not None
        assert before.end <= before.base
        await writer.begin([tp, other])
        await writer.append([out(tp, *[b"x"] * count), out(other, b"y")])
        await writer.append([out(tp, b"z")])
        ahead = writer.place(tp)
        last = before.base + count
        assert (await writer.delivered()).get(tp, last) == last
        await writer.commit()
        assert writer.place(tp) == ahead
        assert ahead is not None
        assert ahead.end == last + 1
    assert len(await clients.values(tp)) == 7


async def test_what_was_announced_and_not_written_is_reckoned_with(clients: Clients) -> None:
    tp, other = await clients.partition("out"), await clients.partition("other")
    writer = await clients.writer()
    await transact(writer, out(tp, b"1"))
    await writer.begin([tp, other])
    await writer.append([out(other, b"y")])
    await writer.delivered()
    await writer.commit()
    place = writer.place(tp)
    assert place is not None
    assert await transact(writer, out(tp, b"2")) == {tp: place.base}


async def test_what_was_announced_is_reckoned_with_where_nothing_is_written(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer = await clients.writer()
    await transact(writer, out(tp, b"1"))
    await writer.begin([tp])
    await writer.append([])
    await writer.commit()
    place = writer.place(tp)
    assert place is not None
    assert await transact(writer, out(tp, b"2")) == {tp: place.base}


async def test_records_that_would_lie_elsewhere_fail_their_transaction(clients: Clients) -> None:
    tp, other = await clients.partition("out"), await clients.partition("other")
    writer = await clients.writer()
    await transact(writer, out(tp, b"1"))
    for value in (b"2", b"3"):
        place = writer.place(tp)
        assert place is not None
        await transact(writer, msgspec.structs.replace(out(tp, value, value), base=place.base))
    place = writer.place(tp)
    assert place is not None
    appender = clients.log.appender()
    await appender.append([out(tp, b"somebody's")])
    await appender.close()
    with pytest.raises(EventLogError, match="somebody else") as caught:
        await transact(writer, out(other, b"4"), msgspec.structs.replace(out(tp, b"5"), base=place.base))
    assert caught.value.retriable
    assert not isinstance(caught.value, FencedError)
    await writer.abandon()
    await clients.writer()
    assert await clients.values(tp) == [b"1", b"2", b"2", b"3", b"3", b"somebody's"]
    assert await clients.values(other) == []
