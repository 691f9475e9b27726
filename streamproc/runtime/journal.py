"""The journal: what each transaction did, one record a task, chained by SHA-256.

Record of topic `<pipeline>.journal`, partition = task:

    value              the feature block (Arrow), or empty when no row was decided
    header "journal"   the entry (msgpack): ranges of input in order, rejects, duplicates, actions, digests
    header "chain"     sha256(previous chain head + the entry's bytes), 32 bytes

The offset commit of the same transaction carries, as metadata, the entry's sequence, its chain head and the offset
of the *previous* journal record: that is how a restore finds the journal's end without trusting anything local.
"""

from __future__ import annotations

__all__ = [
    "CHAIN_START",
    "JournalEntry",
    "JournalHead",
    "RangeOfInput",
    "Rejected",
    "chain_after",
    "decode_entry",
    "encode_entry",
    "places_in",
    "rejected_of",
]

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec

from state.errors import StateCorruptedError
from streamproc.eventlog.contract import NO_OFFSET, Headers

CHAIN_START = bytes(32)
_VERSION = 1
_METADATA_FIELDS = 4, 6


class RangeOfInput(NamedTuple):
    """Records start..stop (exclusive) of `topic`, in offset order."""

    topic: str
    start: int
    stop: int


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """One transaction of one task.

    `ranges` in the order the rows were merged; `rejected` and `duplicates` are (range index, offset);
    `actions` holds one action code for each row that was not rejected, in row order (the block's schema has their
    names); `exact` digests what must come out equal on any machine, `output` the encoded decisions, `block` the
    record's value. `tick`: the stream time (ms) to which the task's clock came after the rows, while its input rested;
    its ranges are empty then. `late`: a bit for each action, set where the row was past its deadline; empty: none was.
    `tables`: (topic, offset) of each table that changes while the pipeline runs: what stands before had been read.
    """

    version: int
    task: int
    sequence: int
    ranges: tuple[RangeOfInput, ...]
    rejected: tuple[tuple[int, int], ...]
    duplicates: tuple[tuple[int, int], ...]
    actions: bytes
    state_fingerprint: str
    decision_fingerprint: str
    numerics: str
    exact: bytes
    output: bytes
    block: bytes
    tick: int | None = None
    late: bytes = b""
    tables: tuple[tuple[str, int], ...] = ()


Rejected = Mapping[str, Set[int]]
"""Offsets of rejected records, by topic."""


def rejected_of(entries: Iterable[JournalEntry]) -> Rejected:
    """The records that entries of one task rejected."""
    found: dict[str, set[int]] = {}
    for entry in entries:
        for index, offset in entry.rejected:
            found.setdefault(entry.ranges[index].topic, set()).add(offset)
    return found


def places_in(ranges: Sequence[RangeOfInput], records: Sequence[tuple[str, int]]) -> tuple[tuple[int, int], ...]:
    """(range index, offset) of records (topic, offset), which lie in `ranges`; the topic of a single range may be "".

    >>> places_in([RangeOfInput("a", 0, 2), RangeOfInput("b", 5, 9), RangeOfInput("a", 2, 4)], [("a", 3), ("b", 5)])
    ((2, 3), (1, 5))
    """
    if not records or len(ranges) == 1:
        return tuple((0, offset) for _, offset in records)
    mine: dict[str, list[int]] = {}
    for index, wanted in enumerate(ranges):
        mine.setdefault(wanted.topic, []).append(index)
    starts = {topic: [ranges[index].start for index in indices] for topic, indices in mine.items()}
    return tuple((mine[topic][bisect_right(starts[topic], offset) - 1], offset) for topic, offset in records)


class JournalHead(NamedTuple):
    """The journal's end as the offset commit's metadata names it.

    `time`: the event time, ms, up to which the stage has come, if others follow it; -1: it does not say so.
    `partitions`: how many the input had then; 0: it does not say so.

    >>> head = JournalHead(7, bytes(32), 41)
    >>> JournalHead.parse(head.text()) == head
    True
    """

    sequence: int
    chain: bytes
    previous_offset: int
    time: int = -1
    partitions: int = 0

    def text(self) -> str:
        """The metadata text."""
        said = f":{self.time}:{self.partitions}" if self.time >= 0 or self.partitions else ""
        return f"{_VERSION}:{self.sequence}:{self.previous_offset}:{self.chain.hex()}{said}"

    @staticmethod
    def parse(text: str) -> JournalHead:
        """The head that `text` names.

        Raises:
            StateCorruptedError: another program committed these offsets.
        """
        parts = text.split(":")
        try:
            if len(parts) in _METADATA_FIELDS and int(parts[0]) == _VERSION:
                head = JournalHead(int(parts[1]), bytes.fromhex(parts[3]), int(parts[2]), *map(int, parts[4:]))
                if len(head.chain) == len(CHAIN_START):
                    return head
        except ValueError:
            pass
        raise StateCorruptedError("the group's committed offsets were not written by this program's workers")

    @staticmethod
    def start() -> JournalHead:
        """Before the first transaction."""
        return JournalHead(-1, CHAIN_START, NO_OFFSET)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(JournalEntry)


def chain_after(chain: bytes, body: bytes) -> bytes:
    """The chain head behind an entry."""
    return hashlib.sha256(chain + body).digest()


def encode_entry(entry: JournalEntry, chain: bytes) -> tuple[Headers, bytes]:
    """The record's headers and the chain head behind it."""
    body = _encoder.encode(entry)
    head = chain_after(chain, body)
    return [("journal", body), ("chain", head)], head


def decode_entry(headers: Headers) -> tuple[JournalEntry, bytes, bytes]:
    """(entry, its bytes, chain head) of a journal record.

    Raises:
        StateCorruptedError: not a journal record of a known version.
    """
    fields = dict(headers)
    try:
        body, chain = fields["journal"], fields["chain"]
        entry = _decoder.decode(body)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StateCorruptedError("a record of the journal cannot be read") from error
    if entry.version != _VERSION:
        raise StateCorruptedError(f"journal version {entry.version} is not known to this release")
    return entry, body, chain
