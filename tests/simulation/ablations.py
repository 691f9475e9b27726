"""Mechanisms, switched off one by one: a checker that does not notice is worth nothing.

Each ablation patches product classes, or the simulated cluster, for the time of one seed or one test; product code has
no switch for any of it. `ablation_table.py` looks for the seed, or runs the test, that notices.
"""

from __future__ import annotations

__all__ = ["ABLATIONS", "Ablation", "caught_by", "is_slip"]

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import numpy as np

from state.rowformat import META_KEY
from state.table import KeyedTable
from state.table_cut import TableCut
from state.worker_state import FlushCut
from streamproc.eventlog.contract import GroupReader
from streamproc.eventlog.simulated import Without
from streamproc.eventlog.simulated.writer import SimulatedWriter
from streamproc.runtime import outputs, reading, recovery, replay, rows, worker
from streamproc.runtime.collector import InArrivalOrder, Queue
from streamproc.runtime.journal import JournalEntry, JournalHead, encode_entry
from streamproc.runtime.merging_reader import MergingReader
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.spreading import Spreader
from streamproc.runtime.transaction import TransactionProtocol
from tests.simulation.loop import NO_END
from tests.simulation.seeds import run_seed
from tests.simulation.switches import (
    any_tables,
    anywhere,
    no_catching_up,
    no_digests,
    no_end,
    no_late_rows,
    no_order_of_answers,
    no_skipping,
    no_table_versions,
    nobody_is_behind,
    the_clock_again,
)

SEEDS = 200
_SLIPS = ("TypeError", "AttributeError", "NameError")
_LATE = "tests/simulation/test_deadlines.py::test_what_is_late_is_decided_by_rules_alone_whatever_fails"
_STEPS = "tests/simulation/test_in_step.py::test_what_a_fast_and_a_slow_worker_hand_on_is_in_step"
_SHORT = "tests/simulation/test_shortcut.py::test_what_others_write_between_undoes_a_transaction_and_loses_nothing"
_TABLES = "tests/runtime/test_topic_tables.py::test_catching_up_reads_what_was_committed_before"
_STREAMS = "tests/simulation/test_streams.py::test_decisions_equal_the_oracle_in_the_order_of_merging[0]"
_TICKS = "tests/simulation/test_timed.py::test_alerts_are_the_oracles_whatever_fails"
_OF_ROWS = (".decisions", ".dead_letters")
Switch = Callable[[], AbstractContextManager[object]]


class Ablation(NamedTuple):
    """What is switched off, what it is for, and how; `test`: what notices, if not the simulation."""

    mechanism: str
    purpose: str
    off: Switch
    test: str | None = None


def _without(mechanism: Without) -> Switch:
    return lambda: contextlib.nullcontext(frozenset({mechanism}))


# ---- the transaction


async def _join(writer: SimulatedWriter) -> None:
    """Go on in the epoch of whoever was before, if there is one to go on in: no InitProducerId."""
    known = writer._cluster._producers.get(writer._id)
    usable = known is not None and not known.timed_out
    writer._epoch = known.epoch if usable and known is not None else writer._cluster.claim(writer._id)


@contextlib.contextmanager
def _unclaimed(protocol: TransactionProtocol) -> Iterator[None]:
    """Writers made meanwhile claim nothing."""
    real = protocol._new_writer

    def new_writer() -> Any:
        writer: Any = real()
        writer.open = partial(_join, writer)
        return writer

    protocol._new_writer = new_writer
    try:
        yield
    finally:
        protocol._new_writer = real


@contextlib.contextmanager
def _no_new_producer() -> Iterator[None]:
    real = TransactionProtocol.settle

    async def settle(self: TransactionProtocol, offsets: Any, reader: GroupReader) -> bool:
        with _unclaimed(self):
            return await real(self, offsets, reader)

    with mock.patch.object(TransactionProtocol, "settle", settle):
        yield


@contextlib.contextmanager
def _no_claim_at_start() -> Iterator[None]:
    real = TransactionProtocol.open

    async def open_(self: TransactionProtocol) -> None:
        with _unclaimed(self) if self._writer is None else contextlib.nullcontext():
            await real(self)

    with mock.patch.object(TransactionProtocol, "open", open_):
        yield


def _no_look_at_deliveries() -> AbstractContextManager[object]:
    async def delivered(self: SimulatedWriter) -> dict[Any, int]:
        return dict.fromkeys([*self._ends, *self._cluster._partitions], 0) | self._ends

    return mock.patch.object(SimulatedWriter, "delivered", delivered)


def _no_offsets_without_decisions() -> AbstractContextManager[None]:
    return _no_offsets(lambda given: not any(output.tp.topic.endswith(".decisions") for output in given))


def _no_offsets_of_ticks() -> AbstractContextManager[None]:
    """Where no row is decided or refused."""
    return _no_offsets(lambda given: not any(output.tp.topic.endswith(_OF_ROWS) and output.keys for output in given))


@contextlib.contextmanager
def _no_offsets(where: Callable[[Sequence[Any]], bool]) -> Iterator[None]:
    real, send = TransactionProtocol.run, SimulatedWriter.offsets
    silent = ContextVar("silent", default=False)  # each transaction is a task of its own: several are under way at once

    async def run(self: TransactionProtocol, given: Sequence[Any], offsets: Mapping[Any, Any], member: Any) -> Any:
        silent.set(where(given))
        return await real(self, given, offsets, member)

    async def sent(self: SimulatedWriter, *given: Any) -> None:
        if not silent.get():
            await send(self, *given)

    with mock.patch.object(TransactionProtocol, "run", run), mock.patch.object(SimulatedWriter, "offsets", sent):
        yield


# ---- stages


@contextlib.contextmanager
def _no_digest_handed_on() -> Iterator[None]:
    """A later stage looks at the record that it reads."""
    with mock.patch.object(rows, "DIGEST", ""), mock.patch.object(replay, "DIGEST", ""):
        yield


@contextlib.contextmanager
def _no_offsets_of_later_stages() -> Iterator[None]:
    """Where a transaction has the first stage's, too."""
    real = TransactionProtocol.run

    async def run(self: TransactionProtocol, given: Sequence[Any], offsets: Mapping[Any, Any], member: Any) -> Any:
        first = {tp: offset for tp, offset in offsets.items() if tp.topic.endswith(".transactions")}
        return await real(self, given, first or offsets, member)

    with mock.patch.object(TransactionProtocol, "run", run):
        yield


def _no_steps() -> AbstractContextManager[object]:
    def made(self: worker.Worker) -> Queue:
        return InArrivalOrder()

    return mock.patch.object(worker.Worker, "_made_queue", made)


def _no_order_of_rows() -> AbstractContextManager[object]:
    real = Spreader.spread

    def by_task(self: Spreader, keys: Sequence[bytes], times: Any, edges: Any, partitions: int) -> Any:
        return real(self, keys, np.arange(len(keys)), edges, partitions)

    return mock.patch.object(Spreader, "spread", by_task)


def _no_time_in_offsets() -> AbstractContextManager[object]:
    def text(self: JournalHead) -> str:
        return real(self._replace(time=-1))

    real = JournalHead.text
    return mock.patch.object(JournalHead, "text", text)


# ---- the flush


@contextlib.contextmanager
def _no_position_in_flush() -> Iterator[None]:
    """The position is written with the first flush of a store only."""
    real = FlushCut.write

    def write(self: FlushCut, store: Any) -> None:
        known = store.get_many([META_KEY])[0]
        if known is not None:
            self.meta = known
        real(self, store)

    with mock.patch.object(FlushCut, "write", write):
        yield


@contextlib.contextmanager
def _no_cut() -> Iterator[None]:
    """What is written is what the rows are when it is written."""
    real = TableCut.encode

    def encode(self: TableCut) -> Any:
        self._header = self._table.rows[self._slots, : len(self._table.spec.fields)]
        return real(self)

    with mock.patch.object(TableCut, "encode", encode):
        yield


# ---- the journal and the state


def _no_rejects() -> AbstractContextManager[object]:
    def encode(entry: JournalEntry, chain: bytes) -> Any:
        return encode_entry(msgspec.structs.replace(entry, rejected=()), chain)

    return mock.patch.object(outputs, "encode_entry", encode)


def _no_order() -> AbstractContextManager[object]:
    real = reading.portions

    def portions(chunks: Sequence[Any], rejected: Any, actions: bytes, rows: int) -> Any:
        for part, decided in real(chunks, rejected, actions, rows):
            yield [_backwards(chunk) for chunk in reversed(part)], decided

    return mock.patch.object(recovery, "portions", portions)


def _backwards(chunk: Any) -> Any:
    columns = {name: list(reversed(getattr(chunk, name))) for name in ("offsets", "keys", "values", "timestamps")}
    return msgspec.structs.replace(chunk, **columns, headers=None)


def _no_wait_for_streams() -> AbstractContextManager[object]:
    return mock.patch.object(MergingReader, "_is_open", return_value=False)


def _no_order_of_streams() -> AbstractContextManager[object]:
    def encode(entry: JournalEntry, chain: bytes) -> Any:
        return encode_entry(msgspec.structs.replace(entry, ranges=tuple(sorted(entry.ranges))), chain)

    return mock.patch.object(outputs, "encode_entry", encode)


def _no_offsets_of_other_streams() -> AbstractContextManager[object]:
    real = PartitionTask.commits_of

    def commits_of(self: PartitionTask, *given: Any) -> Any:
        return {self.source: real(self, *given)[self.source]}

    return mock.patch.object(PartitionTask, "commits_of", commits_of)


def _no_before_images() -> AbstractContextManager[object]:
    return mock.patch.object(KeyedTable, "touch", KeyedTable.mark_dirty)


def _no_position_assert() -> AbstractContextManager[object]:
    return mock.patch.object(PartitionTask, "expect")


ABLATIONS = (
    Ablation(
        "generation fencing", "a worker whose partitions went to another cannot commit any more",
        _without(Without.MEMBERSHIP_FENCING),
    ),
    Ablation(
        "epoch fencing", "a process whose identity another has taken cannot commit any more",
        _without(Without.WRITER_FENCING),
    ),
    Ablation(
        "require_stable", "a new owner begins behind a transaction that is still ending, not before it",
        _without(Without.STABLE_OFFSETS),
    ),
    Ablation(
        "producer re-creation after an error", "what is left of a failed transaction never joins a later one",
        _no_new_producer,
    ),
    Ablation(
        "InitProducerId at start", "what a dead predecessor left open never joins a transaction of its successor",
        _no_claim_at_start,
    ),
    Ablation("checking deliveries", "a transaction does not commit without one of its records", _no_look_at_deliveries),
    Ablation(
        "offsets in transactions without decisions", "they are fenced, and not made twice",
        _no_offsets_without_decisions
    ),
    Ablation(
        "offsets in transactions of clock ticks alone", "nobody else's tick follows the same journal record",
        _no_offsets_of_ticks, _TICKS,
    ),
    Ablation(
        "offsets of each stage", "no stage decides again what a transaction had of it beside another's",
        _no_offsets_of_later_stages,
    ),
    Ablation("the digest in the handoff", "a later stage knows a record that comes again", _no_digest_handed_on),
    Ablation(
        "partitions in step", "rows that meet in the next stage come about in the order of event time", _no_steps,
        f"{_STEPS}[0-2-10]"
    ),
    Ablation("the order of rows handed on", "so do those of one transaction", _no_order_of_rows, f"{_STEPS}[0-2-200]"),
    Ablation(
        "the event time in the offsets", "workers know how far another's partition has come, and wait for it",
        _no_time_in_offsets, f"{_STEPS}[0-2-10]",
    ),
    Ablation(
        "waiting for who is behind", "a stage hands on nothing that is far ahead of it", nobody_is_behind,
        f"{_STEPS}[0-2-10]",
    ),
    Ablation(
        "the base of records that were taken already", "they lie where the next stage's journal and offsets say",
        anywhere, f"{_SHORT}[0]",
    ),
    Ablation("the shortcut only at a topic's end", "no row overtakes another of its partition", no_end),
    Ablation("the reader's skipping", "a row that went by the shortcut is not taken a second time", no_skipping),
    Ablation(
        "tables named in the journal", "who computes a transaction again knows whether it was decided by these tables",
        no_table_versions,
    ),
    Ablation("tables compared in a replay", "and does not report a difference that they make", any_tables),
    Ablation(
        "tables read to their end before a task is taken over", "no task decides by older rows than it has before",
        no_catching_up, f"{_TABLES}[0]",
    ),
    Ablation("the order of answers", "rows leave a call in the order in which they came", no_order_of_answers),
    Ablation("read_committed", "a restore does not read what was aborted", _without(Without.READ_COMMITTED)),
    Ablation("position in the flush", "a restore replays exactly what the rows do not hold yet", _no_position_in_flush),
    Ablation("the cut of the flush", "all stored rows are of one batch", _no_cut),
    Ablation("journaled rejects", "a replay leaves out what was refused", _no_rejects),
    Ablation("the journal's order", "a replay sees the rows in the order in which they were decided", _no_order),
    Ablation("waiting for streams that lag", "a row sees what came before it", _no_wait_for_streams, _STREAMS),
    Ablation(
        "the order of streams in the journal", "a replay merges them as it was decided", _no_order_of_streams, _STREAMS
    ),
    Ablation(
        "offsets of all streams", "a transaction commits how far it has come in each", _no_offsets_of_other_streams,
        _STREAMS,
    ),
    Ablation(
        "journaled lateness", "a transaction that is computed again leaves out the model where it was left out",
        no_late_rows, f"{_LATE}[0]",
    ),
    Ablation("a clock that is read once", "and asks it where it was asked", the_clock_again, f"{_LATE}[0]"),
    Ablation("before-images", "a batch that did not commit leaves no trace in the state", _no_before_images),
    Ablation(
        "position assert", "a record that the log delivers again is not decided again", _no_position_assert,
        "tests/runtime/test_redelivery.py::test_a_record_delivered_again_ends_the_worker_and_is_not_decided_again",
    ),
    Ablation(
        "manifest digests", "a damaged checkpoint is not restored", no_digests,
        "tests/state/test_checkpoint.py::test_a_damaged_file_is_found_and_the_next_older_checkpoint_is_whole",
    ),
)  # fmt: skip


def is_slip(said: str) -> bool:
    """Whether a switch has failed itself, for the code that it patches has changed: so nobody has noticed anything.

    `said`: an exception with its name before it, or in what way a simulated process ended.
    """
    return any(said.startswith(f"{name}:") or f"BUG {name}:" in said for name in _SLIPS)


def caught_by(ablation: Ablation, seeds: Iterable[int] = range(SEEDS)) -> tuple[int, str] | None:
    """The first seed that goes wrong without the mechanism, and what is wrong; None if none does.

    A world that turns without end is not enough: nobody has judged what came out. Nor is a slip of the switch.
    """
    for seed in seeds:
        with ablation.off() as without:
            outcome = run_seed(seed, without=without if isinstance(without, frozenset) else frozenset())
        if any(map(is_slip, outcome.wrong)):
            return None
        if outcome.wrong and not outcome.wrong[0].startswith(NO_END):
            return seed, outcome.wrong[0]
    return None
