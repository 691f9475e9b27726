"""Faults fired, by kind, over a run of many seeds: a kind that never fired has tested nothing."""

from __future__ import annotations

__all__ = [
    "IN_STAGES",
    "IN_WORLDS",
    "KINDS",
    "REACHED",
    "RECORDS_MIN",
    "SEEDS_TELLING",
    "TROUBLE",
    "among_stages",
    "missing",
    "small",
    "table",
]

from collections.abc import Mapping

STEPS = tuple(f"crash_at_step_{step}" for step in range(1, 9))
KINDS = (
    "lost_request", "lost_reply", "torn", "undelivered", "delayed", "delayed_into_later", "markers_lag",
    "unstable_offsets", "coordinator_moves", "fenced", "crash_before", "crash_after", *STEPS, "kill", "machine_crash",
    "disk_lost", "crash_at_blob", "pause", "pause_at_step", "cut_off", "forgotten", "stop", "leave", "lost_write",
    "torn_write", "failed_write", "failed_write_stored", "bit_flip_row", "bit_flip_blob", "torn_blob",
    "blob_lost_request", "blob_lost_reply", "blob_slow", "clock_hour_on", "clock_hour_back", "clock_day_on",
)  # fmt: skip
"""Everything that a run of many seeds must have seen."""
RECORDS_MIN = 300
"""Each seed must have so many, and some of each kind of trouble."""
TROUBLE = ("poison", "late records", "repeated records")
REACHED = (
    "records", *TROUBLE,
    "batches ahead", "failed transactions", "evicted keys", "task restored", "checkpoint", "checkpoint installed",
    "local state discarded", "checkpoint passed over: it is damaged", "checkpoints cannot be read",
    "state could not be written, will try again", "no checkpoint was written, will try again",
    "the log does not answer, trying again", "no answer, trying again",
    "no partition is ours: other workers have them all",
)  # fmt: skip
"""What the workers must have done in it: by their logs and metrics."""
IN_WORLDS = (
    "worlds with a deadline", "worlds with a table", "worlds with a call", "worlds with all of these", "late answers",
    "table read", "records of a table are refused: rows of their keys stay as they were",
    "tables changed under decisions", "call answered", "call refused", "call timeout", "call past_deadline",
    "call breaker_open",
)  # fmt: skip
"""And in worlds with more than stages."""
_RARE = {"delayed_into_later", *STEPS}
IN_STAGES = (
    "worlds of 2", "worlds of 3", "worlds of stages apart", "out of step", "rows by the shortcut",
    "crash_at_step among stages",
    *(f"{kind} among stages" for kind in KINDS if kind not in _RARE),
)  # fmt: skip
"""And in worlds of several stages."""
SEEDS_TELLING = 1_000
"""From so many on, every kind must have fired."""
_COLUMNS = 4


def among_stages(kind: str) -> str:
    """What a fault counts as that fired in a world of several stages."""
    return f"{'crash_at_step' if kind in STEPS else kind} among stages"


def small(seen: Mapping[str, int]) -> list[str]:
    """What one seed has too few of: such a seed has shown little."""
    wrong = [f"has no {kind}" for kind in TROUBLE if not seen.get(kind)]
    if (records := seen.get("records", 0)) < RECORDS_MIN:
        wrong.append(f"has {records} records, {RECORDS_MIN} are wanted")
    return wrong


def missing(fired: Mapping[str, int]) -> list[str]:
    """Kinds that never fired, and what no worker ever did."""
    return [kind for kind in (*KINDS, *REACHED, *IN_WORLDS, *IN_STAGES) if not fired.get(kind)]


def table(seeds: int, fired: Mapping[str, int]) -> list[str]:
    """The lines to print."""
    cells = [f"{kind:20} {fired.get(kind, 0):8}" for kind in KINDS]
    rows = ["   ".join(cells[at : at + _COLUMNS]) for at in range(0, len(cells), _COLUMNS)]
    faults = sum(fired.get(kind, 0) for kind in KINDS)
    return [
        f"simulation: {seeds} seeds, {faults} faults",
        *rows,
        *(f"{what}: {fired.get(what, 0)}" for what in (*REACHED, *IN_WORLDS, *IN_STAGES[:4])),
        f"faults among stages: {sum(fired.get(kind, 0) for kind in IN_STAGES[4:])}",
    ]
