"""Two workers of one pod, and a task that moves from one to the other while its checkpoint is being sent."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from operators.plan import Plan
from state.checkpoint import Checkpoints
from state.objectstore import open_blobs
from streamproc.cli.compose import RunOptions, _checkpointer
from streamproc.clock import SystemClock
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import Phase
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stored_state import LocalMeta

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
pytestmark = pytest.mark.blocking


class States:
    """A store's snapshot is one file; `between` happens before the snapshot is sent."""

    def __init__(self, sequence: int, between: Any = None) -> None:
        self.sequence, self.between = sequence, between

    async def snapshot(self, task: int, directory: Path) -> bytes:
        directory.mkdir()
        (directory / "table").write_bytes(b"%d" % self.sequence)
        if self.between is not None:
            await self.between
        return LocalMeta(self.sequence, b"c" * 32, 0, 0, "", 4).encode()


@pytest.mark.parametrize("same", ["worker", "pod"])
def test_a_checkpoint_that_is_being_sent_is_left_alone(tmp_path: Path, same: str) -> None:
    plan: Plan = compile_pipeline(load_pipeline(PIPELINE))
    options = RunOptions("file:log", tmp_path / "state", checkpoints=f"file:{tmp_path / 'blobs'}")
    task: Any = type("Task", (), {"task": 3, "phase": Phase.RUNNING})

    async def run() -> dict[int, bytes]:
        async with AsyncExitStack() as stack:

            async def taken(sequence: int, index: int, between: Any = None) -> None:
                states: Any = States(sequence, between)
                made = await _checkpointer(
                    plan, options, WorkerSettings(index=index), states, stack,
                    clock=SystemClock(), metrics=WorkerMetrics(),
                )  # fmt: skip
                assert made is not None
                await made.take(task)

            if same == "pod":
                await taken(7, 0, taken(9, 1))
            else:
                await taken(7, 0)
                await taken(9, 0)
        checkpoints = Checkpoints(open_blobs(options.checkpoints or ""), plan.pipeline)
        found = {}
        for manifest in checkpoints.checkpoints(3).found:
            checkpoints.restore(manifest, tmp_path / manifest.name)
            found[manifest.cut.sequence] = (tmp_path / manifest.name / "db" / "table").read_bytes()
        return found

    assert asyncio.run(run()) == {7: b"7", 9: b"9"}
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_file()], "a snapshot is left behind"
