"""A key whose rows come a whole ttl late expires between any two of them: that costs passes, and no results."""

from __future__ import annotations

import random

import numpy as np
import pytest

from operators.windows import operator as windows
from operators.windows.lives import lives
from tests.operators.windows.harness import Row, compare, feature, previous, run, spec_of

TTL = 2_000
SPEC = spec_of(
    feature("count", None, 900),
    feature("sum", "amount", 300),
    feature("max", "amount", 900),
    feature("distinct", "shop", 900),
    previous=(previous("amount"),),
    ttl_ms=TTL,
    late_ms=0,
)


def rows(seed: int, size: int, late: float) -> list[Row]:
    """One key leads; another one is most often a whole ttl behind, and lives on now and then."""
    rng = random.Random(seed)
    time, found = 1_000_000, list[Row]()
    for _ in range(size):
        time += rng.choice((0, 1, 10, 200))
        ahead = rng.random() < 0.3
        back = 0 if ahead else rng.choice((0, 5, 100)) + (TTL if rng.random() < late else 0)
        key = "ahead" if ahead else rng.choice(("hot", "hot", "other"))
        amount = rng.randrange(1_000)
        found.append({"task": 0, "key": key, "time": time - back, "amount": amount, "shop": f"s{amount % 3}"})
    return found


@pytest.mark.parametrize("late", [0.1, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_cut_equals_the_oracle(seed: int, late: float) -> None:
    compare(SPEC, rows(seed, 150, late), (1, 7, 150))
    compare(SPEC, rows(seed, 60, late), (9,), undo=True)


def test_the_passes_of_a_batch_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, compute = list[int](), windows._compute

    def counted(*given: object, **more: object) -> None:
        passes.append(1)
        compute(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(windows, "_compute", counted)
    run(SPEC, rows(1, 200, 1.0), 200)
    assert len(passes) == 3


@pytest.mark.parametrize("seed", range(50))
def test_lives_are_those_of_one_row_after_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, ttl = int(rng.integers(1, 40)), 10
    slots, times = rng.integers(0, 3, size), rng.integers(0, 60, size)
    stream = np.maximum.accumulate(times)
    before = rng.integers(-40, 30, 3)
    stream = np.maximum(stream, before.max())
    seen = {slot: (0, int(newest)) for slot, newest in enumerate(before.tolist())}
    wanted, met = list[int](), set[int]()
    for slot, time, now in zip(slots.tolist(), times.tolist(), stream.tolist(), strict=True):
        number, newest = seen[slot]
        if now - newest >= ttl:
            number, newest = number + (slot in met), time
        met.add(slot)
        wanted.append(number)
        seen[slot] = number, max(newest, time)
    found = lives(slots, times, stream, before[slots], ttl_ms=ttl)
    if found is None:
        assert not any(wanted)
        return
    most = {slot: number for slot, (number, _) in seen.items()}
    kinds = [0 if n == 0 else 1 if n == most[s] else 2 for s, n in zip(slots.tolist(), wanted, strict=True)]
    got = dict.fromkeys(found.first.tolist(), 0) | dict.fromkeys(found.last.tolist(), 1)
    got |= dict.fromkeys(found.between.tolist(), 2)
    assert [got[i] for i in range(size)] == kinds
    of = {
        (slots[i], wanted[i]): number for i, number in zip(found.between.tolist(), found.number.tolist(), strict=True)
    }
    assert len(set(of.values())) == len(of) == len(set(found.number.tolist()))
