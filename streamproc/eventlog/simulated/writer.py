"""The transactional writer of a simulated process."""

from __future__ import annotations

__all__ = ["SimulatedWriter", "checked"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from state.errors import EventLogError
from streamproc.eventlog.contract import CommittedOffset, Membership, OutputRecords, Place, TopicPartition
from streamproc.eventlog.places import Places
from streamproc.eventlog.simulated.cluster import RECORD_BYTES_MAX
from streamproc.eventlog.simulated.faults import Fault
from streamproc.eventlog.simulated.group import SimulatedMembership

if TYPE_CHECKING:
    from streamproc.eventlog.simulated.client import SimulatedEventLog

R = TypeVar("R")
_MARKS = 1


class SimulatedWriter:
    """See `contract.TransactionalWriter`; after an error all but `abandon` refuse."""

    def __init__(self, client: SimulatedEventLog, transactional_id: str) -> None:
        self._client = client
        self._cluster = client.cluster
        self._id = transactional_id
        self._epoch: int | None = None
        self._begun = False
        self._ends: dict[TopicPartition, int] = {}
        self._undelivered = False
        self._places = Places(_MARKS)

    async def open(self) -> None:
        await self._cluster.markers_written(self._id)
        self._epoch = await self._client.step("open", lambda: self._cluster.claim(self._id))

    async def begin(self, expected: Iterable[TopicPartition] = (), membership: Membership | None = None) -> None:
        if self._begun:
            raise EventLogError(f"writer {self._id} has an open transaction")
        await self._do("begin", lambda owner: None)
        self._begun = True
        self._ends = {}
        self._places.begin()

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        self._in_transaction()
        try:
            outputs = checked(outputs)
        except EventLogError:
            await self.abandon()
            raise
        cluster = self._cluster
        await cluster.markers_written(self._id)
        self._ends |= await self._do(
            "append",
            lambda owner: cluster.append(outputs, owner),
            part=lambda owner: cluster.append(outputs[: cluster.faults.part(len(outputs))], owner),
            otherwise={Fault.UNDELIVERED: lambda owner: self._lose(outputs, owner)},
        )
        self._places.append(outputs)

    def place(self, tp: TopicPartition) -> Place | None:
        return self._places.of(tp)

    async def offsets(self, offsets: Mapping[TopicPartition, CommittedOffset], membership: Membership) -> None:
        if not isinstance(membership, SimulatedMembership):
            raise TypeError(f"a membership of another event log: {type(membership).__name__}")
        self._in_transaction()
        kept = dict(offsets)
        await self._do("offsets", lambda owner: self._cluster.add_offsets(owner, kept, membership))

    async def delivered(self) -> dict[TopicPartition, int]:
        self._in_transaction()
        await self._do("delivered", lambda owner: self._cluster.check_writer(*owner))
        if self._undelivered:
            await self.abandon()
            raise EventLogError("delivered: some records were not", retriable=True)
        try:
            self._places.delivered(self._ends)
        except EventLogError:
            await self.abandon()
            raise
        return dict(self._ends)

    async def commit(self) -> None:
        await self._end("commit", commit=True)

    async def abort(self) -> None:
        await self._end("abort", commit=False)

    async def abandon(self) -> None:
        self._epoch = None
        self._begun = False

    async def _end(self, step: str, *, commit: bool) -> None:
        epoch = self._in_transaction()
        self._begun = False
        cluster, transactional_id = self._cluster, self._id
        await self._do(
            step,
            lambda owner: cluster.end(*owner, commit=commit),
            later=lambda seconds: cluster.end_after(seconds, transactional_id, epoch, commit=commit),
            otherwise={Fault.MARKERS_LAG: lambda owner: cluster.end(*owner, commit=commit, lag=True)},
        )

    async def _do(
        self,
        step: str,
        effect: Callable[[tuple[str, int]], R],
        *,
        part: Callable[[tuple[str, int]], object] = lambda owner: None,
        later: Callable[[float], None] = lambda seconds: None,
        otherwise: Mapping[Fault, Callable[[tuple[str, int]], R]] = MappingProxyType({}),
    ) -> R:
        """One step as the present owner; whatever happens but success ends the ownership."""
        if self._epoch is None:
            raise EventLogError(f"writer {self._id} is not open, or has failed")
        owner, self._epoch = (self._id, self._epoch), None
        result = await self._client.step(
            step,
            lambda: self._checked(owner, effect),
            takeover=lambda: self._cluster.claim(self._id),
            part=lambda: part(owner),
            later=later,
            otherwise={fault: partial(self._checked, owner, other) for fault, other in otherwise.items()},
        )
        self._epoch = owner[1]
        return result

    def _checked(self, owner: tuple[str, int], effect: Callable[[tuple[str, int]], R]) -> R:
        self._cluster.check_writer(*owner)
        return effect(owner)

    def _lose(self, outputs: Sequence[OutputRecords], owner: tuple[str, int]) -> dict[TopicPartition, int]:
        """Some arrive."""
        self._undelivered = True
        return self._cluster.append(outputs[: self._cluster.faults.part(len(outputs))], owner)

    def _in_transaction(self) -> int:
        if not self._begun or self._epoch is None:
            raise EventLogError(f"writer {self._id} has no open transaction")
        return self._epoch


def checked(outputs: Sequence[OutputRecords]) -> list[OutputRecords]:
    """The outputs, as they are now.

    Raises:
        EventLogError: a record of more than 8 MiB; never retriable.
    """
    kept = []
    for output in outputs:
        for value in output.values:
            if value is not None and len(value) > RECORD_BYTES_MAX:
                raise EventLogError(
                    f"a record for {output.tp.topic} has {len(value)} bytes, more than {RECORD_BYTES_MAX}"
                )
        headers = output.headers if output.headers is None else list(output.headers)
        copied = list(output.keys), list(output.values)
        kept.append(OutputRecords(output.tp, *copied, output.timestamp_ms, headers, output.base))
    return kept
