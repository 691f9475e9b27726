"""What a prediction says: plain data."""

from __future__ import annotations

__all__ = ["KeyState", "Prediction", "StagePrediction", "Work"]

import msgspec


class Work(msgspec.Struct, frozen=True):
    """A part of what an event takes: `us` in full batches, `us_alone` when it comes alone.

    `what`: `feature`, `rule`, `key` (what a key's windows share), `window`, `absence`, `call`, `decode`, `deduplicate`,
    `score`, `encode` ...
    `hops`: how many repartition topics the event has been through before.
    """

    what: str
    name: str
    detail: str
    us: float
    us_alone: float
    hops: int = 0


class KeyState(msgspec.Struct, frozen=True):
    """What is kept of one key in one table: `bytes` in memory, `stored_bytes` on disk, `entries` of history.

    `kept_ms`: how far back history is kept; `ttl_ms`: after that time without an event the key is forgotten, 0: never.
    """

    table: str
    key: str
    kept_ms: int
    entries: int
    entry_bytes: int
    bytes: int
    stored_bytes: int
    ttl_ms: int


class StagePrediction(msgspec.Struct, frozen=True):
    """One stage. `reads`: its topic; `to`: what follows, stages' names or `decisions`. `parallel`: it stands beside
    others, in `branch`.

    `calls`: services that are asked before it, in order; what one takes that is asked before several stages is in the
    sums of the first.
    `also`: streams that enter it, too, and only bring state forward; their events are not in the sums.
    """

    stage: str
    reads: str
    calls: tuple[str, ...]
    also: tuple[str, ...]
    to: str
    partition_by: str
    us: float
    us_alone: float
    work: tuple[Work, ...]
    keys: tuple[KeyState, ...]
    parallel: bool = False
    branch: int = 0


class Prediction(msgspec.Struct, frozen=True):
    """A pipeline. `batch`: rows of a full batch; `rate`: events a key a day; `machine`: where costs were measured.

    `id_bytes`: memory of an id that is remembered, 0 without deduplication.
    """

    pipeline: str
    stream: str
    partitions: int
    hops: int
    us: float
    us_alone: float
    batch: int
    rate: float
    id_bytes: int
    stages: tuple[StagePrediction, ...]
    machine: dict[str, str]
