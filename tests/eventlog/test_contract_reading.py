"""Reading: positions, pausing, cancelling, and what a record may look like."""

from __future__ import annotations

import asyncio
import contextlib

from streamproc.eventlog.contract import NO_OFFSET, Headers, Retention, TopicPartition, TopicSpec
from tests.eventlog.clients import TIME_MS, Clients, flat, nothing, out, records, transact, until


async def test_a_reader_delivers_what_comes_after_resume(clients: Clients) -> None:
    source = await clients.partition("in")
    appender = clients.log.appender()
    await appender.append([out(source, b"1", b"2", b"3")])
    member = await clients.member([source.topic])
    await nothing(member.reader)
    member.reader.resume(source, 0)
    assert flat(await records(member.reader, 3)) == [b"1", b"2", b"3"]
    await appender.append([out(source, b"4")])
    assert flat(await records(member.reader, 1)) == [b"4"]
    await appender.close()


async def test_pause_and_resume_at_another_offset(clients: Clients) -> None:
    topic = await clients.topic("in", 2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    appender = clients.log.appender()
    await appender.append([out(zero, b"1", b"2", b"3"), out(one, b"x")])
    member = await clients.member([topic])
    member.reader.resume(zero, 0)
    chunks = await records(member.reader, 3)
    offsets = [offset for chunk in chunks for offset in chunk.offsets]
    member.reader.pause(zero)
    member.reader.resume(one, 0)
    await appender.append([out(zero, b"4")])
    assert flat(await records(member.reader, 1)) == [b"x"]
    await nothing(member.reader)
    member.reader.resume(zero, offsets[1])
    assert flat(await records(member.reader, 3)) == [b"2", b"3", b"4"]
    member.reader.resume(zero, chunks[-1].next_offset)
    assert flat(await records(member.reader, 1)) == [b"4"]
    await appender.close()


async def test_members_share_out_by_index_or_by_the_group(clients: Clients) -> None:
    topic = await clients.topic("in", 3)
    partitions = [TopicPartition(topic, p) for p in range(3)]
    member = await clients.member([topic])
    assert member.recorder.assigned == set(partitions)
    assert member.membership.group == clients.name("group")


async def test_several_topics_are_read_together(clients: Clients) -> None:
    payments, logins = await clients.partition("payments"), await clients.partition("logins")
    appender = clients.log.appender()
    await appender.append([out(payments, b"p"), out(logins, b"l")])
    await appender.close()
    member = await clients.member([payments.topic, logins.topic])
    for tp in (payments, logins):
        member.reader.resume(tp, 0)
    chunks = await records(member.reader, 2)
    assert (flat(chunks, payments), flat(chunks, logins)) == ([b"p"], [b"l"])


async def test_a_position_passes_control_and_aborted_records(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer = await clients.writer()
    await transact(writer, out(tp, b"1"))
    await writer.begin()
    await writer.append([out(tp, b"aborted")])
    await writer.delivered()
    await writer.abort()
    end = (await clients.log.admin().end_offsets([tp]))[tp]  # the last marker may come after it
    scanner = clients.scanner(tp)
    assert flat(await until(scanner, lambda: scanner.position(tp) >= end)) == [b"1"]
    reader = (await clients.member([tp.topic])).reader
    assert reader.position(tp) == NO_OFFSET
    reader.resume(tp, 0)
    assert reader.position(tp) == 0
    assert flat(await until(reader, lambda: reader.position(tp) >= end)) == [b"1"]
    reader.pause(tp)
    assert reader.position(tp) == NO_OFFSET
    assert reader.position(TopicPartition(tp.topic, 9)) == NO_OFFSET


async def test_a_readers_position_is_past_what_was_delivered_and_no_further(clients: Clients) -> None:
    tp = await clients.partition("in")
    appender = clients.log.appender()
    await appender.append([out(tp, *(b"%d" % n for n in range(10)))])
    await appender.close()
    reader = (await clients.member([tp.topic])).reader
    reader.resume(tp, 4)
    seen: list[int] = []
    while len(seen) < 6:
        assert reader.position(tp) == (seen[-1] + 1 if seen else 4)
        seen += [offset for chunk in await reader.poll(50) for offset in chunk.offsets]
    assert reader.position(tp) == 10


async def test_a_reader_knows_whether_it_has_caught_up(clients: Clients) -> None:
    tp, idle = await clients.partition("in"), await clients.partition("idle")
    appender = clients.log.appender()
    await appender.append([out(tp, b"1", b"2", b"3")])
    reader = (await clients.member([tp.topic, idle.topic])).reader
    assert not reader.caught_up(tp)
    reader.resume(tp, 0)
    reader.resume(idle, 0)
    assert not reader.caught_up(tp)
    assert not reader.caught_up(idle)  # nobody has looked yet
    assert flat(await records(reader, 3)) == [b"1", b"2", b"3"]
    await until(reader, lambda: reader.caught_up(tp) and reader.caught_up(idle))
    writer = await clients.writer()
    await transact(writer, out(tp, b"4"))
    await writer.begin()
    await writer.append([out(tp, b"aborted")])
    await writer.delivered()
    await writer.abort()
    assert flat(await records(reader, 1)) == [b"4"]
    assert await until(reader, lambda: reader.caught_up(tp)) == []
    reader.resume(tp, 1)
    assert not reader.caught_up(tp)
    assert flat(await records(reader, 3)) == [b"2", b"3", b"4"]
    await until(reader, lambda: reader.caught_up(tp))
    reader.pause(tp)
    assert not reader.caught_up(tp)
    await appender.close()


async def test_a_scanner_seeks_back_and_forth(clients: Clients) -> None:
    tp = await clients.partition("out")
    appender = clients.log.appender()
    await appender.append([out(tp, *(b"%d" % n for n in range(10)))])
    scanner = clients.scanner(tp)
    chunks = await records(scanner, 10)
    offsets = [offset for chunk in chunks for offset in chunk.offsets]
    scanner.seek(tp, offsets[7])
    assert scanner.position(tp) == offsets[7]
    assert flat(await records(scanner, 3)) == [b"7", b"8", b"9"]
    scanner.seek(tp, offsets[9])
    assert flat(await records(scanner, 1)) == [b"9"]
    await appender.append([out(tp, b"10")])
    assert flat(await records(scanner, 1)) == [b"10"]
    await appender.close()


async def test_a_scanner_sees_other_clients_commits(clients: Clients) -> None:
    tp = await clients.partition("out")
    scanner = clients.scanner(tp, log=clients.another())
    await nothing(scanner, 0.05)
    await transact(await clients.writer(), out(tp, b"1"))
    assert flat(await records(scanner, 1)) == [b"1"]


async def test_a_cancelled_poll_loses_nothing(clients: Clients) -> None:
    tp = await clients.partition("in")
    member = await clients.member([tp.topic])
    member.reader.resume(tp, 0)
    scanner = clients.scanner(tp)
    appender = clients.log.appender()
    got: dict[object, list[bytes | None]] = {member.reader: [], scanner: []}
    for n in range(40):
        await appender.append([out(tp, b"%d" % n)])
        for source in (member.reader, scanner):
            poll = asyncio.create_task(source.poll(1000))
            await asyncio.sleep(0.0002 * (n % 7))
            poll.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got[source] += flat(await poll)
    for source in (member.reader, scanner):
        got[source] += flat(await records(source, 40 - len(got[source])))
        assert got[source] == [b"%d" % n for n in range(40)]
    await appender.close()


async def test_two_polls_at_once_share_the_records(clients: Clients) -> None:
    tp = await clients.partition("in")
    scanner, appender = clients.scanner(tp), clients.log.appender()
    seen: list[bytes | None] = []
    for n in range(10):
        polls = [asyncio.create_task(scanner.poll(100)) for _ in range(2)]
        await appender.append([out(tp, b"%d" % n)])
        for chunks in await asyncio.gather(*polls):
            seen += flat(chunks)
    seen += flat(await records(scanner, 10 - len(seen)))
    assert sorted(value or b"" for value in seen) == [b"%d" % n for n in range(10)]
    await appender.close()


async def test_poll_returns_in_time_when_nothing_comes(clients: Clients) -> None:
    tp = await clients.partition("in")
    scanner = clients.scanner(tp)
    await scanner.poll(200)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await scanner.poll(100) == []
    assert 0.05 < loop.time() - started < 2


async def test_what_a_record_may_look_like(clients: Clients) -> None:
    tp = await clients.partition("out")
    keys: list[bytes | None] = [None, b"", "schlüssel ☃".encode(), b"\x00", b"big"]
    values: list[bytes | None] = [b"", None, "straße".encode(), b"\xff\xfe", b"\x00\xff" * 450_000]
    headers: list[Headers] = [[], [("a", b"1"), ("a", b"")], [("ключ", "☃".encode())], [], [("seq", bytes(9))]]
    await transact(await clients.writer(), out(tp, *values, keys=keys, headers=headers))
    chunks = await records(clients.scanner(tp), 5)
    assert [key for chunk in chunks for key in chunk.keys] == keys
    assert flat(chunks) == values
    assert {time for chunk in chunks for time in chunk.timestamps} == {TIME_MS}
    found = [list(h) for chunk in chunks for h in (chunk.headers or [[] for _ in chunk.offsets])]
    assert found == headers


async def test_no_headers_at_all(clients: Clients) -> None:
    tp = await clients.partition("out")
    await transact(await clients.writer(), out(tp, b"1", b"2", headers=[[], []]), out(tp, b"3"))
    assert {None} == {None if chunk.headers is None else "some" for chunk in await records(clients.scanner(tp), 3)}


async def test_headers_of_some_of_several_appends(clients: Clients) -> None:
    tp = await clients.partition("out")
    writer = await clients.writer()
    await transact(writer, out(tp, b"1"))
    await transact(writer, out(tp, b"2", headers=[[("h", b"2")]]))
    await transact(writer, out(tp, b"3"))
    chunks = await records(clients.scanner(tp), 3)
    found = [list(h) for chunk in chunks for h in (chunk.headers or [[] for _ in chunk.offsets])]
    assert found == [[], [("h", b"2")], []]


async def test_many_records_come_in_bounded_polls(clients: Clients) -> None:
    tp = await clients.partition("out")
    appender = clients.log.appender()
    values = [b"%06d" % n + bytes(994) for n in range(6000)]
    await appender.append([out(tp, *values)])
    await appender.close()
    scanner = clients.scanner(tp)
    chunks = await records(scanner, 6000)
    assert flat(chunks) == values
    assert max(sum(map(len, filter(None, chunk.values))) for chunk in chunks) <= 4 << 20


async def test_topics_are_made_once(clients: Clients) -> None:
    admin = clients.log.admin()
    topic = clients.name("topic")
    assert await admin.partitions(topic) == 0
    await admin.ensure_topics([TopicSpec(topic, 3, {"retention.ms": "-1"})])
    await admin.ensure_topics([TopicSpec(topic, 5), TopicSpec(clients.name("other"), 1)])
    assert await admin.partitions(topic) == 3
    assert await clients.another().admin().partitions(clients.name("other")) == 1


async def test_begin_and_end_offsets(clients: Clients) -> None:
    topic = await clients.topic("out", 2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    admin = clients.log.admin()
    assert await admin.begin_offsets([zero, one]) == {zero: 0, one: 0}
    assert await admin.end_offsets([zero, one]) == {zero: 0, one: 0}
    ends = await transact(await clients.writer(), out(zero, b"1", b"2"))
    found = await admin.end_offsets([zero, one])
    assert found[zero] > ends[zero]
    assert found[one] == 0
    assert await admin.begin_offsets([zero]) == {zero: 0}


async def test_retention_of_topics(clients: Clients) -> None:
    admin = clients.log.admin()
    for_ever, brief = clients.name("kept"), clients.name("brief")
    config = {"retention.ms": "3600000", "retention.bytes": "100000000", "cleanup.policy": "compact,delete"}
    await admin.ensure_topics([TopicSpec(for_ever, 1), TopicSpec(brief, 1, config)])
    found = await admin.retention([for_ever, brief])
    assert found[for_ever] == Retention()
    bounded = Retention(3_600_000, 100_000_000, compacted=True)
    assert found[brief] == (Retention() if clients.log.url.startswith("file:") else bounded)
