"""Faults fired, by kind, over a run of many seeds: a kind that never fired has tested nothing."""

from __future__ import annotations

__all__ = ["KINDS", "SEEDS_TELLING", "missing", "table"]

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
SEEDS_TELLING = 1_000
"""From so many on, every kind must have fired."""
_COLUMNS = 4


def missing(fired: Mapping[str, int]) -> list[str]:
    """Kinds that never fired."""
    return [kind for kind in KINDS if not fired.get(kind)]


def table(seeds: int, fired: Mapping[str, int]) -> list[str]:
    """The lines to print."""
    cells = [f"{kind:20} {fired.get(kind, 0):8}" for kind in (*KINDS, *sorted(set(fired) - set(KINDS)))]
    rows = [cells[at : at + _COLUMNS] for at in range(0, len(cells), _COLUMNS)]
    return [f"simulation: {seeds} seeds, {sum(fired.values())} faults", *("   ".join(row) for row in rows)]
