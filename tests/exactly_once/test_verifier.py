"""The verifier must be seen to fail: each fault that is planted into good data is found, and named by its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign
from tests.exactly_once.checks import PartitionData, check_partition
from tests.exactly_once.readers import Record, open_reader
from tests.exactly_once.verify import read_partition
from tests.exactly_once.worlds import DEADLINE_MS

Change = Callable[[PartitionData], PartitionData]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PartitionData:
    """One partition of a real run without faults."""
    directory = tmp_path_factory.mktemp("run")
    campaign = Campaign(directory, f"file:{directory}/log", "bench_v1")
    campaign.feed(20_000, seed=1)
    campaign.drain()
    return read_partition(open_reader(campaign.log_url), "bench_v1", 1, DEADLINE_MS)


def middle(records: list[Record]) -> int:
    return len(records) // 2


def edited(record: Record, **fields: object) -> Record:
    return record._replace(value=json.dumps({**json.loads(record.value), **fields}).encode())


def replaced(records: list[Record], at: int, *new: Record) -> list[Record]:
    return [*records[:at], *new, *records[at + 1 :]]


def doubled_decision(data: PartitionData) -> PartitionData:
    at = middle(data.decisions)
    return data._replace(decisions=replaced(data.decisions, at, data.decisions[at], data.decisions[at]))


def doubled_transaction(data: PartitionData) -> PartitionData:
    """Its decisions and its journal record twice, as without fenced offsets."""
    return data._replace(decisions=data.decisions + data.decisions[-50:], journal=data.journal + data.journal[-1:])


def lost_decision(data: PartitionData) -> PartitionData:
    return data._replace(decisions=replaced(data.decisions, middle(data.decisions)))


def lost_tail(data: PartitionData) -> PartitionData:
    return data._replace(decisions=data.decisions[:-1])


def wrong(name: str, value: object) -> Change:
    def change(data: PartitionData) -> PartitionData:
        at = next(i for i, r in enumerate(data.decisions) if i > 100 and not json.loads(r.value).get("duplicate"))
        return data._replace(decisions=replaced(data.decisions, at, edited(data.decisions[at], **{name: value})))

    return change


def in_time(data: PartitionData) -> PartitionData:
    """All decisions were made at once, whatever they say."""
    return data._replace(decisions=[record._replace(timestamp=0) for record in data.decisions])


def wrong_key(data: PartitionData) -> PartitionData:
    at = middle(data.decisions)
    return data._replace(decisions=replaced(data.decisions, at, data.decisions[at]._replace(key=b"c0x")))


def swapped(data: PartitionData) -> PartitionData:
    """Two decisions of one card change places."""
    first: dict[bytes | None, int] = {}
    for at, record in enumerate(data.decisions):
        before = first.setdefault(record.key, at)
        if (
            before != at
            and json.loads(data.decisions[before].value)["event_time"] < json.loads(record.value)["event_time"]
        ):
            decisions = list(data.decisions)
            decisions[before], decisions[at] = decisions[at], decisions[before]
            return data._replace(decisions=decisions)
    raise AssertionError("no card has two decisions")


def lost_letter(data: PartitionData) -> PartitionData:
    return data._replace(dead_letters=data.dead_letters[1:])


def doubled_letter(data: PartitionData) -> PartitionData:
    return data._replace(dead_letters=data.dead_letters + data.dead_letters[:1])


def decided_letter(data: PartitionData) -> PartitionData:
    """A dead letter for a record that is fine."""
    fine = edited(data.dead_letters[0], offset=data.source[0].offset)
    return data._replace(dead_letters=[*data.dead_letters, fine])


def lost_link(data: PartitionData) -> PartitionData:
    return data._replace(journal=data.journal[1:])


def lost_last_link(data: PartitionData) -> PartitionData:
    return data._replace(journal=data.journal[:-1])


def flipped_bit(name: str) -> Change:
    def change(data: PartitionData) -> PartitionData:
        record = data.journal[0]
        body = bytearray(record.headers[name])
        body[-1] ^= 1
        flipped = record._replace(headers={**record.headers, name: bytes(body)})
        return data._replace(journal=replaced(data.journal, 0, flipped))

    return change


def changed_block(data: PartitionData) -> PartitionData:
    return data._replace(journal=replaced(data.journal, 0, data.journal[0]._replace(value=b"x")))


def old_offset(data: PartitionData) -> PartitionData:
    assert data.committed is not None
    return data._replace(committed=(data.committed[0] - 1, data.committed[1]))


def no_offset(data: PartitionData) -> PartitionData:
    return data._replace(committed=None)


def undecided_input(data: PartitionData) -> PartitionData:
    last = data.source[-1]
    return data._replace(source=[*data.source, last._replace(offset=last.offset + 1)])


FAULTS: list[tuple[str, Change]] = [
    ("duplicates", doubled_decision),
    ("duplicates", doubled_transaction),
    ("missing", lost_decision),
    ("missing", lost_tail),
    ("missing", undecided_input),
    *[
        ("mismatches", wrong(name, value))
        for name, value in [
            ("decision", "pass"), ("reasons", ["x"]), ("score", 1.0), ("amount", 0.123), ("n_5m", 99), ("s_5m", 0.001),
            ("n_1h", 99), ("s_1h", 0.001), ("n_24h", 99), ("s_24h", 0.001), ("n_30s", 99), ("speed_kmh", 0.001),
            ("hour", 25), ("ts", -1), ("duplicate", True), ("more", 1),
            ("late_answer", False),
        ]
    ],
    ("mismatches", wrong_key),
    ("mismatches", in_time),
    ("broken_journal", in_time),
    ("missing", wrong("event_time", 1)),
    ("missing", wrong("card_id", "c0x")),
    ("missing", wrong("transaction_id", "t0x")),
    ("out_of_order", swapped),
    ("wrong_dead_letters", lost_letter),
    ("wrong_dead_letters", doubled_letter),
    ("wrong_dead_letters", decided_letter),
    ("broken_journal", lost_link),
    ("broken_journal", lost_last_link),
    ("broken_journal", flipped_bit("journal")),
    ("broken_journal", flipped_bit("chain")),
    ("broken_journal", changed_block),
    ("broken_journal", old_offset),
    ("broken_journal", no_offset),
]  # fmt: skip


def test_good_data_pass(data: PartitionData) -> None:
    found = check_partition(data)
    assert not any(found.faults.values()), found.examples
    assert found.transactions > 1
    assert found.decisions + found.dead_letters == found.records > 4_000
    assert min(found.dead_letters, found.repeated, found.late) > 0


@pytest.mark.parametrize(("kind", "change"), FAULTS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(FAULTS)])
def test_a_planted_fault_is_found(data: PartitionData, kind: str, change: Change) -> None:
    found = check_partition(change(data))
    assert found.faults[kind] > 0, found.faults
    assert found.examples


def test_the_process_exits_with_1(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, f"file:{tmp_path}/log", "bench_v1")
    sent = campaign.feed(2_000, seed=1)
    assert not campaign.verify(sent)["ok"]
    campaign.drain()
    assert campaign.verify(sent)["ok"]
    assert not campaign.verify(sent + 1)["ok"]
