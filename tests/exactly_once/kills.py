"""Kills to be: where each falls, drawn from a seed."""

from __future__ import annotations

__all__ = ["POINTS", "POINTS_BESIDE", "Kill", "Kind", "plan_kills"]

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """When a kill falls: while it starts, at a random time of its work, or at a point of it."""

    STARTING = "starting"
    RANDOM = "random"
    PLACED = "placed"


@dataclass(frozen=True)
class Kill:
    """One kill: `place` as the victim reads it, `wait` in parts of the time that a start takes; `alone`: one worker of
    several instead of the group; `bare`: the start before it finds no local state. `name`: what the report calls it.
    """

    kind: Kind
    wait: float = 0.0
    place: str = ""
    alone: bool = False
    bare: bool = False
    name: str = ""


POINTS: dict[str, Sequence[str]] = {
    "K1 poll": ("1:{later}:0",),
    "K2 state mutated": ("4:{later}:0",),
    "K3 mid-produce": ("produced:{later}:0", "5:{later}:0"),
    "K4 offsets sent": ("6:{later}:0",),
    "K5 end sent, no reply": ("ending:{later}:0", "7:{later}:0.4", "7:{later}:1", "7:{later}:2.5"),
    "K6 committed, state not written": ("flushing:{soon}:0", "8:{later}:0"),
    "K7 mid-checkpoint": ("checkpointing:{soon}:0",),
    "K8 mid-restore": ("installing:{soon}:0", "restoring:{early}:0"),
}
"""Places of the numbered points (hooks.py, transaction.py); `later`, `soon`, `early`: how many times it passes there.
A worker with two tasks and nothing to replay passes `restoring` twice.
"""
POINTS_BESIDE: dict[str, Sequence[str]] = {
    **POINTS,
    "K8 mid-restore": ("installing:1:0", "restoring:{early}:0"),
    "K9 parts held, nothing encoded": ("gathering:{later}:0", "holding:{soon}:0"),
}
"""With stages side by side. Where several workers make the parts of rows, some wait for others."""


def plan_kills(
    rng: random.Random, count: int = 20, *, alone: bool = False, points: Mapping[str, Sequence[str]] = POINTS
) -> list[Kill]:
    """Two of three at the `points` in turn, two at a start, the rest at random times; in random order. `alone`: every
    other one takes one worker only. A campaign of these needs checkpoints; at first there may be none.
    """
    placed: list[Kill] = []
    for i in range(max(len(points), 2 * count // 3)):
        turn, (name, places) = i // len(points), list(points.items())[i % len(points)]
        place = places[(turn + rng.randrange(2)) % len(places)]
        text = place.format(later=rng.randrange(2, 40), soon=rng.randrange(1, 5), early=rng.randrange(1, 3))
        placed.append(Kill(Kind.PLACED, place=text, bare=place.startswith("installing"), name=name))
    starting = [Kill(Kind.STARTING, wait=rng.uniform(0.2, 1.0), name="start") for _ in range(max(1, count // 10))]
    rest = range(max(1, count - len(placed) - len(starting)))
    kills = placed + starting + [Kill(Kind.RANDOM, wait=rng.uniform(0.0, 0.6), name="random") for _ in rest]
    rng.shuffle(kills)
    first = next(i for i, kill in enumerate(kills) if not kill.bare)
    kills[0], kills[first] = kills[first], kills[0]
    return [replace(kill, alone=alone and i % 2 == 0 and not kill.bare) for i, kill in enumerate(kills)]
