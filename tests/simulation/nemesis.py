"""What goes wrong around the workers, now and then, until it is told to heal."""

from __future__ import annotations

__all__ = ["Nemesis"]

import asyncio
import contextvars
import errno
import random
from collections.abc import Callable, Sequence
from functools import partial

from state.memory import MemoryDisk
from streamproc.eventlog.simulated import Crash
from tests.simulation.pod import Pod, Run, Shared

HOUR_MS = 3_600_000


class Nemesis:
    """Draws one of the scenario's actions, and a pod for it, again and again."""

    def __init__(self, shared: Shared, pods: Sequence[Pod]) -> None:
        self._shared, self._pods = shared, pods
        self._rng = random.Random(f"nemesis {shared.scenario.seed}")
        self._context = contextvars.copy_context()  # a timer is not the process's that it wakes
        self._healed = False
        self._blob_crash_in = -1
        shared.blobs.before = self._before_blob

    async def haunt(self) -> None:
        """Until it is cancelled."""
        scenario = self._shared.scenario
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / scenario.pause_s))
            action: Callable[[], None] = getattr(self, f"_{self._rng.choice(scenario.actions)}")
            action()

    def heal(self) -> None:
        """From now on all is well; what is gone stays gone."""
        self._healed = True
        self._blob_crash_in = -1
        self._shared.cluster.faults.heal()
        self._shared.blobs.heal()
        self._shared.blob_slow_s = 0.0
        for pod in self._pods:
            pod.crash_at = None
            pod.disk.heal()
            if (run := pod.run) is not None:
                run.at_step = None
                run.log.heal()
                run.resume()

    # ---- processes

    def _run(self) -> Run | None:
        return self._rng.choice(self._pods).run

    def _kill(self) -> None:
        if (run := self._run()) is not None:
            self._fired("kill")
            run.kill()

    def _crash_at_step(self) -> None:
        place = (self._rng.randrange(1, 9), self._rng.randrange(1, 6))
        self._rng.choice(self._pods).crash_at = place
        if (run := self._run()) is not None:
            run.crash_at(place[0], run.seen(place[0]) + place[1])

    def _crash_at_blob(self) -> None:
        self._blob_crash_in = self._rng.randrange(12)

    def _before_blob(self, verb: str, name: str) -> None:
        if self._blob_crash_in < 0:
            return
        self._blob_crash_in -= 1
        if self._blob_crash_in < 0 and (run := self._shared.running()) is not None:
            self._fired("crash_at_blob")
            run.kill()
            raise Crash

    def _pause(self) -> None:
        if (run := self._run()) is not None:
            self._for_a_while("pause", run, Run.pause, Run.resume)

    def _pause_at_step(self) -> None:
        """Most often in the middle of a transaction, whose worker comes back when another has its partitions."""
        if (run := self._run()) is not None:
            step = self._rng.choice((4, 5, 5, 6, 7, 8))
            run.at_step = (step, run.seen(step) + 1, partial(self._pause_here, run))

    def _pause_here(self, run: Run) -> None:
        self._for_a_while("pause_at_step", run, Run.pause, Run.resume)

    def _cut_off(self) -> None:
        if (run := self._run()) is not None:
            self._for_a_while("cut_off", run, lambda run: run.log.cut_off(), lambda run: run.log.heal())

    def _forgotten(self) -> None:
        """The group takes a worker for dead."""
        if (run := self._run()) is not None and run.log.forget():
            self._fired("forgotten")

    def _for_a_while(self, name: str, run: Run, begin: Callable[[Run], None], end: Callable[[Run], None]) -> None:
        if run.process.paused or run.log.is_cut_off or self._healed:
            return
        self._fired(name)
        begin(run)
        session_s = self._shared.scenario.timeouts.session_s
        seconds = self._rng.choice((0.2, session_s + 0.5, 2 * session_s + 3)) * self._rng.uniform(0.5, 1.5)
        self._shared.loop.call_later(seconds, end, run, context=self._context)

    def _stop(self) -> None:
        if (run := self._run()) is not None:
            self._fired("leave" if self._shared.scenario.settings["leave"] else "stop")
            run.worker.stop()

    _leave = _stop

    # ---- machines

    def _machine_crash(self, *, tear: bool = False) -> None:
        disk = self._rng.choice(self._pods).disk
        self._fired("machine_crash")
        for pod in self._pods:
            if pod.disk is disk and (run := pod.run) is not None:
                run.kill()
        disk.crash(tear=tear)

    def _machine_crash_torn(self) -> None:
        self._machine_crash(tear=True)

    def _disk_lost(self) -> None:
        lost = self._rng.choice(self._pods).disk
        self._fired("disk_lost")
        new = MemoryDisk(self._shared.rng)
        new.fired = lost.fired
        for pod in self._pods:
            if pod.disk is lost:
                if (run := pod.run) is not None:
                    run.kill()
                pod.disk = new

    def _flip_row(self) -> None:
        disk = self._rng.choice(self._pods).disk
        for volume in self._shared.volumes():
            if self._rng.random() < 0.7:
                disk.flip_bit(volume)

    def _write_fails(self) -> None:
        code = self._rng.choice((errno.ENOSPC, errno.EIO))
        for _ in range(self._rng.randint(1, 3)):
            error = OSError(code, "simulated")
            self._rng.choice(self._pods).disk.fail_write(error, stored=self._rng.random() < 0.5)

    def _clock_hour_on(self) -> None:
        self._jump("clock_hour_on", HOUR_MS)

    def _clock_hour_back(self) -> None:
        self._jump("clock_hour_back", -HOUR_MS)

    def _clock_day_on(self) -> None:
        self._jump("clock_day_on", 24 * HOUR_MS)

    def _jump(self, name: str, by_ms: int) -> None:
        self._fired(name)
        self._rng.choice(self._pods).clock.jumped_ms += by_ms

    # ---- the blob store

    def _flip_blob(self) -> None:
        if names := self._whole_blobs():
            self._shared.blobs.flip_bit(self._rng.choice(names))

    def _tear_blob(self) -> None:
        if names := self._whole_blobs():
            self._shared.blobs.truncate(self._rng.choice(names))

    def _whole_blobs(self) -> list[str]:
        """Of one that was cut to nothing nothing is left to damage."""
        return sorted(name for name, (content, _) in self._shared.blobs.blobs.items() if content)

    def _blob_fails(self) -> None:
        for verb in self._rng.sample(("put", "create", "get", "list", "delete"), self._rng.randint(1, 3)):
            self._shared.blobs.fail(verb, happened=self._rng.random() < 0.5)

    def _blob_slow(self) -> None:
        self._fired("blob_slow")
        self._shared.blob_slow_s = self._rng.choice((0.0, 0.5, 3.0))

    def _fired(self, kind: str) -> None:
        self._shared.fired[kind] += 1
