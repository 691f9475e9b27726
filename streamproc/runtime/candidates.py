"""What a restore may begin from: step 2 of recovery.py."""

from __future__ import annotations

__all__ = ["Candidates", "ForeignTaskError", "barrier"]

from collections.abc import AsyncIterator, Callable

import structlog

from state.errors import BlobStoreError, ConfigError, PartitionsChangedError, StateBarrierError, StateCorruptedError
from state.manifest import Manifest
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.runtime.journal import JournalHead
from streamproc.runtime.journal_end import End, begins_of, end_by_journal
from streamproc.runtime.journal_reading import journal_records
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.stored_state import LocalMeta, LocalStates, TaskCheckpoints

_NEAR_ROWS = 100_000
"""Local state so near to the end is replayed, a fraction of a second, without asking for a fresher checkpoint."""


class ForeignTaskError(Exception):
    """Another worker has the task by now; the next assignment says whose it is."""


class Candidates:
    """The local state and the checkpoints of tasks, judged by what is committed and what the log still has.

    `go_on` is called between records of the journal and while a checkpoint is fetched; what it raises comes out.
    """

    def __init__(
        self, log: EventLog, states: LocalStates, checkpoints: TaskCheckpoints, *,
        group: str, journal_topic: str, state_fingerprint: str, go_on: Callable[[], None],
    ) -> None:  # fmt: skip
        self._log = log
        self._states = states
        self._checkpoints = checkpoints
        self._group = group
        self._journal_topic = journal_topic
        self._fingerprint = state_fingerprint
        self._go_on = go_on
        self.partitions = 0
        self._logger = structlog.get_logger("recovery")

    async def of(self, task: PartitionTask, end: End) -> AsyncIterator[LocalMeta | None]:
        """States to begin from, the freshest first, each in place as it is yielded; the last one is empty.

        Where the checkpoints' store does not answer, local state from which a replay can go on is taken, however far
        behind it is: the task need not wait.

        Raises:
            BlobStoreError: the store does not answer, and local state is of no use, or proved to be of none.
        """
        head = end.head
        local = await self._local(task, head)
        if local is not None and await self._is_near(task, local, end):
            yield local
            local = None
        try:
            for manifest in await self._checkpoints.newest_first(task.task, self._go_on):
                if local is not None and manifest.cut.sequence <= local.sequence:
                    break
                installed = await self._installed(task, manifest, head)
                if installed is not None or self._states.local_meta(task.task) is None:
                    local = None  # set aside
                if installed is not None:
                    yield installed
        except BlobStoreError as error:
            if local is None or not await self._leads_on(task, local, head):
                raise
            self._logger.warning(
                "the checkpoints' store does not answer, going on from local state", **task.named, error=str(error)
            )
            yield local
            raise
        if local is not None:
            yield local
        yield None

    async def discard(self, task: PartitionTask, reason: str) -> None:
        """Throw the local state away, loudly."""
        self._logger.error("local state discarded", **task.named, reason=reason)
        await self._states.discard(task.task)

    async def _leads_on(self, task: PartitionTask, local: LocalMeta, head: JournalHead) -> bool:
        """Whether journal and inputs still have all that a replay of the local state needs."""
        return await self._stands(task, local, head) and await self._is_retained(task, local)

    async def _is_retained(self, task: PartitionTask, local: LocalMeta) -> bool:
        begins = await begins_of(self._log, task)
        return all(begin <= at for begin, at in zip(begins, (local.position, *local.others), strict=True))

    async def _is_near(self, task: PartitionTask, local: LocalMeta, end: End) -> bool:
        """Whether no checkpoint need be asked for: little is to be replayed, and the inputs still have it."""
        positions = (local.position, *local.others)
        return sum(end.positions) - sum(positions) <= _NEAR_ROWS and await self._is_retained(task, local)

    async def _installed(self, task: PartitionTask, manifest: Manifest, head: JournalHead) -> LocalMeta | None:
        """A checkpoint in the place of the local state; None if it is of no use."""
        cut, logger = manifest.cut, self._logger.bind(**task.named)
        logger = logger.bind(checkpoint=manifest.name)
        if cut.state_fingerprint != self._fingerprint:
            logger.warning("checkpoint passed over: it is of another plan")
            return None
        if cut.sequence > head.sequence:
            if await self._is_foreign(task, cut.sequence):
                logger.error("checkpoint removed: it is ahead of the committed offsets, so of another history")
                await self._checkpoints.discard(manifest)
            else:
                logger.warning("checkpoint passed over: another worker has the task by now")
            return None
        try:
            if not await self._stands(task, LocalMeta.decode(cut.meta), head):
                logger.error("checkpoint passed over: the journal does not have, or not any more, what it is of")
                return None
            return self._checked(await self._checkpoints.install(manifest, self._go_on))
        except StateCorruptedError as error:
            logger.error("checkpoint passed over: it is damaged", reason=str(error))
            return None

    async def _stands(self, task: PartitionTask, meta: LocalMeta, head: JournalHead) -> bool:
        """Whether a replay can go on from there: else a sound local state must not be given up for it."""
        stands = (meta.sequence, meta.chain)
        if stands == (head.sequence, head.chain):
            return True  # nothing to replay, nothing needed of the journal
        tp, scanner = self._journal(task), self._log.scanner()
        try:
            if (await self._log.admin().begin_offsets([tp])).get(tp, 0) <= meta.journal_offset:
                async for found in journal_records(self._log, scanner, tp, meta.journal_offset, self._go_on):
                    return (found.entry.sequence, found.chain) == stands
        finally:
            await scanner.close()
        return False

    async def _is_foreign(self, task: PartitionTask, sequence: int) -> bool:
        """Whether a state is ahead of what is committed now, too, and not only of what this restore began with.

        A process that stood still may have lost the task. What the new owner has written was committed before.
        """
        found, journal = await self._log.admin().committed(self._group, task.inputs), self._journal(task)
        now = End.of(task, found) or await end_by_journal(self._log, journal, task, self._go_on)
        return now is None or sequence > now.head.sequence

    async def _local(self, task: PartitionTask, head: JournalHead) -> LocalMeta | None:
        """The local state, unless it is missing or foreign."""
        stored = self._states.local_meta(task.task)
        if stored is None:
            return None
        try:
            local = self._checked(stored)
        except StateCorruptedError as error:
            await self.discard(task, str(error))
            return None
        if local is not None and local.sequence > head.sequence:
            if not await self._is_foreign(task, local.sequence):
                self._logger.warning("another worker of this pod has had the task since", task=task.task)
                raise ForeignTaskError
            await self.discard(task, "local state is ahead of the committed offsets")
            return None
        return local

    def _checked(self, stored: bytes | None) -> LocalMeta | None:
        """A meta row that is of this plan and of as many partitions.

        Raises:
            ConfigError: it is not.
            StateCorruptedError: it cannot be read.
        """
        if stored is None:
            return None
        local = LocalMeta.decode(stored)
        if local.partitions != self.partitions:
            raise PartitionsChangedError(
                f"the state was kept with {local.partitions} partitions, the topic has {self.partitions}"
            )
        if local.state_fingerprint != self._fingerprint:
            raise barrier()
        return local

    def _journal(self, task: PartitionTask) -> TopicPartition:
        return TopicPartition(self._journal_topic, task.task)


def barrier() -> ConfigError:
    """State of another plan."""
    return StateBarrierError(
        "streams, keys or features changed since this state was written",
        hint="no replay crosses that: run the changed pipeline under a new name, or take the change back; "
        "if it is `partitions:`, see `streamproc repartition`",
    )
