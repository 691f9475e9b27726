"""Units of work and what each costs: the table that the benchmarks make and the package ships."""

from __future__ import annotations

__all__ = ["Cost", "Costs", "Units", "shipped_costs"]

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

Units = Counter[str]
"""Name of a unit -> how many of it a batch takes."""


class Cost(NamedTuple):
    """Microseconds of processor time: `call` once a batch, `row` for each of its rows."""

    call: float = 0.0
    row: float = 0.0

    def at(self, batch: int) -> float:
        """Microseconds a row in batches of `batch` rows."""
        return self.call / batch + self.row

    def plus(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return Cost(self.call + other.call, self.row + other.row)

    def times(self, number: float) -> Cost:
        """So many of it."""
        return Cost(self.call * number, self.row * number)


class Costs(msgspec.Struct, frozen=True):
    """Measured units by name, and the `machine` they are of.

    A name of several parts (`kernel:eq:string`) that was not measured costs what the part before its last colon does.
    """

    machine: dict[str, str]
    units: dict[str, Cost]

    def of(self, units: Mapping[str, float]) -> Cost:
        """What so many units come to."""
        total = Cost()
        for name, number in units.items():
            total = total.plus(self._unit(name).times(number))
        return total

    def _unit(self, name: str) -> Cost:
        while name not in self.units:
            name, colon, _ = name.rpartition(":")
            assert colon, "every first part of a name is measured"
        return self.units[name]


@cache
def shipped_costs() -> Costs:
    """The table that comes with the package."""
    return msgspec.json.decode(Path(__file__).with_name("costs.json").read_bytes(), type=Costs)
